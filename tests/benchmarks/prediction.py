"""Does BotFailurePredicted cry wolf, and does it speak in time? `make bench BENCH=prediction`.

Days of bots, made by `shapes.py`, are replayed through promtool: the rules of the rule files, evaluated each
minute by Prometheus's own engine, `for` included. Critical is the first minute at which
BotHealthScoreCritical or BotDown fires in the same replay. A decline counts as caught if it was predicted ten
minutes or more before that. The last line is a JSON object;
the exit code is 1 where the promise is broken.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import yaml

sys.path[0] = str(Path(__file__).parents[2])  # this folder's exporter.py would hide the package

from sandbox.process import binaries
from tests.benchmarks.common import parse_options, say
from tests.benchmarks.shapes import DAY, DECLINES, HEALTHY, NO_TREND, ONSET, TIMEOUT, Shape, published

ALERTS = Path(__file__).parents[2] / "alerts"
AT_ONCE = 50  # bots in one run of promtool
MOST_FALSE_ALARMS, LEAST_CAUGHT = 1.0, 0.8  # in 1,000 days of healthy bots; of all declines
EARLY = 10  # minutes a prediction must come before the failure
QUICK_KINDS = ["quiet", "linear_3h"]
WATCHED = {"BotFailurePredicted", "BotHealthScoreCritical", "BotDown"}
PREDICTED = 'ALERTS{alertname="BotFailurePredicted",alertstate="firing",bot=~"BOTS"}'
CRITICAL = 'ALERTS{alertname=~"BotHealthScoreCritical|BotDown",alertstate="firing",bot=~"BOTS"}'
QUERIES = {
    "alarms": f"count_over_time(({PREDICTED} unless on (bot) {PREDICTED} offset 1m)[{DAY}m:1m])",
    "predicted": f"min_over_time(timestamp({PREDICTED})[{DAY - ONSET}m:1m]) / 60",
    "critical": f"min by (bot) (min_over_time(timestamp({CRITICAL})[{DAY - ONSET}m:1m])) / 60",
}
QUERIED_AT_ONCE = 3  # bots in a query: promtool's engine holds 10,000 samples


@dataclass(frozen=True, slots=True)
class Bot:
    """A day of a bot: its kind, and the seed it is made from."""

    kind: str
    shape: Shape
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"


def notation(values: Sequence[float]) -> str:
    """Write values in promtool's notation: `2x3` is 2 four times."""
    runs = ((value, sum(1 for _ in run)) for value, run in groupby(values))
    return " ".join(f"{value:g}x{count - 1}" for value, count in runs)


def series(bot: Bot) -> Iterator[Mapping[str, str]]:
    day = published(bot.shape(Random(f"{bot.kind} {bot.seed}")))
    label = f'bot="{bot.name}"'
    for name, values in (
        (f"bot_up{{{label}}}", day.up),
        (f"bot_health_score{{{label}}}", day.score),
        (f"bot_probe_failure_streak{{{label}}}", day.streak),
        (f'bot_probe_duration_seconds{{{label},endpoint="health"}}', day.seconds),
    ):
        yield {"series": name, "values": notation(values)}
    yield {"series": f"bot_probe_last_timestamp_seconds{{{label}}}", "values": f"0+60x{DAY}"}


def groups() -> Iterator[dict[str, Any]]:
    """Yield the groups with the rules that count here alone: evaluation is what takes time."""
    for name in ("bots", "trends"):
        for group in yaml.safe_load((ALERTS / f"rules-{name}.yml").read_text())["groups"]:
            rules = [rule for rule in group["rules"] if "record" in rule or rule["alert"] in WATCHED]
            if group["name"] != "baselines":
                yield {"name": group["name"], "rules": rules}


def replay(bots: Sequence[Bot]) -> dict[str, dict[str, float]]:
    """Replay these days; returns by query a number a bot."""
    settings = {
        'bot_health_score_threshold{level="low"}': 50,
        'bot_health_score_threshold{level="critical"}': 20,
        "bot_probe_failure_streak_threshold": 3,
        "bot_probe_timeout_seconds": TIMEOUT,
    }
    names = [bot.name for bot in bots]
    groups_of_names = [
        "|".join(names[at : at + QUERIED_AT_ONCE]) for at in range(0, len(names), QUERIED_AT_ONCE)
    ]
    queries = {
        query: [expr.replace("BOTS", group) for group in groups_of_names] for query, expr in QUERIES.items()
    }
    test = {
        "interval": "1m",
        "input_series": [
            *({"series": name, "values": f"{value}x{DAY}"} for name, value in settings.items()),
            *(row for bot in bots for row in series(bot)),
        ],
        # Nothing is expected, so that promtool tells what there is.
        "promql_expr_test": [
            {"expr": expr, "eval_time": f"{DAY - 1}m", "exp_samples": []}
            for part in queries.values()
            for expr in part
        ],
    }
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "replay.yml")
        path.write_text(json.dumps(document))
        Path(folder, "rules.yml").write_text(yaml.safe_dump({"groups": list(groups())}))
        done = subprocess.run(
            [binaries.find("promtool"), "test", "rules", path], capture_output=True, text=True, check=False
        )
    output = done.stdout + done.stderr
    if "err:" in output or not ("SUCCESS" in output or "FAILED:" in output):
        raise RuntimeError(output[:2000])
    return {
        query: {bot: value for expr in part for bot, value in samples_of(expr, output)}
        for query, part in queries.items()
    }


def samples_of(expr: str, output: str) -> Iterator[tuple[str, float]]:
    """Yield the samples that promtool got for an expression and did not expect, by bot."""
    rest = output.partition(f"expr: {json.dumps(expr)}")[2]
    samples = rest.partition("got:")[2].partition("\n")[0].replace("\\", "") if rest else ""
    for bot, value in re.findall(r'bot="([^"]+)"[^{]*} ([\d.E+-]+)', samples):
        yield bot, float(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", type=int, default=100, help="days of each kind of healthy noise")
    parser.add_argument("--declines", type=int, default=20, help="days of each kind of decline")
    parser.add_argument("--kinds", nargs="*", help="these kinds only (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    options = parse_options(parser, {"healthy": 1, "declines": 1, "kinds": QUICK_KINDS})
    kinds = [(HEALTHY, options.healthy), (NO_TREND, options.declines), (DECLINES, options.declines)]
    bots = [
        Bot(kind, shape, options.seed + number)
        for shapes, count in kinds
        for kind, shape in shapes.items()
        if not options.kinds or kind in options.kinds
        for number in range(count)
    ]
    chunks = [bots[at : at + AT_ONCE] for at in range(0, len(bots), AT_ONCE)]
    answers: dict[str, dict[str, float]] = {query: {} for query in QUERIES}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in pool.map(replay, chunks):
            for query, values in part.items():
                answers[query] |= values
    return report(bots, answers)


def report(bots: Sequence[Bot], answers: Mapping[str, Mapping[str, float]]) -> int:
    alarms, predicted, critical = answers["alarms"], answers["predicted"], answers["critical"]
    leads: list[float] = []
    caught = declined = 0
    say(f"{'kind':22} {'days':>5} {'alarms':>7} {'failed':>7} {'caught':>7} {'lead':>5}")
    for kind, group in groupby(bots, key=lambda bot: bot.kind):
        names = [bot.name for bot in group]
        failed = [name for name in names if name in critical and kind in DECLINES]
        early = [critical[name] - predicted[name] for name in failed if name in predicted]
        early = [lead for lead in early if lead >= EARLY]
        if kind in DECLINES:
            declined, caught = declined + len(failed), caught + len(early)
            leads += early
        say(
            f"{kind:22} {len(names):5} {sum(alarms.get(name, 0) for name in names):7g} "
            f"{len(failed):7} {len(early):7} {median(early) if early else 0:5g}"
        )

    def alarm_rate(shapes: Mapping[str, Shape]) -> float:
        names = [bot.name for bot in bots if bot.kind in shapes]
        return round(1000 * sum(alarms.get(name, 0) for name in names) / max(1, len(names)), 3)

    false_alarms, caught_share = alarm_rate(HEALTHY), round(caught / max(1, declined), 3)
    figures = {
        "bot_days_healthy": sum(bot.kind in HEALTHY for bot in bots),
        "false_alarms_per_1000_bot_days": false_alarms,
        "alarms_per_1000_bot_days_ill_without_trend": alarm_rate(NO_TREND),
        "declines": declined,
        "caught_share": caught_share,
        "median_lead_minutes": median(leads) if leads else None,
    }
    say(json.dumps(figures))
    return 0 if false_alarms <= MOST_FALSE_ALARMS and caught_share >= LEAST_CAUGHT else 1


if __name__ == "__main__":
    sys.exit(main())
