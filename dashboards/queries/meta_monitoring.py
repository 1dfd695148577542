"""PromQL about the monitoring itself: exporters, remediator, Prometheus and Alertmanager."""

from typing import Final

from dashboards.queries.selection import INTERVAL, per_bot
from exporter.metrics import (
    BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESSFUL,
    BOT_EXPORTER_PROBES_IN_FLIGHT,
    BOT_EXPORTER_PROBES_SKIPPED_TOTAL,
    BOT_EXPORTER_SCHEDULE_LAG_SECONDS,
    BOT_EXPORTER_SHARD,
    BOT_EXPORTER_SHARDS,
    BOT_EXPORTER_TARGETS,
    BOT_EXPORTER_TARGETS_INVALID,
    BOT_PROBE_LAST_TIMESTAMP_SECONDS,
)

JOBS: Final = 'job=~"bot-exporter|bot-remediator|prometheus|alertmanager"'
UP: Final = f"max by (job) (up{{{JOBS}}})"
WATCHDOG: Final = 'max(ALERTS{alertname="Watchdog",alertstate="firing"})'
WATCHDOG_AGE: Final = 'time() - max(timestamp(ALERTS{alertname="Watchdog",alertstate="firing"}))'
OLDEST_PROBE: Final = f"max(time() - {per_bot(BOT_PROBE_LAST_TIMESTAMP_SECONDS)})"
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
    """Return the quantile of how late probes started, in seconds."""
    buckets = f"sum by (le) (rate({BOT_EXPORTER_SCHEDULE_LAG_SECONDS}_bucket[{INTERVAL}]))"
    return f"histogram_quantile({quantile}, {buckets})"
