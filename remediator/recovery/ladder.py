"""Restart, reboot, redeploy, a person: given the attempts so far, the next move. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from remediator.model import TIERS, Run, Step, StepState, Tier
from remediator.settings import Settings


@dataclass(frozen=True, slots=True)
class Attempt:
    """A tier tried in this run. `intended`: begun, and we cannot yet say whether it was done."""

    tier: Tier
    state: StepState
    acted_at: float | None = None
    detail: str = ""
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
    """Probe the bot until it is well for good, or the deadline (Unix time) has passed."""

    tier: Tier
    deadline: float


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to try, or to do."""

    outcome: Literal["recovered", "escalated"]
    reason: str


Move = Try | Settle | Verify | Finish


def next_move(attempts: Sequence[Attempt], first: Tier, timeouts: Mapping[Tier, float]) -> Move:
    """Return what comes after `attempts`, in the order they were made.

    `timeouts`: seconds from a tier's action to its cure.
    """
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
        return Finish("escalated", f"{last.tier}: {last.detail}")
    harder = TIERS[TIERS.index(last.tier) + 1 :]
    if harder:
        return Try(harder[0])
    return Finish("escalated", "; ".join(f"{attempt.tier}: {attempt.detail}" for attempt in attempts))


def first_tier(run: Run) -> Tier:
    """Return the tier that a person asked for, or the rule of the alert that began it; else the first."""
    return run.method if run.method in TIERS else TIERS[0]


def attempts_of(steps: Sequence[Step]) -> list[Attempt]:
    """Return the tiers among a run's steps, in their order."""
    return [
        Attempt(tier, step.state, step.acted_at, step.detail, bool(step.result.get("denied")))
        for step in steps
        for tier in TIERS
        if step.name == tier and step.state not in ("done", "shadowed")
    ]


def tier_timeouts(settings: Settings) -> dict[Tier, float]:
    """Return the seconds that each tier has from its action to its cure."""
    return {
        "restart": settings.restart_timeout,
        "reboot": settings.reboot_timeout,
        "redeploy": settings.redeploy_timeout,
    }
