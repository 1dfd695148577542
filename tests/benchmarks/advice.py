"""How long it takes to advise a fleet. `make bench BENCH=advice` (ARGS="--bots 200" for a smaller one).

A month of each of 1,000 bots, a point each five minutes of CPU (peak and mean) and memory, of all the shapes
in `usages.py`, is summed up and advised; the advice is compared with what is right. Sorting the same points
once is what any exact quantile of them costs here: `ratio` is to that, measured in the same run. Then what
`GET /cost` and a scrape compute for as many bots. The last line is a JSON object; the exit code is 1 where it
takes longer than ten seconds, or an advice is wrong.
"""

import argparse
import json
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from random import Random

sys.path[0] = str(Path(__file__).parents[2])  # this folder's names would hide packages

from remediator.api.cost.views import cost_view
from remediator.configuration.rendering import render
from remediator.cost.estimate import Rate, estimate, parts_of
from remediator.cost.exposition import samples
from remediator.cost.price_table import shipped
from remediator.cost.rightsizing import advise
from remediator.cost.snapshot import CostSnapshot
from remediator.cost.utilization import POINTS_A_DAY, WINDOW_DAYS
from remediator.model import Bot
from templates import load
from tests.benchmarks.common import parse_options
from tests.benchmarks.usages import WORKLOADS, Recorded

MOST_SECONDS = 10.0
DAYS = 30
PRICES = shipped("us-west-1")


def main() -> int:
    """Advise a fleet; 1 where that takes too long or an advice is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=1000, help="of the fleet (default: %(default)s)")
    count = parse_options(parser, {"bots": 2 * len(WORKLOADS)}).bots
    templates = load()
    random = Random(1)
    kinds = list(islice(cycle(WORKLOADS), count))
    names = list(islice(cycle(templates.names), count))
    advising = sorting = 0.0
    wrong = points = 0
    # One bot at a time, as its points would come from Prometheus: a month of all of them is 26 million.
    for kind, template in zip(kinds, names, strict=True):
        recorded = WORKLOADS[kind].make(random, DAYS * POINTS_A_DAY)
        current = templates.get(template, "production").instance_type
        points += 3 * len(recorded.memory)
        began = time.perf_counter()
        advice = advise("bot", current, recorded.usage(), PRICES)
        advising += time.perf_counter() - began
        sorting += floor(recorded)
        wrong += (advice.target or current) != WORKLOADS[kind].needs
    figures = {
        "bots": count,
        "days": DAYS,
        "points": points,
        "seconds": round(advising, 3),
        "sorting_seconds": round(sorting, 3),
        "ratio": round(advising / sorting, 2),
        "wrong": wrong,
        **publish(count),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if advising <= MOST_SECONDS and not wrong else 1


def floor(recorded: Recorded) -> float:
    """Return the seconds for sorting the two weeks that count."""
    last = WINDOW_DAYS * POINTS_A_DAY
    began = time.perf_counter()
    for values in (recorded.cpu_peak, recorded.cpu_mean, recorded.memory):
        sorted(values[-last:])
    return time.perf_counter() - began


def publish(count: int) -> dict[str, float]:
    """Measure the seconds for what people and Prometheus see of as many bots."""
    now = 1_795_000_000.0
    config, sha = render("x", "production", load().get("support", "production"))
    bots = [make_bot(f"bot-{number}", dict(config), sha, now) for number in range(count)]
    estimates = {bot.name: estimate(parts_of(bot.config), PRICES) for bot in bots}
    rates = [
        Rate(bot.name, bot.template, bot.environment, component, now - 86400, None, usd)
        for bot in bots
        for component, usd in estimates[bot.name].usd_per_hour.items()
    ]
    snapshot = CostSnapshot(now, PRICES, bots, estimates, rates, [], [], [], [])
    began = time.perf_counter()
    cost_view(snapshot)
    viewed = time.perf_counter()
    samples(snapshot)
    return {
        "cost_seconds": round(viewed - began, 3),
        "scrape_seconds": round(time.perf_counter() - viewed, 3),
    }


def make_bot(name: str, config: dict[str, object], sha: str, now: float) -> Bot:
    return Bot(
        name, "support", "production", "active", "127.0.0.1:1", "/health", "/mesh", "i-0", config, sha,
        None, None, "", None, None, 0, now, now,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
