"""Should a group of bots be larger or smaller by one? Pure: the group, its past and now in; a move out.

A group is a template's bots in an environment. Its capacity is the lesser of two shares: of healthy bots
among those that people have declared (one that scaling added stands in for one that is ill), and of what the
work leaves free. Below target it grows, after a while; it shrinks after a longer calm, and only if it would
still be above target without one bot, by a margin. So growing never makes a reason to shrink.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

MARGIN: Final = 0.05  # of capacity, above target, that must be left after shrinking

Direction = Literal["", "out", "in"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Delays in seconds: for how long a group is short before it grows, has too much before it shrinks."""

    min: int
    max: int
    target: float
    scale_out_delay: float
    scale_in_delay: float


@dataclass(frozen=True, slots=True)
class Group:
    """A group now. `load`: what work takes of a healthy bot, on average (0 to 1); None: unknown."""

    bots: int
    healthy: int
    added: int  # of the bots, by scaling: only those are ever taken away
    load: float | None
    storm: bool = False
    busy: bool = False  # a bot of it is being deployed or taken away

    @property
    def capacity(self) -> float:
        """Return a share, from 0 to 1."""
        return self._capacity_with(self.healthy)

    @property
    def capacity_with_one_less(self) -> float:
        """Return the share, from 0 to 1, if one healthy bot fewer did the same work."""
        return self._capacity_with(self.healthy - 1)

    def _capacity_with(self, healthy: int) -> float:
        declared = max(1, self.bots - self.added)
        if healthy <= 0:
            return 0.0
        share = min(1.0, healthy / declared)
        if self.load is None:
            return share
        return min(share, max(0.0, 1 - self.load * self.healthy / healthy))


@dataclass(frozen=True, slots=True)
class Past:
    """Unix seconds; None: it is not so. `moved`: the direction of the last move."""

    short_since: float | None = None
    calm_since: float | None = None
    moved_at: float | None = None
    moved: Direction = ""


@dataclass(frozen=True, slots=True)
class Move:
    """What to do, and why; also why nothing."""

    direction: Direction
    reason: str


def decide(policy: Policy, group: Group, past: Past, now: float) -> tuple[Past, Move]:
    """Return the past as it is from now on, and the move. After a move that is made, the past is `moved`."""
    reason = _reason_to_wait(group)
    if reason:  # what one bot more or less has come to shows only once it is there, or gone
        return replace(past, short_since=None, calm_since=None), Move("", reason)
    short = group.bots < policy.min or (group.bots < policy.max and group.capacity < policy.target)
    calm = group.added > 0 and (
        group.bots > policy.max
        or (
            group.bots > policy.min
            and group.healthy == group.bots
            and group.capacity_with_one_less >= policy.target + MARGIN
        )
    )
    past = replace(
        past,
        short_since=(now if past.short_since is None else past.short_since) if short else None,
        calm_since=(now if past.calm_since is None else past.calm_since) if calm else None,
    )
    return past, _move(policy, group, past, now)


def _reason_to_wait(group: Group) -> str:
    if group.storm:
        return "a storm is on"
    if group.busy:
        return "a bot of it is being deployed or taken away"
    return "nobody has deployed a bot of it" if group.bots <= group.added else ""


def moved(past: Past, direction: Direction, now: float) -> Past:
    """Return the past after a move, which begins both clocks anew."""
    return Past(None, None, now, direction) if direction else past


def _move(policy: Policy, group: Group, past: Past, now: float) -> Move:
    capacity = f"capacity {group.capacity:.0%} of {group.bots} bots, target {policy.target:.0%}"
    if past.short_since is not None:
        seconds = max(past.short_since + policy.scale_out_delay, _earliest(policy, past, "out")) - now
        if seconds > 0:
            return Move("", f"{capacity}: short; it grows in {seconds:.0f} s if it stays so")
        return Move("out", f"{capacity}, for {now - past.short_since:.0f} s")
    if past.calm_since is not None:
        seconds = max(past.calm_since + policy.scale_in_delay, _earliest(policy, past, "in")) - now
        if seconds > 0:
            return Move("", f"{capacity}: more than enough; it shrinks in {seconds:.0f} s if it stays so")
        return Move("in", f"{capacity}, {group.capacity_with_one_less:.0%} with one less")
    return Move("", capacity)


def _earliest(policy: Policy, past: Past, direction: Direction) -> float:
    """Return when the next move may be, in Unix seconds: the other way only after a calm."""
    if past.moved_at is None:
        return float("-inf")
    return past.moved_at + (policy.scale_out_delay if past.moved == direction else policy.scale_in_delay)
