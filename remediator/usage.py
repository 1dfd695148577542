"""How much of its instance a bot has used in two weeks, and what an instance of a type can bear. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from templates.facts import INSTANCE_MEMORY_GIB

WINDOW_DAYS: Final = 14
ENOUGH: Final = 0.9  # of the window's points: an instance that was off for a day is still known
STEP: Final = 300  # seconds between two points
POINTS_A_DAY: Final = 86400 // STEP
PEAK: Final = 0.995  # the quantile that AWS Compute Optimizer goes by, too
GIB: Final = 2.0**30
NODE: Final = "node_exporter"
CLOUDWATCH: Final = "CloudWatch"


@dataclass(frozen=True, slots=True)
class Shape:
    """An instance type. `baseline`: the share of each vCPU that its CPU credits pay for, day in, day out."""

    name: str
    vcpus: int
    memory_gib: float
    baseline: float

    @property
    def usable_gib(self) -> float:
        """The kernel keeps some for itself: Linux shows about 7 % less than was bought."""
        return self.memory_gib * 0.93

    @property
    def sustained_vcpus(self) -> float:
        return self.vcpus * self.baseline


# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-credits-baseline-concepts.html
_CPU: Final = {
    "t3.micro": (2, 0.1),
    "t3.small": (2, 0.2),
    "t3.medium": (2, 0.2),
    "t3.large": (2, 0.3),
    "t3.xlarge": (4, 0.4),
    "t3.2xlarge": (8, 0.4),
}
SHAPES: Final[Mapping[str, Shape]] = {
    name: Shape(name, *(_CPU[name][0], float(gib), _CPU[name][1]))
    for name, gib in sorted(INSTANCE_MEMORY_GIB.items(), key=lambda item: item[1])
    if name in _CPU
}
"""Smallest first."""


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
        return self.points >= ENOUGH * WINDOW_DAYS * POINTS_A_DAY

    @property
    def expected(self) -> float:
        """The peak in two weeks' time, if it grows as it has; below 5 % a week is no growth."""
        growth = max(0.0, self.late - self.early - 0.05 * self.early)
        return max(self.peak, self.late + 2 * growth)


@dataclass(frozen=True, slots=True)
class Usage:
    """None: nobody measures it. CPU in vCPUs, memory in GiB, the others are shares of one."""

    cpu: Measure | None = None
    cpu_day: float | None = None  # the mean of the busiest day: what credits have to pay for
    memory: Measure | None = None
    event_loop: float | None = None  # p99.5
    context: float | None = None  # p99.5

    def completed(self, other: "Usage") -> "Usage":
        """CPU and memory are the other's, each by itself, where only the other knows enough of them."""
        cpu = other if _knows_more(other.cpu, self.cpu) else self
        memory = other if _knows_more(other.memory, self.memory) else self
        return replace(self, cpu=cpu.cpu, cpu_day=cpu.cpu_day, memory=memory.memory)


def _knows_more(one: Measure | None, than: Measure | None) -> bool:
    return one is not None and (than is None or (one.enough and not than.enough))


def quantile(ordered: Sequence[float], q: float) -> float:
    """As Prometheus's quantile_over_time has it: linear between the two nearest ranks."""
    rank = q * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def measured(points: Sequence[float]) -> Measure | None:
    """From points 5 minutes apart, oldest first; only the last 14 days of them count."""
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
    """The greatest mean over any 24 h, of points 5 minutes apart."""
    window = points[-WINDOW_DAYS * POINTS_A_DAY :]
    if len(window) < POINTS_A_DAY:
        return fmean(window) if window else None
    total = greatest = math.fsum(window[:POINTS_A_DAY])
    for leaving, coming in zip(window, window[POINTS_A_DAY:], strict=False):
        total += coming - leaving
        greatest = max(greatest, total)
    return greatest / POINTS_A_DAY
