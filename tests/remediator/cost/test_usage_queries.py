"""What Prometheus itself says of two weeks is what the same points say when they are summed up here."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from random import Random

import aiohttp
import pytest
import yaml

from remediator.cost.price_table import shipped
from remediator.cost.rightsizing import advise
from remediator.cost.usage_queries import (
    CLOUDWATCH_EXPORTER,
    CONTEXT,
    EVENT_LOOP,
    LATENCY,
    NODE_EXPORTER,
    UP,
    Source,
    read_busy_vcpus,
    read_counters,
    read_measurements,
)
from remediator.cost.utilization import CLOUDWATCH, GIB, NODE, POINTS_A_DAY, STEP, Usage
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from sandbox.process.binaries import find
from sandbox.process.processes import Process, answers, free_port
from tests.benchmarks.usages import CONTEXT as CONTEXT_USED
from tests.benchmarks.usages import WORKLOADS, Recorded

RULES = Path(__file__).parents[3] / "alerts" / "rules-cost.yml"
DAYS = 14
REPORTED = {
    "bot_usage_requests_total": 1,
    "bot_usage_input_tokens_total": 1000,
    "bot_usage_output_tokens_total": 100,
}


@asynccontextmanager
async def run_prometheus(folder: Path, openmetrics: str) -> AsyncIterator[Prometheus]:
    """Run a real Prometheus over these samples."""
    source, data, config = folder / "samples.om", folder / "data", folder / "prometheus.yml"
    source.write_text(openmetrics)
    config.write_text("scrape_configs: []\n")
    argv: list[str | Path] = [
        find("promtool"),
        "tsdb",
        "create-blocks-from",
        "--max-block-duration=744h",
        "openmetrics",
    ]

    def backfill() -> None:
        subprocess.run([*argv, source, data], check=True, capture_output=True, timeout=100)

    await asyncio.to_thread(backfill)
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(find("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=60d",
        f"--web.listen-address={address}",
    ]
    ready = answers(f"http://{address}/-/ready")
    async with (
        Process(command, log=folder / "prometheus.log", ready=ready),
        aiohttp.ClientSession() as session,
    ):
        yield Prometheus(f"http://{address}", session)


def lines(
    bot: str, recorded: Recorded, end: float, source: Source = NODE_EXPORTER
) -> Iterator[tuple[str, str]]:
    """Yield (series, sample) of a bot, as the recording rules would have left them."""
    points = len(recorded.cpu_peak)
    day = POINTS_A_DAY
    sums = [0.0, *accumulate(recorded.cpu_mean)]
    means = [(sums[at] - sums[at - day]) / day for at in range(day, points + 1)]  # of whole days
    series = {
        source.cpu: recorded.cpu_peak,
        source.cpu_day: means,
        source.memory: [gib * GIB for gib in recorded.memory],
    }
    reported = {
        CONTEXT: [CONTEXT_USED] * points,
        EVENT_LOOP: [0.2] * points,
        UP: [1.0] * (points - 1) + [0.0],
        LATENCY: [0.25] * points,
    }
    if source is NODE_EXPORTER:
        series |= reported
    for name, values in series.items():
        for at, value in enumerate(values):
            yield name, f'{name}{{bot="{bot}"}} {value} {end - (len(values) - 1 - at) * STEP}'


def counters(bot: str, end: float) -> Iterator[tuple[str, str]]:
    """Yield the counters of a request a minute in the last ten; they start again after five."""
    for name, each in REPORTED.items():
        for at in range(11):
            count = (at if at < 6 else at - 6) * each
            yield name, f'{name}{{bot="{bot}"}} {count} {end - (10 - at) * 60}'


def document(samples: Iterator[tuple[str, str]]) -> str:
    grouped: dict[str, list[str]] = {}
    for name, line in samples:
        grouped.setdefault(name, []).append(line)
    return "\n".join(line for group in grouped.values() for line in group) + "\n# EOF\n"


async def test_prometheus_and_our_own_sum_of_the_same_points_agree_and_so_does_the_advice(
    tmp_path: Path,
) -> None:
    end = time.time() // STEP * STEP
    recorded = {
        name: WORKLOADS[name].make(Random(7), DAYS * POINTS_A_DAY) for name in ("bursty", "growing", "weekly")
    }
    recorded["short"] = WORKLOADS["idle"].make(Random(7), 5 * POINTS_A_DAY)

    def samples() -> Iterator[tuple[str, str]]:
        for bot, of in recorded.items():
            yield from lines(bot, of, end)
        yield from counters("bursty", end)

    async with run_prometheus(tmp_path, document(samples())) as prometheus:
        evidence = await read_measurements(prometheus, end)
        counted = await read_counters(prometheus, end - 600, end)
    for bot, of in recorded.items():
        queried, own = evidence.usage[bot], of.usage()
        assert closely(queried) == pytest.approx(closely(own), rel=0.02, abs=1e-3), bot
        advice = [advise(bot, "t3.large", usage, shipped("us-west-1")) for usage in (queried, own)]
        assert (advice[0].status, advice[0].target) == (advice[1].status, advice[1].target)
        assert queried.event_loop == 0.2
    quality = evidence.quality["weekly"]
    assert quality.healthy == pytest.approx(1 - 1 / (DAYS * POINTS_A_DAY))
    assert (quality.latency, quality.context) == (0.25, CONTEXT_USED)
    assert [point.requests for point in counted["bursty"]] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]
    assert counted["bursty"][5].input_tokens == 5000


def closely(usage: Usage) -> list[float]:
    assert usage.cpu is not None
    assert usage.memory is not None
    assert usage.cpu_day is not None
    of = [(part.points / 1000, part.peak, part.late, part.early) for part in (usage.cpu, usage.memory)]
    return [*of[0], *of[1], usage.cpu_day, usage.context or -1]


async def test_node_exporter_goes_before_cloudwatch_and_what_neither_knows_is_insufficient_data(
    tmp_path: Path,
) -> None:
    end = time.time() // STEP * STEP
    idle, heavy = (WORKLOADS[name].make(Random(7), DAYS * POINTS_A_DAY) for name in ("idle", "heavy"))
    begun = WORKLOADS["heavy"].make(Random(7), 3 * POINTS_A_DAY)

    def samples() -> Iterator[tuple[str, str]]:
        yield from lines("both", idle, end)
        yield from lines("both", heavy, end, CLOUDWATCH_EXPORTER)
        yield from lines("begun", begun, end)
        yield from lines("begun", idle, end, CLOUDWATCH_EXPORTER)
        yield from lines("agent", idle, end, CLOUDWATCH_EXPORTER)
        yield from lines("basic", replace(idle, memory=[]), end, CLOUDWATCH_EXPORTER)

    async with run_prometheus(tmp_path, document(samples())) as prometheus:
        usage = (await read_measurements(prometheus, end)).usage
        busy = await read_busy_vcpus(prometheus, end)
    assert busy.keys() == {"both", "begun", "agent", "basic"}
    assert busy["both"] == pytest.approx(sum(idle.cpu_mean[-POINTS_A_DAY:]) / POINTS_A_DAY)
    sources = {bot: [part and part.source for part in (its.cpu, its.memory)] for bot, its in usage.items()}
    assert sources == {
        "both": [NODE, NODE],
        "begun": [CLOUDWATCH, CLOUDWATCH],
        "agent": [CLOUDWATCH, CLOUDWATCH],
        "basic": [CLOUDWATCH, None],
    }
    advice = {bot: advise(bot, "t3.large", its, shipped("us-west-1")) for bot, its in usage.items()}
    assert {bot: recommended.target for bot, recommended in advice.items()} == {
        "both": "t3.small", "begun": "t3.small", "agent": "t3.small", "basic": "",
    }  # fmt: skip
    assert advice["basic"].status == "insufficient data"
    assert "(CloudWatch)" in " ".join(advice["agent"].evidence)


async def test_what_the_exporters_of_cloudwatch_publish_is_recorded_and_no_data_is_not(
    tmp_path: Path,
) -> None:
    """The rules' own expressions over samples as old as cloudwatch_exporter's are."""
    end = time.time() // STEP * STEP
    published = {
        'bot_instance_vcpus{bot="yace",instance_id="i-1"}': (2, end),
        'bot_instance_vcpus{bot="other",instance_id="i-2"}': (4, end),
        'bot_instance_vcpus{bot="silent",instance_id="i-3"}': (2, end),
        'bot_instance_memory_bytes{bot="other",instance_id="i-2"}': (1000, end),
        'bot_instance_memory_bytes{bot="silent",instance_id="i-3"}': (1000, end),
        'aws_ec2_cpuutilization_average{dimension_InstanceId="i-1"}': (25, end - 900),
        'aws_ec2_cpuutilization_average{instance_id="i-2"}': (30, end - 900),
        'aws_ec2_cpuutilization_average{dimension_InstanceId="i-3"}': ("NaN", end - 900),
        'aws_ec2_cpuutilization_maximum{instance_id="i-2"}': (50, end - 900),
        'cwagent_mem_used_percent_average{instance_id="i-2"}': (50, end - 900),
        'aws_cwagent_mem_used_percent_average{dimension_InstanceId="i-3"}': ("NaN", end - 900),
    }
    rules = {
        rule["record"]: rule["expr"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    expected = {
        CLOUDWATCH_EXPORTER.cpu: {"yace": 0.5, "other": 2.0},
        "bot:cloudwatch_cpu_busy:avg5m": {"yace": 0.5, "other": 1.2},
        CLOUDWATCH_EXPORTER.memory: {"other": 500.0},
    }
    samples = (
        (series.partition("{")[0], f"{series} {value} {at}") for series, (value, at) in published.items()
    )
    async with run_prometheus(tmp_path, document(samples)) as prometheus:
        for name, values in expected.items():
            assert await prometheus.by_bot(rules[name], end) == pytest.approx(values), name
            assert (await prometheus.by_bot(f"count by (bot) ({rules[name]})", end)).keys() == values.keys()


async def test_a_prometheus_that_is_away_is_said() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(PrometheusError, match="cannot be reached"):
            await read_measurements(Prometheus(f"http://127.0.0.1:{free_port()}", session), 0)
