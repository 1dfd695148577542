"""A recovery that a person asks for, and the answer to one that asks."""

from typing import Literal

from remediator.errors import Refused
from remediator.model import Approval, Run, Tier
from remediator.store.errors import ConflictError
from remediator.store.transaction import Transaction


async def begin(tx: Transaction, bot: str, tier: Tier, actor: str) -> Run:
    """Write down the run that recovers the bot, beginning with the tier.

    The bot is idle; drive the run once the transaction is kept. Raise Refused (conflict) where another run
    of it has begun meanwhile.
    """
    run = Run.begin("recover", bot=bot, method=tier, reason=f"{tier} was asked for", at=tx.now)
    try:
        stored = await tx.add_run(run)
    except ConflictError:
        raise Refused("conflict", f"a run of {bot!r} has just begun", field="botId") from None
    await tx.audit("recover.asked", bot=bot, run_id=run.id, actor=actor, method=tier)
    return stored


async def decide(tx: Transaction, run_id: str, decision: Literal["yes", "no"], actor: str) -> Approval | None:
    """Answer the tier that waits for it; None where the run waits for no answer. Wake the run afterwards."""
    approval = await tx.decide_approval(run_id, decision, actor)
    if approval is not None:
        run = await tx.run(run_id)
        bot = run.bot if run is not None else ""
        await tx.audit(f"approval.{decision}", bot=bot, run_id=run_id, actor=actor, tier=approval.tier)
    return approval
