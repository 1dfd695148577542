"""Restart, reboot, redeploy, a person: given what was tried, the next move. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remediator.model import StepState, Tier

TIERS: Final[tuple[Tier, ...]] = ("restart", "reboot", "redeploy")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A tier tried in this run. `intended`: begun, and we cannot yet say whether it was done."""

    tier: Tier
    state: StepState
    acted_at: float | None = None
    why: str = ""
    denied: bool = False  # we are not allowed to, or asked wrongly: a harder tier would be as well


@dataclass(frozen=True, slots=True)
class Try:
    """Ask the gates, then act."""

    tier: Tier


@dataclass(frozen=True, slots=True)
class Settle:
    """The tier was begun before a crash: find out what came of it, never guess."""

    tier: Tier


@dataclass(frozen=True, slots=True)
class Verify:
    tier: Tier
    deadline: float


@dataclass(frozen=True, slots=True)
class Finish:
    outcome: Literal["recovered", "escalated"]
    why: str


Move = Try | Settle | Verify | Finish


def next_move(attempts: Sequence[Attempt], first: Tier, timeouts: Mapping[Tier, float]) -> Move:
    """`attempts` in the order they were made; `timeouts` in seconds from a tier's action to its cure."""
    if not attempts:
        return Try(first)
    last = attempts[-1]
    if last.state == "intended":
        return Settle(last.tier)
    if last.state == "acted":
        return Verify(last.tier, (last.acted_at or 0) + timeouts[last.tier])
    if last.state == "cured":
        return Finish("recovered", f"{last.tier} cured it")
    if last.denied:
        return Finish("escalated", f"{last.tier}: {last.why}")
    harder = TIERS[TIERS.index(last.tier) + 1 :]
    if harder:
        return Try(harder[0])
    return Finish("escalated", "; ".join(f"{attempt.tier}: {attempt.why}" for attempt in attempts))
