"""PromQL, apart from panels. Series are named by the modules that publish them, or by a recording rule.

Everything about a bot is filtered by `CHOSEN`: the bots that match the dashboard's variables. It is joined
with `and on (bot)`, because the series of a bot carry no environment or template, and because a bot without
`bot_info` must not drop out.
"""

from typing import Final

from exporter.metrics import (
    BOT_FLEET_PROBE_DURATION_SECONDS,
    BOT_FLEET_PROBE_FAILURES_TOTAL,
    BOT_HEALTH_SCORE,
    BOT_PROBE_DURATION_SECONDS,
    BOT_PROBE_FAILURE_INFO,
    BOT_PROBE_FAILURE_STREAK,
    BOT_PROBE_INTERVAL_SECONDS,
    BOT_PROBE_LAST_TIMESTAMP_SECONDS,
    BOT_PROBE_TIMEOUT_SECONDS,
)
from remediator.metrics import ACTIVE, ATTEMPTS, BLOCKED, QUARANTINED, RUNS, STORM

INTERVAL: Final = "$__rate_interval"
CHOSEN: Final = 'bot:bot_info:identity{environment=~"$environment",template=~"$template",bot=~"$bot"}'
BAND_COUNT: Final = "environment_template:bot_health_score:count"


def of_chosen(vector: str) -> str:
    """A vector with a `bot` label, kept for the bots that were chosen."""
    return f"({vector}) and on (bot) {CHOSEN}"


def or_zero(number: str) -> str:
    """A number that is 0 where there is nothing to count; `count` of nothing is nothing."""
    return f"({number}) or vector(0)"


def count(vector: str) -> str:
    return or_zero(f"count({of_chosen(vector)})")


def _per_bot(series: object, matchers: str = "") -> str:
    """One value a bot, whichever exporter it came from: what the alerts do."""
    return f"max by (bot) ({series}{matchers})"


SCORE: Final = _per_bot(BOT_HEALTH_SCORE)
STREAK: Final = _per_bot(BOT_PROBE_FAILURE_STREAK)
# The condition of the alert BotProbeStale.
STALE: Final = (
    f"time() - {_per_bot(BOT_PROBE_LAST_TIMESTAMP_SECONDS)} > "
    f"3 * (scalar(max({BOT_PROBE_INTERVAL_SECONDS})) + scalar(max({BOT_PROBE_TIMEOUT_SECONDS})))"
)

BOTS: Final = or_zero(f"count({CHOSEN})")
HEALTHY: Final = count(f"{SCORE} >= 70")
DEGRADED: Final = count(f"{SCORE} >= 30 < 70")
CRITICAL: Final = count(f"{SCORE} < 30")
STALE_BOTS: Final = count(STALE)
# `|` lets alerts through that are about no bot: the fleet's and the watchers'.
FIRING: Final = or_zero(
    'count(ALERTS{alertname=~"Bot.+",alertstate="firing",environment=~"$environment|",template=~"$template|",'
    'bot=~"$bot|"})'
)

SCORES: Final = of_chosen(SCORE)
BANDS: Final = f'sum by (band) ({BAND_COUNT}{{environment=~"$environment",template=~"$template"}})'
LATENCIES: Final = of_chosen(_per_bot(BOT_PROBE_DURATION_SECONDS, '{endpoint="health"}'))
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

RECOVERED: Final = f'sum by (outcome) (increase({RUNS.name}{{kind="recover"}}[{INTERVAL}])) > 0'
TIERS: Final = f"sum by (tier, outcome) (increase({ATTEMPTS.name}[{INTERVAL}])) > 0"
HELD_BACK: Final = f"max({STORM.name})"
# Not joined: a bot that is being deployed is not known to the exporter yet.
RUNNING: Final = f'max by (bot, kind, tier) ({ACTIVE.name}{{bot=~"$bot"}}) == 1'
WAITING: Final = f'max by (bot, reason) ({BLOCKED.name}{{bot=~"$bot"}}) == 1'
GIVEN_UP: Final = f'max by (bot) ({QUARANTINED.name}{{bot=~"$bot"}}) == 1'


def latency_quantile(quantile: float) -> str:
    return (
        f"histogram_quantile({quantile}, sum by (le) (rate({BOT_FLEET_PROBE_DURATION_SECONDS}_bucket"
        f'{{template=~"$template",endpoint="health"}}[{INTERVAL}])))'
    )
