"""What people ask of rolling updates: to begin one, to pause it, to go on, to cancel it.

Each is an intent in a transaction; the controller acts on it at its next move.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from remediator.errors import Refused
from remediator.rollouts.planner import Rollout, Status
from remediator.rollouts.repository import RolloutRepository
from remediator.store.transaction import Transaction

Wanted = Literal["paused", "running", "cancelled"]

CHANGES: Final[Mapping[Wanted, tuple[Status, ...]]] = {
    "paused": ("running",),
    "running": ("paused", "stopped"),
    "cancelled": ("running", "paused", "stopped"),
}
"""Status that may be asked for → those from which it may."""


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """A rolling update to be begun. `selection`: its bots, template and environment, those that are given."""

    selection: Mapping[str, Any]
    batch_size: int
    max_unavailable: int
    reason: str


async def begin(tx: Transaction, spec: RolloutSpec, actor: str) -> Rollout:
    """Write down the rollout and its members, in the order in which they are to be redeployed.

    Raise Refused where no bot is meant, or one is in another rollout.
    """
    bots = await _selected(tx, spec.selection)
    await _require_free(tx, bots)
    rollout = Rollout(
        id="rol-" + secrets.token_hex(8),
        status="running",
        why="about to begin",
        reason=spec.reason,
        actor=actor,
        selection=spec.selection,
        batch_size=spec.batch_size,
        max_unavailable=spec.max_unavailable,
        created_at=tx.now,
        finished_at=None,
    )
    await RolloutRepository(tx).add(rollout, bots)
    await tx.audit("rollout.asked", actor=actor, rollout=rollout.id, reason=spec.reason, bots=bots)
    return rollout


async def _selected(tx: Transaction, selection: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of the bots that are meant, in their order; raise Refused (invalid) where none is."""
    named: Sequence[str] | None = selection.get("bots")
    active = {bot.name: bot for bot in await tx.bots() if bot.state == "active"}
    remedy = "GET /sd lists the bots"
    unknown = [name for name in named or [] if name not in active]
    if unknown:
        raise Refused("invalid", f"there is no {unknown[0][:80]!r}", field="bots", remedy=remedy)
    selected = [
        name
        for name, bot in active.items()
        if (named is None or name in named)
        and selection.get("template") in (None, bot.template)
        and selection.get("environment") in (None, bot.environment)
    ]
    if not selected:
        raise Refused("invalid", "no bot is meant", field="bots", remedy=remedy)
    return list(named) if named is not None and set(named) == set(selected) else selected


async def _require_free(tx: Transaction, bots: Sequence[str]) -> None:
    """Raise Refused (conflict) where one of the bots is in a rollout that has not ended."""
    repository = RolloutRepository(tx)
    for other in await repository.with_status("running", "paused"):
        shared = {member.bot for member in await repository.members(other.id)} & set(bots)
        if shared:
            remedy = f"wait for its end, or POST /rollouts/{other.id}/cancel"
            message = f"{min(shared)!r} is in {other.id} ({other.status})"
            raise Refused("conflict", message, field="bots", remedy=remedy)


async def change_status(tx: Transaction, rollout: Rollout, status: Wanted, actor: str, reason: str) -> None:
    """Bring the rollout to that status; one that goes on tries those again that failed.

    Raise Refused (conflict) where it has a status from which it cannot.
    """
    allowed = CHANGES[status]
    if rollout.status not in allowed:
        message = f"{rollout.id} is {rollout.status}, not {' or '.join(allowed)}"
        raise Refused("conflict", message, field="rolloutId")
    repository, word = RolloutRepository(tx), "resumed" if status == "running" else status
    why = f"{word} by {actor}" + (f": {reason}" if reason else "")
    finished_at = tx.now if status == "cancelled" else None
    await repository.change(rollout.id, status=status, why=why, finished_at=finished_at)
    if status == "running":
        for state in await repository.member_states(rollout):
            if state.status == "failed":
                await repository.change_member(state.member, run_id=None)
    await tx.audit(f"rollout.{word}", actor=actor, rollout=rollout.id, reason=reason)
