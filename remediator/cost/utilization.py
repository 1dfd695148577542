"""How much of its instance a bot has used in two weeks. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from remediator.timestamps import DAY

WINDOW_DAYS: Final = 14
ENOUGH: Final = 0.9  # of the window's points: an instance that was off for a day is still known
STEP: Final = 300  # seconds between two points
POINTS_A_DAY: Final = int(DAY) // STEP
PEAK: Final = 0.995  # the quantile that AWS Compute Optimizer goes by, too
GIB: Final = 2.0**30
NODE: Final = "node_exporter"
CLOUDWATCH: Final = "CloudWatch"


@dataclass(frozen=True, slots=True)
class Measure:
    """Peaks (p99.5) of something in the window: of all of it, of its last week, of the week before."""

    points: float
    peak: float
    late: float
    early: float
    source: str = NODE

    @property
    def enough(self) -> bool:
        """Return whether there are points of nearly all of the window."""
        return self.points >= ENOUGH * WINDOW_DAYS * POINTS_A_DAY

    @property
    def expected(self) -> float:
        """Return the peak in two weeks' time, if it grows as it has; below 5 % a week is no growth."""
        growth = max(0.0, self.late - self.early - 0.05 * self.early)
        return max(self.peak, self.late + 2 * growth)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in vCPUs, memory in GiB, the others as shares of 1. None: not measured."""

    cpu: Measure | None = None
    cpu_day: float | None = None  # the mean of the busiest day: what credits have to pay for
    memory: Measure | None = None
    event_loop: float | None = None  # p99.5
    context: float | None = None  # p99.5

    def completed(self, other: "Usage") -> "Usage":
        """Return it with the other's CPU or memory, each by itself, where only the other has enough of it."""
        cpu = other if _is_better(other.cpu, self.cpu) else self
        memory = other if _is_better(other.memory, self.memory) else self
        return replace(self, cpu=cpu.cpu, cpu_day=cpu.cpu_day, memory=memory.memory)


def _is_better(measure: Measure | None, other: Measure | None) -> bool:
    return measure is not None and (other is None or (measure.enough and not other.enough))


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the quantile as Prometheus's quantile_over_time does: linear between the two nearest ranks."""
    rank = q * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def measured(points: Sequence[float]) -> Measure | None:
    """Measure points 5 minutes apart, oldest first; only the last 14 days of them count."""
    window = points[-WINDOW_DAYS * POINTS_A_DAY :]
    if not window:
        return None
    half = min(len(window), WINDOW_DAYS * POINTS_A_DAY // 2)
    late, early = sorted(window[-half:]), sorted(window[:-half])
    return Measure(
        points=len(window),
        peak=quantile(sorted(window), PEAK),
        late=quantile(late, PEAK),
        early=quantile(early, PEAK) if early else quantile(late, PEAK),
    )


def busiest_day(points: Sequence[float]) -> float | None:
    """Return the greatest mean over any 24 h, of points 5 minutes apart; None without a point."""
    window = points[-WINDOW_DAYS * POINTS_A_DAY :]
    if len(window) < POINTS_A_DAY:
        return fmean(window) if window else None
    total = greatest = math.fsum(window[:POINTS_A_DAY])
    for leaving, coming in zip(window, window[POINTS_A_DAY:], strict=False):
        total += coming - leaving
        greatest = max(greatest, total)
    return greatest / POINTS_A_DAY
