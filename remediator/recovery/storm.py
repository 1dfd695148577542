"""How much of the fleet is ill, and whether that is a storm. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from remediator.model import Bot, Symptom
from remediator.recovery.limits import Limits

Shared = Literal["provider", "zone", "template", "environment"]


@dataclass(frozen=True, slots=True)
class CensusEntry:
    """One bot of a census, and what it may share with others. It shows only symptoms of which it tells."""

    template: str
    environment: str
    zone: str
    ill: bool
    quarantined: bool = False
    provider: str = ""  # of its model
    tells: frozenset[Symptom] = frozenset()
    shows: frozenset[Symptom] = frozenset()


def provider_of(bot: Bot) -> str:
    """Return the provider of the bot's model, such as anthropic; "" where its configuration names none."""
    return str(bot.config.get("model", "")).rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A census of the fleet of `total` bots; a large fleet is judged by a sample."""

    total: int
    entries: tuple[CensusEntry, ...] = ()

    @property
    def probed(self) -> int:
        """Return the number of bots in the census."""
        return len(self.entries)

    @property
    def unseen(self) -> bool:
        """Return whether there are bots, and not one could be looked at."""
        return self.total > 0 and not self.entries

    @property
    def unhealthy(self) -> int:
        """Return the number of ill bots, without those in quarantine."""
        return sum(entry.ill and not entry.quarantined for entry in self.entries)

    @property
    def set_aside(self) -> int:
        """Return the number of ill bots in quarantine: they are a person's, and hold no other back."""
        return sum(entry.ill and entry.quarantined for entry in self.entries)

    @property
    def judged(self) -> int:
        """Return the number of bots that the ratio is taken of."""
        return self.probed - self.set_aside

    @property
    def ratio(self) -> float:
        """Return the share of ill bots, 0 to 1."""
        return self.unhealthy / self.judged if self.judged else 0.0


@dataclass(frozen=True, slots=True)
class Storm:
    """A time of too many ill bots. `over_at`: when the fleet was last over its limit (Unix seconds)."""

    active: bool = False
    since: float = 0
    over_at: float = 0

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any] | None) -> Self:
        """Read it as the store has it; without a fact there is none."""
        return cls(**fact) if fact else cls()


def over_limit(fleet: Fleet, limits: Limits) -> bool:
    """Say whether more bots are ill than one recovery after another should mend: the cause is likely shared.

    So it is where more of them than that ended in quarantine, one after the other.
    """
    return fleet.unhealthy > _max_ill(fleet.judged, limits) or fleet.set_aside > _max_ill(
        fleet.probed, limits
    )


def _max_ill(bots: int, limits: Limits) -> int:
    # 1e-9: 0.3 * 10 is 3.0000000000000004 or 2.9999999999999996, depending on the numbers
    return max(limits.fleet_min_unhealthy, math.floor(limits.fleet_max_ratio * bots + 1e-9))


def next_storm(before: Storm, fleet: Fleet, now: float, limits: Limits) -> Storm:
    """Begin a storm with the first census over the limit, and end it a cool-down after the last."""
    if fleet.unseen:
        return before
    if over_limit(fleet, limits):
        return Storm(True, before.since if before.active else now, now)
    if before.active and now - before.over_at < limits.storm_cooldown:
        return before
    return Storm(False, before.since, before.over_at)
