"""Whether a run of a bot may begin: of one there is, not beside another run, and while it is in service."""

from remediator.errors import Refused
from remediator.model import Bot, Run
from remediator.store.transaction import Transaction


async def bot_named(tx: Transaction, name: str, field: str = "bot") -> Bot:
    """Return the bot; raise Refused (unknown) where there is none."""
    bot = await tx.bot(name)
    if bot is None:
        raise Refused("unknown", f"there is no {name[:80]!r}", field=field, remedy="GET /sd lists the bots")
    return bot


async def free_bot(tx: Transaction, name: str, actor: str, field: str = "bot") -> Bot:
    """Return the bot, for a run that the actor asks for; a recovery of it that only waits is ended.

    Raise Refused: unknown where there is none, conflict where a run is at work on it.
    """
    bot = await bot_named(tx, name, field)
    await take_over(tx, bot, actor, field)
    return bot


async def require_idle(tx: Transaction, bot: Bot, field: str = "bot") -> None:
    """Raise Refused (conflict) where a run has the bot in hand."""
    run = await tx.active_run(bot.name)
    if run is not None:
        raise _busy(run, field)


async def require_untouched(tx: Transaction, bot: Bot, field: str = "bot") -> None:
    """Raise Refused (conflict) where a run is at work on the bot; one that waits at a gate is not."""
    run = await tx.active_run(bot.name)
    if run is not None and not _waits(run):
        raise _busy(run, field)


async def take_over(tx: Transaction, bot: Bot, actor: str, field: str = "bot") -> None:
    """End a recovery of the bot that waits at a gate, for what the actor asks instead.

    Raise Refused (conflict) where a run is at work on the bot. Waiting is not acting: it keeps nobody out.
    """
    run = await tx.active_run(bot.name)
    if run is not None and _waits(run):
        reason = f"{actor} took the bot over while it waited ({run.reason})"
        if await tx.end_waiting(run.id, "cancelled", reason):
            await tx.audit("run.cancelled", bot=bot.name, run_id=run.id, actor=actor, why=reason)
            return
    await require_idle(tx, bot, field)


def _waits(run: Run) -> bool:
    return run.kind == "recover" and run.status == "blocked"


def _busy(run: Run, field: str) -> Refused:
    remedy = f"GET {run.path} shows it; ask again when it has ended"
    if run.kind == "recover":
        remedy += f", or end it at its next step: POST {run.path}/cancel"
    reason = f"{run.bot!r} is in the hands of {run.id} ({run.status}: {run.reason})"
    return Refused("conflict", reason, field=field, remedy=remedy)


def require_active(bot: Bot) -> None:
    """Raise Refused (conflict) where the bot is being deployed, or retires."""
    if bot.state != "active":
        remedy = "ask again when it has been deployed"
        raise Refused("conflict", f"{bot.name!r} is {bot.state}", field="bot", remedy=remedy)
