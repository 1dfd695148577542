"""A rolling update: who is redeployed next, what it waits for, and when it stops. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from remediator.model import Run

Status = Literal["running", "paused", "stopped", "cancelled", "completed"]


@dataclass(frozen=True, slots=True)
class Rollout:
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
    rollout_id: str
    bot: str
    position: int
    run_id: str | None
    skipped: str


@dataclass(frozen=True, slots=True)
class Place:
    """A member as it is now."""

    member: Member
    run: Run | None = None  # its redeploy
    gone: str = ""  # why it can have none any more
    held: str = ""  # what keeps it from being begun now
    ill: bool = False

    @property
    def state(self) -> Literal["waiting", "running", "done", "failed", "skipped"]:
        if self.run is not None and self.run.finished_at is None:
            return "running"
        if self.run is not None:
            return "done" if self.run.status == "deployed" else "failed"
        return "skipped" if self.member.skipped else "waiting"


@dataclass(frozen=True, slots=True)
class Begin:
    """Redeploy these, and leave those out for good (bot → why)."""

    bots: Sequence[str] = ()
    skip: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    why: str


@dataclass(frozen=True, slots=True)
class End:
    status: Literal["completed", "stopped"]
    why: str


Move = Begin | Wait | End


def next_move(rollout: Rollout, places: Sequence[Place], *, storm: bool) -> Move:
    """`places` in the order of the rollout. A batch begins when the one before has ended and all is well."""
    for place in places:
        if place.state == "failed" and place.run is not None:
            return End("stopped", f"{place.member.bot} failed: {place.run.reason}")
        if place.state == "done" and place.ill:
            return End("stopped", f"{place.member.bot} was redeployed and is ill")
    ill = [place.member.bot for place in places if place.ill and place.state != "running"]
    if len(ill) > rollout.max_unavailable:
        return End("stopped", f"{', '.join(ill)} ill, where {rollout.max_unavailable} may be")
    waiting = [place for place in places if place.state == "waiting"]
    running = [place.member.bot for place in places if place.state == "running"]
    gone = {place.member.bot: place.gone for place in waiting if place.gone}
    if gone:
        return Begin(skip=gone)
    if not waiting and not running:
        done = sum(place.state == "done" for place in places)
        return End("completed", f"{done} of {len(places)} bots redeployed")
    if storm:
        return Wait("held: a storm is on")
    batch = _batch(rollout, running, waiting, places)
    ready = [place.member.bot for place in batch if not place.held]
    if ready:
        return Begin(bots=ready, why=f"{', '.join([*running, *ready])} under way")
    if running:
        return Wait(f"{', '.join(running)} under way")
    return Wait(f"held: {batch[0].member.bot}: {batch[0].held}")


def _batch(
    rollout: Rollout, running: Sequence[str], waiting: Sequence[Place], places: Sequence[Place]
) -> list[Place]:
    """Those of the present batch that wait: the batch of the first bot that has not ended."""
    present = next(place for place in places if place.state in ("running", "waiting"))
    number = present.member.position // rollout.batch_size
    return [place for place in waiting if place.member.position // rollout.batch_size == number]
