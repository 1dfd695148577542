"""May we act on this bot now, and if not, why? Pure: a situation in, one verdict a gate out."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Effect(StrEnum):
    go = "go"
    hold = "hold"  # ask again later
    end = "end"  # nothing is left to do


@dataclass(frozen=True, slots=True)
class Verdict:
    gate: str
    effect: Effect
    why: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a look at the fleet saw. `probed` bots of `total`; a large fleet is judged by a sample."""

    total: int
    probed: int
    unhealthy: int

    @property
    def ratio(self) -> float:
        return self.unhealthy / self.probed if self.probed else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    fleet_max_ratio: float
    fleet_min_unhealthy: int
    max_in_flight: int


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything the gates look at, gathered just before a tier."""

    trigger: Literal["alert", "manual"]
    climbing: bool  # a tier was tried before in this run
    bot_healthy: bool
    bot_seen: str  # what the live probe saw, in words
    alerts_firing: bool
    fleet: Fleet
    in_flight: int


def judge(situation: Situation, limits: Limits) -> list[Verdict]:
    """One verdict a gate, in the order they are asked; all are judged, so that all can be shown."""
    manual = situation.trigger == "manual"
    return [
        _healthy(situation, manual and not situation.climbing),
        _resolved(situation, manual),
        _fleet(situation.fleet, limits, manual),
        _in_flight(situation.in_flight, limits),
    ]


def decisive(verdicts: list[Verdict]) -> Verdict | None:
    """The verdict that stops us: an end before a hold, the first asked before a later; None means go."""
    for effect in (Effect.end, Effect.hold):
        for verdict in verdicts:
            if verdict.effect is effect:
                return verdict
    return None


def storm(fleet: Fleet, limits: Limits) -> bool:
    """More bots ill than one recovery after another should mend: the cause is likely shared."""
    return fleet.unhealthy > _allowed(fleet, limits)


def _allowed(fleet: Fleet, limits: Limits) -> int:
    # 1e-9: 0.3 * 10 is 3.0000000000000004 or 2.9999999999999996, depending on the numbers
    return max(limits.fleet_min_unhealthy, math.floor(limits.fleet_max_ratio * fleet.probed + 1e-9))


def _healthy(situation: Situation, asked: bool) -> Verdict:
    """A person may ask for a tier on a bot that is well; nobody asked for the harder ones after it."""
    if not situation.bot_healthy:
        return Verdict("healthy", Effect.go, f"the bot is ill: {situation.bot_seen}")
    if asked:
        return Verdict("healthy", Effect.go, "the bot is healthy; a person asked all the same")
    return Verdict("healthy", Effect.end, "the bot is healthy now: nothing to do")


def _resolved(situation: Situation, manual: bool) -> Verdict:
    if manual or situation.alerts_firing:
        return Verdict("resolved", Effect.go, "a person asked" if manual else "an alert is firing")
    return Verdict("resolved", Effect.end, "every alert that asked for this is resolved")


def _fleet(fleet: Fleet, limits: Limits, manual: bool) -> Verdict:
    seen = f"{fleet.unhealthy} of {fleet.probed} bots are ill ({fleet.ratio:.0%})"
    if fleet.probed < fleet.total:
        seen += f", a sample of {fleet.total}"
    rule = f"limit: {limits.fleet_max_ratio:.0%}, at least {limits.fleet_min_unhealthy}"
    if not storm(fleet, limits):
        return Verdict("fleet", Effect.go, f"{seen}; {rule}")
    if manual:
        return Verdict("fleet", Effect.go, f"{seen}; {rule}; a person asked all the same")
    return Verdict("fleet", Effect.hold, f"{seen}; {rule}: the cause is likely shared, so nothing is done")


def _in_flight(in_flight: int, limits: Limits) -> Verdict:
    seen = f"{in_flight} other bots are being acted on; limit: {limits.max_in_flight}"
    return Verdict("in_flight", Effect.hold if in_flight >= limits.max_in_flight else Effect.go, seen)
