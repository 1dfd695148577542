"""PromQL of the fleet's dashboard.

Series are named by the modules that publish them, or by a recording rule.
"""

from typing import Final

from dashboards.error_budget import ALERTS as BUDGET_ALERTS
from dashboards.error_budget import BUDGET, PERIOD, recorded
from dashboards.queries.selection import (
    CHOSEN,
    INTERVAL,
    PREDICTED,
    RANGE,
    count_chosen,
    mean_per_bot,
    of_chosen,
    or_zero,
    per_bot,
)
from exporter.metrics import (
    BOT_FLEET_PROBE_DURATION_SECONDS,
    BOT_FLEET_PROBE_FAILURES_TOTAL,
    BOT_FLEET_PROBES_TOTAL,
    BOT_HEALTH_SCORE,
    BOT_INFO,
    BOT_PROBE_DURATION_SECONDS,
    BOT_PROBE_FAILURE_INFO,
    BOT_PROBE_FAILURE_STREAK,
    BOT_PROBE_INTERVAL_SECONDS,
    BOT_PROBE_LAST_TIMESTAMP_SECONDS,
    BOT_PROBE_TIMEOUT_SECONDS,
    BOT_UP,
)
from exporter.score import DEGRADED, MINOR
from remediator.metrics import RUNS

BAND_COUNT: Final = "environment_template:bot_health_score:count"

SCORE: Final = per_bot(BOT_HEALTH_SCORE)
STREAK: Final = per_bot(BOT_PROBE_FAILURE_STREAK)
# The condition of the alert BotProbeStale.
STALE: Final = (
    f"time() - {per_bot(BOT_PROBE_LAST_TIMESTAMP_SECONDS)} > "
    f"3 * (scalar(max({BOT_PROBE_INTERVAL_SECONDS})) + scalar(max({BOT_PROBE_TIMEOUT_SECONDS})))"
)

BOTS: Final = or_zero(f"count({CHOSEN})")
HEALTHY_BOTS: Final = count_chosen(f"{SCORE} >= {MINOR:g}")
DEGRADED_BOTS: Final = count_chosen(f"{SCORE} >= {DEGRADED:g} < {MINOR:g}")
CRITICAL_BOTS: Final = count_chosen(f"{SCORE} < {DEGRADED:g}")
STALE_BOTS: Final = count_chosen(STALE)
# `|` lets alerts through that are about no bot: the fleet's and the watchers'.
FIRING: Final = or_zero(
    'count(ALERTS{alertname=~"Bot.+",alertstate="firing",environment=~"$environment|",template=~"$template|",'
    'bot=~"$bot|"})'
)

SCORES: Final = of_chosen(SCORE)
RECOVERED_TODAY: Final = f'sum(round(increase({RUNS.name}{{kind="recover",outcome="recovered"}}[1d])))'
AVAILABILITY: Final = f"avg({of_chosen(mean_per_bot(BOT_UP, RANGE))})"
WORST: Final = f"bottomk(10, {of_chosen(mean_per_bot(BOT_HEALTH_SCORE, RANGE))})"

# The table of the fleet: a column a query, a row a bot.
# Points that are lost, half of those about to be, and the failures in a row.
URGENCY: Final = of_chosen(
    f"100 - {SCORE} + 0.5 * clamp_min({SCORE} - ({PREDICTED} or {SCORE}), 0) + {STREAK}"
)
STREAKS: Final = of_chosen(STREAK)
P95: Final = of_chosen(
    f'max by (bot) (quantile_over_time(0.95, {BOT_PROBE_DURATION_SECONDS}{{endpoint="health"}}[1h]))'
)
PREDICTIONS: Final = of_chosen(PREDICTED)
# One row a bot, also where two exporters disagree about it.
REASONS: Final = of_chosen(
    f'topk by (bot) (1, group by (bot, reason) ({BOT_PROBE_FAILURE_INFO}{{endpoint="health"}}))'
)
VERSIONS: Final = of_chosen(f"topk by (bot) (1, group by (bot, template, version) ({BOT_INFO}))")

# The error budget.
_OF_TEMPLATE: Final = '{endpoint="health",template=~"$template"}'
BUDGET_LEFT: Final = (
    f"1 - sum by (template) (increase({BOT_FLEET_PROBE_FAILURES_TOTAL}{_OF_TEMPLATE}[{PERIOD}]))"
    f" / (sum by (template) (increase({BOT_FLEET_PROBES_TOTAL}{_OF_TEMPLATE}[{PERIOD}])) > 0) / {BUDGET}"
)
FAST, SLOW = BUDGET_ALERTS

BANDS: Final = f'sum by (band) ({BAND_COUNT}{{environment=~"$environment",template=~"$template"}})'
LATENCIES: Final = of_chosen(per_bot(BOT_PROBE_DURATION_SECONDS, '{endpoint="health"}'))
LATENCY_BUCKETS: Final = (
    f"sum by (le) (increase({BOT_FLEET_PROBE_DURATION_SECONDS}_bucket"
    f'{{template=~"$template",endpoint="health"}}[{INTERVAL}]))'
)
FAILURES: Final = (
    f'sum by (reason) (increase({BOT_FLEET_PROBE_FAILURES_TOTAL}{{template=~"$template"}}[{INTERVAL}])) > 0'
)
# The value is the bot's streak of failed /health probes.
FAILING: Final = of_chosen(
    f"max by (bot, endpoint, reason) ({BOT_PROBE_FAILURE_INFO}) * on (bot) group_left () {STREAK}"
)


def burning(level: str, window: str) -> str:
    """Return how many times as fast as allowed the budget burnt over the window."""
    chosen = '{template=~"$template"}' if level == "template" else ""
    return f"{recorded(level, window)}{chosen} / {BUDGET}"


def latency_quantile(quantile: float) -> str:
    """Return the quantile of /health's latency over the chosen templates, in seconds."""
    return (
        f"histogram_quantile({quantile}, sum by (le) (rate({BOT_FLEET_PROBE_DURATION_SECONDS}_bucket"
        f'{{template=~"$template",endpoint="health"}}[{INTERVAL}])))'
    )
