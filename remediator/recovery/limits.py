"""What recoveries may do at most. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from remediator.settings import Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of the gates; the scaling of groups keeps to the same."""

    fleet_max_ratio: float
    fleet_min_unhealthy: int
    storm_cooldown: float  # seconds
    dependency_min: int  # bots that share something, from which "all of them are ill" means that thing
    max_in_flight: int
    max_per_template: int
    max_per_zone: int
    burst: int  # actions at once
    refill: float  # seconds until there may be one more
    max_attempts: int  # tiers tried on a bot in a day

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the settings; a template or a zone without a cap of its own has the fleet's."""
        return cls(
            fleet_max_ratio=settings.fleet_max_unhealthy_ratio,
            fleet_min_unhealthy=settings.fleet_min_unhealthy,
            storm_cooldown=settings.storm_cooldown,
            dependency_min=settings.dependency_min,
            max_in_flight=settings.max_in_flight,
            max_per_template=settings.max_in_flight_per_template or settings.max_in_flight,
            max_per_zone=settings.max_in_flight_per_zone or settings.max_in_flight,
            burst=settings.actions_burst,
            refill=settings.actions_refill,
            max_attempts=settings.max_attempts,
        )


def tokens(intents: Sequence[float], now: float, limits: Limits) -> float:
    """Return what is left in the token bucket.

    It is full at first; each action takes one, and one is added every `refill` seconds.
    `intents`: when actions began (Unix seconds), oldest first.
    """
    level, at = float(limits.burst), -math.inf
    for began in intents:
        level = min(limits.burst, level + (began - at) / limits.refill) - 1
        at = began
    return min(limits.burst, level + (now - at) / limits.refill)
