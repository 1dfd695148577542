"""Queries to Prometheus about how bots use their instances and models. Reads; decides nothing.

The two weeks are of series that `alerts/rules-cost.yml` records every five minutes: raw scrapes of so long a
time would be more than Prometheus reads for one question.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from remediator.cost.model_advice import Quality
from remediator.cost.model_pricing import Counters
from remediator.cost.utilization import CLOUDWATCH, GIB, NODE, PEAK, WINDOW_DAYS, Measure, Usage
from remediator.monitoring.prometheus import Prometheus

CONTEXT: Final = "bot:bot_context_usage_ratio:max5m"
EVENT_LOOP: Final = "bot:bot_event_loop_usage_ratio:max5m"
UP: Final = "bot:bot_up:avg5m"
LATENCY: Final = "bot:bot_probe_duration_seconds:max5m"


@dataclass(frozen=True, slots=True)
class Source:
    """An exporter that measures instances, and the series that are recorded of it, by bot."""

    name: str
    cpu: str  # vCPUs
    cpu_day: str
    memory: str


NODE_EXPORTER: Final = Source(
    NODE, "bot:node_cpu_busy:max5m", "bot:node_cpu_busy:avg1d", "bot:node_memory_used:bytes"
)
CLOUDWATCH_EXPORTER: Final = Source(
    CLOUDWATCH,
    "bot:cloudwatch_cpu_busy:max5m",
    "bot:cloudwatch_cpu_busy:avg1d",
    "bot:cloudwatch_memory_used:bytes",
)
PROBE_STEP: Final = 60  # seconds: bots are probed once a minute
COUNTERS: Final = (
    "max by (bot) (bot_usage_requests_total)",
    "max by (bot) (bot_usage_input_tokens_total)",
    "max by (bot) (bot_usage_output_tokens_total)",
)


@dataclass(frozen=True, slots=True)
class Measurements:
    """Usage and quality by bot; a bot that is not in it is not measured."""

    usage: Mapping[str, Usage]
    quality: Mapping[str, Quality]


async def read_measurements(prometheus: Prometheus, now: float) -> Measurements:
    """Return the measurements of two weeks up to `now` (Unix seconds). Raises PrometheusError."""
    window = f"{WINDOW_DAYS}d"
    node = await _usage_of_instances(prometheus, NODE_EXPORTER, now)
    cloudwatch = await _usage_of_instances(prometheus, CLOUDWATCH_EXPORTER, now)
    event_loop, context, up, latency = await asyncio.gather(
        prometheus.by_bot(_peak(EVENT_LOOP, window), now),
        prometheus.by_bot(_peak(CONTEXT, window), now),
        prometheus.by_bot(f"min by (bot) (avg_over_time({UP}[{window}]))", now),
        prometheus.by_bot(f"max by (bot) (quantile_over_time(0.95, {LATENCY}[{window}]))", now),
    )
    unmeasured = Usage()
    return Measurements(
        usage={
            bot: replace(
                node.get(bot, unmeasured).completed(cloudwatch.get(bot, unmeasured)),
                event_loop=event_loop.get(bot),
                context=context.get(bot),
            )
            for bot in {*node, *cloudwatch, *event_loop, *context}
        },
        quality={
            bot: Quality(up.get(bot), latency.get(bot), context.get(bot)) for bot in {*up, *latency, *context}
        },
    )


def _peak(series: str, window: str, offset: str = "") -> str:
    return f"max by (bot) (quantile_over_time({PEAK}, {series}[{window}]{offset}))"


async def _usage_of_instances(prometheus: Prometheus, source: Source, now: float) -> dict[str, Usage]:
    cpu, memory, cpu_day = await asyncio.gather(
        _measures(prometheus, source.cpu, now, 1.0, source.name),
        _measures(prometheus, source.memory, now, GIB, source.name),
        prometheus.by_bot(f"max by (bot) (max_over_time({source.cpu_day}[{WINDOW_DAYS}d]))", now),
    )
    return {bot: Usage(cpu.get(bot), cpu_day.get(bot), memory.get(bot)) for bot in {*cpu, *memory, *cpu_day}}


async def _measures(
    prometheus: Prometheus, series: str, now: float, unit: float, source: str
) -> dict[str, Measure]:
    half = f"{WINDOW_DAYS // 2}d"
    points, peak, late, early = await asyncio.gather(
        prometheus.by_bot(f"max by (bot) (count_over_time({series}[{WINDOW_DAYS}d]))", now),
        prometheus.by_bot(_peak(series, f"{WINDOW_DAYS}d"), now),
        prometheus.by_bot(_peak(series, half), now),
        prometheus.by_bot(_peak(series, half, f" offset {half}"), now),
    )
    return {
        bot: Measure(
            points=points[bot],
            peak=peak[bot] / unit,
            late=late.get(bot, peak[bot]) / unit,
            early=early.get(bot, late.get(bot, peak[bot])) / unit,
            source=source,
        )
        for bot in points
        if bot in peak
    }


async def read_counters(prometheus: Prometheus, start: float, end: float) -> dict[str, list[Counters]]:
    """Return what bots reported of their usage, by bot, probe by probe, oldest first.

    `start`, `end`: Unix seconds. Raises PrometheusError.
    """
    requests, tokens_in, tokens_out = await asyncio.gather(
        *(prometheus.over_time(query, start, end, PROBE_STEP) for query in COUNTERS)
    )
    return {
        bot: list(_joined(points, dict(tokens_in[bot]), dict(tokens_out[bot])))
        for bot, points in requests.items()
        if bot in tokens_in and bot in tokens_out
    }


def _joined(
    requests: Iterable[tuple[float, float]],
    tokens_in: Mapping[float, float],
    tokens_out: Mapping[float, float],
) -> Iterable[Counters]:
    """Yield the counters at each moment at which all three are there."""
    for at, count in requests:
        if at in tokens_in and at in tokens_out:
            yield Counters(at, count, tokens_in[at], tokens_out[at])


async def read_busy_vcpus(prometheus: Prometheus, now: float) -> dict[str, float]:
    """Return the last day's mean of busy vCPUs, by bot. Raises PrometheusError."""
    node, cloudwatch = NODE_EXPORTER.cpu_day, CLOUDWATCH_EXPORTER.cpu_day
    return await prometheus.by_bot(f"max by (bot) ({node}) or max by (bot) ({cloudwatch})", now)
