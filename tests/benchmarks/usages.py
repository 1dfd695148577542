"""What bots take of their instances in two weeks and more, 5 minutes apart, and the instance they need.

Shapes are generated, not recorded: each is a few lines, seeded, and says what it is. They are in vCPUs and
GiB, so the right instance is the same whatever the bot has now; it follows from the rule by hand, as written
beside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from remediator.cost.utilization import POINTS_A_DAY, STEP, Usage, busiest_day, measured

HOUR: Final = 3600 // STEP
CONTEXT: Final = 0.4


@dataclass(frozen=True, slots=True)
class Recorded:
    """CPU (vCPUs) and memory (GiB), oldest first; the first point is a Monday's midnight."""

    cpu_peak: list[float]
    cpu_mean: list[float]
    memory: list[float]

    def usage(self) -> Usage:
        return Usage(
            measured(self.cpu_peak), busiest_day(self.cpu_mean), measured(self.memory), None, CONTEXT
        )


@dataclass(frozen=True, slots=True)
class Workload:
    make: Callable[[Random, int], Recorded]  # seeded, of so many points
    needs: str


def _noisy(random: Random, values: list[float], spread: float = 0.02) -> list[float]:
    return [value * random.uniform(1 - spread, 1 + spread) for value in values]


def _recorded(random: Random, cpu: list[float], memory: list[float]) -> Recorded:
    peaks = _noisy(random, cpu)
    return Recorded(peaks, [peak * 0.98 for peak in peaks], _noisy(random, memory, 0.01))


def idle(random: Random, points: int) -> Recorded:
    """Model an OpenClaw that nobody asks anything."""
    return _recorded(random, [0.03] * points, [0.80] * points)


def steady(random: Random, points: int) -> Recorded:
    return _recorded(random, [0.25] * points, [2.2] * points)


def bursty(random: Random, points: int) -> Recorded:
    """Model ten minutes of work each two hours."""
    cpu = [1.4 if at % (2 * HOUR) < 2 else 0.05 for at in range(points)]
    return _recorded(random, cpu, [1.0] * points)


def draining(random: Random, points: int) -> Recorded:
    """Model half an hour of work and more each two hours: it fits, but a small instance's credits end."""
    cpu = [1.3 if at % (2 * HOUR) < 7 else 0.05 for at in range(points)]
    return _recorded(random, cpu, [1.0] * points)


def growing(random: Random, points: int) -> Recorded:
    """Model a growth of 0.6 GiB in the last two weeks, day by day, and no end of it in sight."""
    last = 14 * POINTS_A_DAY
    memory = [0.9 + 0.6 * max(0, at - points + last) / last for at in range(points)]
    return _recorded(random, [0.2] * points, memory)


def weekly(random: Random, points: int) -> Recorded:
    """Model office hours, Monday to Friday."""
    busy = [at // POINTS_A_DAY % 7 < 5 and 9 * HOUR <= at % POINTS_A_DAY < 17 * HOUR for at in range(points)]
    return _recorded(
        random, [0.6 if at_work else 0.05 for at_work in busy], [1.1 if at_work else 0.9 for at_work in busy]
    )


def heavy(random: Random, points: int) -> Recorded:
    return _recorded(random, [0.3] * points, [5.0] * points)


WORKLOADS: Final[Mapping[str, Workload]] = {
    # 0.81 GiB · 1.2 = 0.97; a t3.micro shows 0.93 of its 1 GiB.
    "idle": Workload(idle, "t3.small"),
    # 2.2 GiB · 1.2 = 2.7 of 3.72.
    "steady": Workload(steady, "t3.medium"),
    # 1.4 vCPU · 1.2 = 1.7 of 2, and 0.16 vCPU · 1.2 = 0.2 all day of the 0.4 that credits pay for.
    "bursty": Workload(bursty, "t3.small"),
    # 0.41 vCPU · 1.2 = 0.5 all day: a t3.medium's credits pay for 0.4, a t3.large's for 0.6.
    "draining": Workload(draining, "t3.large"),
    # 1.5 GiB now, 0.3 more a week, so 2 GiB in two weeks; · 1.2 = 2.4 of 3.72.
    "growing": Workload(growing, "t3.medium"),
    # As its busy days are: 1.1 GiB · 1.2 = 1.3 of 1.86.
    "weekly": Workload(weekly, "t3.small"),
    # 5 GiB · 1.2 = 6 of 7.44.
    "heavy": Workload(heavy, "t3.large"),
}
