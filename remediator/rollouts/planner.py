"""The decisions of a rolling update: which bots it redeploys next, what it waits for, when it stops. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from remediator.model import Run

Status = Literal["running", "paused", "stopped", "cancelled", "completed"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A row of its table, whose columns have these names."""

    id: str
    status: Status
    why: str  # what it is at, what holds it, or how it came to its status
    reason: str  # why it was asked for
    actor: str
    selection: Mapping[str, Any]
    batch_size: int
    max_unavailable: int
    created_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Member:
    """A row of its table: a bot of a rollout."""

    rollout_id: str
    bot: str
    position: int
    run_id: str | None
    skipped: str  # why it is left out for good; empty: it is not


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member as it is now."""

    member: Member
    run: Run | None = None  # its redeploy
    excluded: str = ""  # why it can have none any more
    blocked: str = ""  # what keeps it from being begun now
    ill: bool = False

    @property
    def status(self) -> Literal["waiting", "running", "done", "failed", "skipped"]:
        """Return how far its redeploy is."""
        if self.run is not None and self.run.finished_at is None:
            return "running"
        if self.run is not None:
            return "done" if self.run.status == "deployed" else "failed"
        return "skipped" if self.member.skipped else "waiting"


@dataclass(frozen=True, slots=True)
class Begin:
    """Redeploy these, and leave those out for good (bot → reason)."""

    bots: Sequence[str] = ()
    skip: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing yet."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """Give the rollout its last status."""

    status: Literal["completed", "stopped"]
    reason: str


Move = Begin | Wait | End


def next_move(rollout: Rollout, states: Sequence[MemberState], *, storm: bool) -> Move:
    """Return what the rollout does next; `states` are in its order.

    A batch begins when the one before has ended and all is well.
    """
    for state in states:
        if state.status == "failed" and state.run is not None:
            return End("stopped", f"{state.member.bot} failed: {state.run.reason}")
        if state.status == "done" and state.ill:
            return End("stopped", f"{state.member.bot} was redeployed and is ill")
    ill = [state.member.bot for state in states if state.ill and state.status != "running"]
    if len(ill) > rollout.max_unavailable:
        return End("stopped", f"{', '.join(ill)} ill, where {rollout.max_unavailable} may be")
    waiting = [state for state in states if state.status == "waiting"]
    running = [state.member.bot for state in states if state.status == "running"]
    excluded = {state.member.bot: state.excluded for state in waiting if state.excluded}
    if excluded:
        return Begin(skip=excluded)
    if not waiting and not running:
        done = sum(state.status == "done" for state in states)
        return End("completed", f"{done} of {len(states)} bots redeployed")
    if storm:
        return Wait("held: a storm is on")
    batch = _batch(rollout, waiting, states)
    ready = [state.member.bot for state in batch if not state.blocked]
    if ready:
        return Begin(bots=ready, reason=f"{', '.join([*running, *ready])} under way")
    if running:
        return Wait(f"{', '.join(running)} under way")
    return Wait(f"held: {batch[0].member.bot}: {batch[0].blocked}")


def _batch(
    rollout: Rollout, waiting: Sequence[MemberState], states: Sequence[MemberState]
) -> list[MemberState]:
    """Return those that wait of the present batch, which is the batch of the first bot that has not ended."""
    first = next(state for state in states if state.status in ("running", "waiting"))
    number = first.member.position // rollout.batch_size
    return [state for state in waiting if state.member.position // rollout.batch_size == number]
