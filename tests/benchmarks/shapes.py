"""What bots do through a day, minute by minute: healthy noise, illness without a trend, slow decline.

Shapes are generated, not recorded: each is a few lines, seeded, and says what it is. The exporter's own code
makes the score of them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from exporter.result import EndpointResult, ProbeResult, Reason
from exporter.score import Thresholds, next_streak, score

DAY: Final = 24 * 60
TIMEOUT: Final = 10.0  # seconds a probe waits, as the exporter's default
Shape = Callable[[Random], list[float]]  # seconds to answer; infinity is none, NaN a refused connection
REFUSED: Final = math.nan


def steady(random: Random, base: float, spread: float) -> list[float]:
    return [base * random.lognormvariate(0, spread) for _ in range(DAY)]


# Healthy noise.


def quiet(random: Random) -> list[float]:
    return steady(random, 0.04, 0.2)


def heavy_tailed(random: Random) -> list[float]:
    """Model answers half of them within 0.3 s, one in a hundred beyond two."""
    return steady(random, 0.3, 0.8)


def slow_but_steady(random: Random) -> list[float]:
    return steady(random, random.uniform(1.5, 3), 0.3)


def wandering(random: Random) -> list[float]:
    """Model noise with a memory of an hour: it looks like a trend, and is none."""
    level, seconds = 0.0, []
    for _ in range(DAY):
        level = 0.98 * level + random.gauss(0, 0.1)
        seconds.append(0.5 * math.exp(level) * random.lognormvariate(0, 0.2))
    return seconds


def daily(random: Random) -> list[float]:
    """Model a bot six times as slow at the day's peak as at night."""
    start = random.randrange(DAY)
    wave = [0.7 - 0.5 * math.cos(2 * math.pi * (start + minute) / DAY) for minute in range(DAY)]
    return [level * random.lognormvariate(0, 0.3) for level in wave]


def bursts(random: Random) -> list[float]:
    """Model some minutes of heavy work, at 2 to 4 s, now and then."""
    seconds = quiet(random)
    for _ in range(random.randrange(10, 30)):
        begin = random.randrange(DAY)
        for minute in range(begin, min(DAY, begin + random.randrange(2, 12))):
            seconds[minute] = random.uniform(2, 4)
    return seconds


def busy_hours(random: Random) -> list[float]:
    """Model a few hours of work that comes and goes within minutes: 1.5 to 3 s in place of 0.2."""
    seconds = steady(random, 0.2, 0.3)
    for _ in range(3):
        begin, length = random.randrange(DAY), random.randrange(60, 240)
        level = random.uniform(1.5, 3)
        for minute in range(begin, min(DAY, begin + length)):
            ramp = min(1, (minute - begin) / 10)
            seconds[minute] = max(0.1, level * ramp) * random.lognormvariate(0, 0.3)
    return seconds


def lost_probes(random: Random) -> list[float]:
    """Lose one probe in two hundred."""
    return [math.inf if random.random() < 0.005 else second for second in quiet(random)]


def refused_probes(random: Random) -> list[float]:
    """Refuse one probe in a hundred."""
    return [REFUSED if random.random() < 0.01 else second for second in quiet(random)]


def releases(random: Random) -> list[float]:
    """Model a few releases: a probe or two fails, and after it the bot is twice as slow, or as fast."""
    seconds, level, cuts = [], 0.3, {random.randrange(30, DAY) for _ in range(4)}
    for minute in range(DAY):
        if minute in cuts:
            level = min(2.0, max(0.05, level * random.choice((0.5, 2))))
        down = minute in cuts or (minute - 1 in cuts and random.random() < 0.5)
        seconds.append(REFUSED if down else level * random.lognormvariate(0, 0.3))
    return seconds


# Ill, and no trend: nothing is left to predict, or nothing to fear.


def flat_slow(random: Random) -> list[float]:
    return steady(random, random.uniform(4, 7), 0.2)


def flat_failing(random: Random) -> list[float]:
    """Fail a third of all probes, all day."""
    return [REFUSED if random.random() < 0.33 else second for second in quiet(random)]


def step_slow(random: Random) -> list[float]:
    """Model a step from 0.1 s to 6 s from one minute to the next."""
    at = random.randrange(200, DAY - 200)
    return [(0.1 if minute < at else 6) * random.lognormvariate(0, 0.2) for minute in range(DAY)]


def step_dead(random: Random) -> list[float]:
    at = random.randrange(200, DAY - 200)
    return [second if minute < at else math.inf for minute, second in enumerate(quiet(random))]


def recovering(random: Random) -> list[float]:
    """Model a slow bot that is better each hour."""
    return [max(0.1, 8 - 8 * minute / (DAY / 2)) * random.lognormvariate(0, 0.2) for minute in range(DAY)]


def outages(random: Random) -> list[float]:
    """Model a bot that is dead for ten minutes, three times a day."""
    seconds = quiet(random)
    for _ in range(3):
        begin = random.randrange(DAY - 10)
        seconds[begin : begin + 10] = [REFUSED] * 10
    return seconds


# Slow decline: from `ONSET` on, until it fails.

ONSET: Final = 6 * 60


def linear(hours: float) -> Shape:
    """Model a latency that rises steadily to the probe's timeout, and on."""

    def shape(random: Random) -> list[float]:
        base, spread = random.uniform(0.05, 0.5), random.uniform(0.1, 0.3)
        slope = TIMEOUT / (hours * 60)
        return [
            (base + slope * max(0, minute - ONSET)) * random.lognormvariate(0, spread)
            for minute in range(DAY)
        ]

    return shape


def doubling(minutes: float) -> Shape:
    """Model a latency that doubles again and again: a leak, a queue that grows."""

    def shape(random: Random) -> list[float]:
        base, spread = random.uniform(0.1, 0.5), random.uniform(0.1, 0.3)
        return [
            base * 2 ** (min(max(0, minute - ONSET) / minutes, 20)) * random.lognormvariate(0, spread)
            for minute in range(DAY)
        ]

    return shape


def staircase(hours: float) -> Shape:
    """Model a latency that rises to the timeout by steps, a quarter of an hour to half an hour each."""

    def shape(random: Random) -> list[float]:
        step = random.randrange(15, 31)
        height = TIMEOUT / (hours * 60 / step)
        return [
            (0.2 + height * (max(0, minute - ONSET) // step)) * random.lognormvariate(0, 0.2)
            for minute in range(DAY)
        ]

    return shape


def failing_more(hours: float, how: float) -> Shape:
    """Fail ever more probes, from none to all; `how` is REFUSED or infinity (no answer in time)."""

    def shape(random: Random) -> list[float]:
        return [
            how if random.random() < max(0, minute - ONSET) / (hours * 60) else second
            for minute, second in enumerate(quiet(random))
        ]

    return shape


HEALTHY: Final[Mapping[str, Shape]] = {
    shape.__name__: shape
    for shape in (
        quiet, heavy_tailed, slow_but_steady, wandering, daily, bursts, busy_hours, lost_probes,
        refused_probes, releases,
    )
}  # fmt: skip
NO_TREND: Final[Mapping[str, Shape]] = {
    shape.__name__: shape for shape in (flat_slow, flat_failing, step_slow, step_dead, recovering, outages)
}
DECLINES: Final[Mapping[str, Shape]] = {
    **{f"linear_{hours:g}h": linear(hours) for hours in (1.5, 3, 6, 12)},
    **{f"doubling_{minutes}min": doubling(minutes) for minutes in (15, 30, 60)},
    **{f"staircase_{hours}h": staircase(hours) for hours in (3, 6)},
    **{f"refusing_more_{hours}h": failing_more(hours, REFUSED) for hours in (3, 6, 12)},
    **{f"hanging_more_{hours}h": failing_more(hours, math.inf) for hours in (3, 6, 12)},
}


@dataclass(frozen=True, slots=True)
class Series:
    """What the exporter would publish of the bot, a value a minute."""

    up: list[float]
    seconds: list[float]
    score: list[float]
    streak: list[float]


def published(answers: list[float]) -> Series:
    """Score answers by the exporter's own code. The mesh fails with /health."""
    series = Series([], [], [], [])
    streak = 0
    for minute, answer in enumerate(answers):
        refused = math.isnan(answer)
        ok = not refused and answer < TIMEOUT
        reason = None if ok else Reason.connect_refused if refused else Reason.read_timeout
        seconds = 0.001 if refused else min(answer, TIMEOUT)
        health = EndpointResult(ok, reason, 200 if ok else None, seconds, None, "")
        mesh = EndpointResult(ok, reason, 200 if ok else None, seconds, None, "")
        result = ProbeResult(bot="", at=minute * 60.0, health=health, mesh=mesh)
        streak = next_streak(streak, result)
        series.up.append(float(ok))
        series.seconds.append(round(seconds, 4))
        series.score.append(score(result, streak, Thresholds()).total)
        series.streak.append(float(streak))
    return series
