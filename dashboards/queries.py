"""PromQL, apart from panels. Series are named by the modules that publish them, or by a recording rule.

Everything about a bot is filtered by `CHOSEN`: the bots that match the dashboard's variables. It is joined
with `and on (bot)`, because the series of a bot carry no environment or template, and because a bot without
`bot_info` must not drop out.
"""

from typing import Final

from dashboards.budget import ALERTS as BUDGET_ALERTS
from dashboards.budget import BUDGET, PERIOD, recorded
from exporter.metrics import (
    BOT_CONFIG_INFO,
    BOT_CONTEXT_USAGE_RATIO,
    BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESSFUL,
    BOT_EXPORTER_PROBES_IN_FLIGHT,
    BOT_EXPORTER_PROBES_SKIPPED_TOTAL,
    BOT_EXPORTER_SCHEDULE_LAG_SECONDS,
    BOT_EXPORTER_SHARD,
    BOT_EXPORTER_SHARDS,
    BOT_EXPORTER_TARGETS,
    BOT_EXPORTER_TARGETS_INVALID,
    BOT_FLEET_PROBE_DURATION_SECONDS,
    BOT_FLEET_PROBE_FAILURES_TOTAL,
    BOT_FLEET_PROBES_TOTAL,
    BOT_HEALTH_COMPONENT_SCORE,
    BOT_HEALTH_SCORE,
    BOT_INFO,
    BOT_MESH_PEERS_UP_RATIO,
    BOT_MESH_UP,
    BOT_PROBE_DURATION_SECONDS,
    BOT_PROBE_FAILURE_INFO,
    BOT_PROBE_FAILURE_STREAK,
    BOT_PROBE_INTERVAL_SECONDS,
    BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS,
    BOT_PROBE_LAST_TIMESTAMP_SECONDS,
    BOT_PROBE_TIMEOUT_SECONDS,
    BOT_RESTARTS_TOTAL,
    BOT_UP,
    BOT_USAGE_INPUT_TOKENS_TOTAL,
    BOT_USAGE_OUTPUT_TOKENS_TOTAL,
    BOT_USAGE_REQUESTS_TOTAL,
)
from remediator.metrics import (
    ACTIVE,
    ALERTS,
    ALERTS_IGNORED,
    ATTEMPTS,
    BLOCKED,
    BLOCKED_TOTAL,
    DRIFT,
    FLEET_LIMIT,
    FLEET_RATIO,
    NOTIFICATIONS,
    QUARANTINED,
    RUNS,
    STORM,
    TIME_TO_RECOVER,
)

INTERVAL: Final = "$__rate_interval"
SHOWN: Final = "$__range"  # all of the time that is shown
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


def _per_bot_over(series: object, window: str) -> str:
    """The mean over a window, as the exporter that sees the bot best has it."""
    return f"max by (bot) (avg_over_time({series}[{window}]))"


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
RECOVERED_TODAY: Final = f'sum(round(increase({RUNS.name}{{kind="recover",outcome="recovered"}}[1d])))'
AVAILABILITY: Final = f"avg({of_chosen(_per_bot_over(BOT_UP, SHOWN))})"
WORST: Final = f"bottomk(10, {of_chosen(_per_bot_over(BOT_HEALTH_SCORE, SHOWN))})"

# The table of the fleet: a column a query, a row a bot.
PREDICTED: Final = "bot:bot_health_score:predicted1h"
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
TIERS_RUNNING: Final = f'group by (bot, tier) ({ACTIVE.name}{{kind="recover",bot=~"$bot"}})'

# What annotations mark on every panel.
RECOVERING: Final = f'max by (bot, tier) ({ACTIVE.name}{{kind="recover",tier!="",bot=~"$bot"}})'
DEPLOYING: Final = f'max by (bot) ({ACTIVE.name}{{kind="deploy",bot=~"$bot"}})'

# The error budget.
_OF_TEMPLATE: Final = '{endpoint="health",template=~"$template"}'
BUDGET_LEFT: Final = (
    f"1 - sum by (template) (increase({BOT_FLEET_PROBE_FAILURES_TOTAL}{_OF_TEMPLATE}[{PERIOD}]))"
    f" / (sum by (template) (increase({BOT_FLEET_PROBES_TOTAL}{_OF_TEMPLATE}[{PERIOD}])) > 0) / {BUDGET}"
)
FAST, SLOW = BUDGET_ALERTS
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


def burning(level: str, window: str) -> str:
    """How many times as fast as allowed the budget burnt over the window."""
    chosen = '{template=~"$template"}' if level == "template" else ""
    return f"{recorded(level, window)}{chosen} / {BUDGET}"


def latency_quantile(quantile: float) -> str:
    return (
        f"histogram_quantile({quantile}, sum by (le) (rate({BOT_FLEET_PROBE_DURATION_SECONDS}_bucket"
        f'{{template=~"$template",endpoint="health"}}[{INTERVAL}])))'
    )


# One bot.

ONE: Final = 'bot=~"$bot"'
ONE_SCORE: Final = _per_bot(BOT_HEALTH_SCORE, f"{{{ONE}}}")
ONE_STREAK: Final = _per_bot(BOT_PROBE_FAILURE_STREAK, f"{{{ONE}}}")
ONE_SILENCE: Final = f"time() - {_per_bot(BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS, f'{{{ONE}}}')}"
ONE_AVAILABILITY: Final = f"max by (bot) (avg_over_time({BOT_UP}{{{ONE}}}[{SHOWN}]))"
ONE_FIRING: Final = or_zero(f'count(ALERTS{{alertstate="firing",{ONE}}})')
ONE_INFO: Final = f"group by (bot, template, environment, instance_id, version) ({BOT_INFO}{{{ONE}}})"
ONE_COMPONENTS: Final = f"max by (component) ({BOT_HEALTH_COMPONENT_SCORE}{{{ONE}}})"
ONE_LATENCY: Final = f"max by (endpoint) ({BOT_PROBE_DURATION_SECONDS}{{{ONE}}})"
ONE_UP: Final = f"max by (bot) ({BOT_UP}{{{ONE}}})"
ONE_MESH: Final = f"max by (bot) ({BOT_MESH_UP}{{{ONE}}})"
ONE_PEERS: Final = f"max by (bot) ({BOT_MESH_PEERS_UP_RATIO}{{{ONE}}})"
ONE_REASONS: Final = f"max by (endpoint, reason) ({BOT_PROBE_FAILURE_INFO}{{{ONE}}})"
ONE_RUNS: Final = f"max by (kind, tier) ({ACTIVE.name}{{{ONE}}})"
ONE_GATES: Final = f"max by (reason) ({BLOCKED.name}{{{ONE}}})"
ONE_QUARANTINE: Final = f"max by (bot) ({QUARANTINED.name}{{{ONE}}})"
ONE_ALERTS: Final = f'max by (alertname, alertstate) (ALERTS{{alertstate!="",{ONE}}})'

ONE_PREDICTED: Final = f"{PREDICTED}{{{ONE}}}"
ONE_LATENCY_PREDICTED: Final = f"bot:bot_probe_duration_seconds:predicted1h{{{ONE}}}"
ONE_BUDGET: Final = f"1 - (1 - max by (bot) (avg_over_time({BOT_UP}{{{ONE}}}[{PERIOD}]))) / {BUDGET}"
ONE_RESTARTS: Final = f"max by (bot) (round(increase({BOT_RESTARTS_TOTAL}{{{ONE}}}[{INTERVAL}])))"
ONE_CONTEXT: Final = f"max by (bot) ({BOT_CONTEXT_USAGE_RATIO}{{{ONE}}})"
ONE_REQUESTS: Final = f"max by (bot) (rate({BOT_USAGE_REQUESTS_TOTAL}{{{ONE}}}[{INTERVAL}]))"
ONE_TOKENS_IN: Final = f"max by (bot) (increase({BOT_USAGE_INPUT_TOKENS_TOTAL}{{{ONE}}}[{INTERVAL}]))"
ONE_TOKENS_OUT: Final = f"max by (bot) (increase({BOT_USAGE_OUTPUT_TOKENS_TOTAL}{{{ONE}}}[{INTERVAL}]))"
ONE_VERSIONS: Final = f"max by (version) ({BOT_INFO}{{{ONE}}})"
ONE_CONFIGS: Final = f"max by (config_sha) ({BOT_CONFIG_INFO}{{{ONE}}})"


ONE_DRIFT: Final = f"max by (field) ({DRIFT.name}{{{ONE}}})"


def one_latency_quantile(quantile: float, window: str) -> str:
    series = f'{BOT_PROBE_DURATION_SECONDS}{{endpoint="health",{ONE}}}'
    return f"max by (bot) (quantile_over_time({quantile}, {series}[{window}]))"


# Recoveries.


def runs(kind: str, outcome: str) -> str:
    """How many runs ended so in the time shown. `round`: `increase` extrapolates."""
    return f'sum(round(increase({RUNS.name}{{kind="{kind}",outcome="{outcome}"}}[{SHOWN}])))'


def time_to_recover(quantile: float) -> str:
    """From the fault to health."""
    buckets = f"sum by (le) (increase({TIME_TO_RECOVER.name}_bucket[{SHOWN}]))"
    return f"histogram_quantile({quantile}, {buckets})"


TIER_SUCCESS: Final = (
    f'sum by (tier) (increase({ATTEMPTS.name}{{outcome="cured"}}[{SHOWN}]))'
    f" / (sum by (tier) (increase({ATTEMPTS.name}[{SHOWN}])) > 0)"
)
RECOVERY_SECONDS: Final = f"sum by (le) (increase({TIME_TO_RECOVER.name}_bucket[{INTERVAL}]))"
DEPLOYED: Final = f'sum by (outcome) (increase({RUNS.name}{{kind="deploy"}}[{INTERVAL}])) > 0'
RUNNING_BY_TIER: Final = f"sum by (kind, tier) ({ACTIVE.name})"
GATES: Final = f"sum by (reason) (increase({BLOCKED_TOTAL.name}[{INTERVAL}])) > 0"
ILL: Final = f"max({FLEET_RATIO.name})"
ILL_LIMIT: Final = f"max({FLEET_LIMIT.name})"
INTAKE: Final = f"sum by (status) (increase({ALERTS.name}[{INTERVAL}]))"
IGNORED: Final = f"sum by (reason) (increase({ALERTS_IGNORED.name}[{INTERVAL}])) > 0"
MESSAGES: Final = f"sum by (channel, outcome) (increase({NOTIFICATIONS.name}[{INTERVAL}])) > 0"


def counted(vector: str) -> str:
    return or_zero(f"count({vector})")


# The watchers.

JOBS: Final = 'job=~"bot-exporter|bot-remediator|prometheus|alertmanager"'
UP: Final = f"max by (job) (up{{{JOBS}}})"
WATCHDOG: Final = 'max(ALERTS{alertname="Watchdog",alertstate="firing"})'
WATCHDOG_AGE: Final = 'time() - max(timestamp(ALERTS{alertname="Watchdog",alertstate="firing"}))'
OLDEST_PROBE: Final = f"max(time() - {_per_bot(BOT_PROBE_LAST_TIMESTAMP_SECONDS)})"
SHARDS: Final = f"max({BOT_EXPORTER_SHARDS})"
SHARDS_SEEN: Final = f'count(count_values("shard", {BOT_EXPORTER_SHARD}))'
TARGETS: Final = f"sum({BOT_EXPORTER_TARGETS})"
INVALID: Final = f"sum({BOT_EXPORTER_TARGETS_INVALID})"
RELOADED: Final = f"min({BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESSFUL})"
IN_FLIGHT: Final = f"sum({BOT_EXPORTER_PROBES_IN_FLIGHT})"
SKIPPED: Final = f"sum(increase({BOT_EXPORTER_PROBES_SKIPPED_TOTAL}[{INTERVAL}]))"
SCRAPES: Final = f"max by (job) (scrape_duration_seconds{{{JOBS}}})"
CPU: Final = f"sum by (job) (rate(process_cpu_seconds_total{{{JOBS}}}[{INTERVAL}]))"
MEMORY: Final = f"sum by (job) (process_resident_memory_bytes{{{JOBS}}})"
RULE_FAILURES: Final = (
    f"sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[{INTERVAL}]))"
)
RULE_SECONDS: Final = "max by (rule_group) (prometheus_rule_group_last_duration_seconds)"
DROPPED: Final = f"sum(increase(prometheus_notifications_dropped_total[{INTERVAL}]))"
SENT: Final = f"sum by (integration) (increase(alertmanager_notifications_total[{INTERVAL}])) > 0"
# Alertmanager counts for every integration there is, at 0 those that are not configured.
UNSENT: Final = (
    "sum by (integration) (increase(alertmanager_notifications_failed_total"
    f'{{integration=~"webhook|telegram"}}[{INTERVAL}]))'
)
DELIVERY: Final = (
    "histogram_quantile(0.99, sum by (le, integration) "
    f'(rate(alertmanager_notification_latency_seconds_bucket{{integration=~"webhook|telegram"}}[{INTERVAL}])))'
)
ACTIVE_ALERTS: Final = "max by (state) (alertmanager_alerts)"


def lag(quantile: float) -> str:
    buckets = f"sum by (le) (rate({BOT_EXPORTER_SCHEDULE_LAG_SECONDS}_bucket[{INTERVAL}]))"
    return f"histogram_quantile({quantile}, {buckets})"
