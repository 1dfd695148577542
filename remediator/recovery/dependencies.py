"""What many bots need at once, and do not have: their model's provider, a channel's service. Pure.

A bot that is deaf, mute or stuck together with too many others is not the one at fault, and no restart of it
brings a provider back. The shares and numbers are those of a storm.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from remediator.model import Bot, Symptom
from remediator.recovery.limits import Limits
from remediator.recovery.storm import CensusEntry, Fleet, Shared, over_limit, provider_of

SHARED: Final[tuple[Shared, ...]] = ("provider", "zone", "template", "environment")
ALONE: Final[frozenset[Symptom]] = frozenset({"deaf", "mute", "stuck"})  # `down` is the fleet gate's


@dataclass(frozen=True, slots=True)
class Dependency:
    """Too many bots with one symptom: in the fleet, or all of those that share `value`, which is a `kind`."""

    symptom: Symptom
    kind: str  # fleet, or of SHARED
    value: str
    reason: str
    since: float  # Unix seconds
    over_at: float  # when it was last seen (Unix seconds)

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what it is told from others by."""
        return self.symptom, self.kind, self.value

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any]) -> Self:
        """Read it as the store has it."""
        return cls(**fact)

    def covers(self, bot: Bot) -> bool:
        """Return whether the bot needs what is away."""
        own = {
            "fleet": "",
            "provider": provider_of(bot),
            "zone": bot.zone,
            "template": bot.template,
            "environment": bot.environment,
        }
        return own[self.kind] == self.value


def next_dependencies(
    before: Sequence[Dependency], fleet: Fleet, now: float, limits: Limits
) -> list[Dependency]:
    """Return what is away after this census; each counts so for a cool-down after it was last seen."""
    if fleet.unseen:
        return list(before)
    known = {dependency.key: dependency for dependency in before}
    away = {dependency.key: dependency for dependency in _away(fleet, now, limits)}
    lasting = {key for key, dependency in known.items() if now - dependency.over_at < limits.storm_cooldown}
    return [
        replace(away[key], since=known[key].since if key in known else now) if key in away else known[key]
        for key in sorted(lasting | away.keys())
    ]


def _away(fleet: Fleet, now: float, limits: Limits) -> Iterator[Dependency]:
    for symptom in sorted(ALONE):
        telling = [entry for entry in fleet.entries if symptom in entry.tells]
        census = Fleet(len(telling), tuple(replace(entry, ill=symptom in entry.shows) for entry in telling))
        if over_limit(census, limits):
            count = census.unhealthy or census.set_aside
            reason = f"{count} of {census.judged or census.probed} bots are {symptom} at once"
            yield Dependency(symptom, "fleet", "", reason, now, now)
            continue
        for kind in SHARED:
            yield from _shared(symptom, kind, census.entries, now, limits)


def _shared(
    symptom: Symptom, kind: Shared, entries: Sequence[CensusEntry], now: float, limits: Limits
) -> Iterator[Dependency]:
    """Yield each thing all bots of which show the symptom, where they are enough to mean that thing."""
    for value in sorted({getattr(entry, kind) for entry in entries} - {""}):
        group = [entry for entry in entries if getattr(entry, kind) == value]
        if len(group) >= limits.dependency_min and all(entry.ill for entry in group):
            reason = f"all {len(group)} bots of {kind} {value} are {symptom} at once"
            yield Dependency(symptom, kind, value, reason, now, now)


def held_by(dependencies: Sequence[Dependency], bot: Bot, symptoms: frozenset[Symptom]) -> str:
    """Return why a tier would not help: each symptom is one of many bots'; "" where one is its own."""
    reasons = []
    for symptom in sorted(symptoms):
        away = [dependency for dependency in dependencies if dependency.symptom == symptom]
        covering = [dependency.reason for dependency in away if dependency.covers(bot)]
        if not covering:
            return ""
        reasons.append(covering[0])
    return "; ".join(reasons)
