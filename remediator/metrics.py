"""Every series the remediator exposes: name, type, labels, help text, once."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily

TIERS: Final = ("restart", "reboot", "redeploy")
RECOVER_OUTCOMES: Final = ("recovered", "unneeded", "resolved", "escalated", "cancelled", "shadowed")
DEPLOY_OUTCOMES: Final = ("deployed", "failed")
ATTEMPT_OUTCOMES: Final = ("cured", "not_cured", "failed")
GATES: Final = ("paused", "silenced", "sight", "fleet", "in_flight", "rate", "mode")
IGNORED: Final = (
    "no_auto_remediation",
    "no_bot_label",
    "unknown_bot",
    "quarantined",
    "already_handled",
    "malformed",
)
DURATION_BUCKETS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 180, 300, 600, 900, 1800)


@dataclass(frozen=True, slots=True)
class Series:
    """A metric as people see it; `name` is the exposed one (with `_total` for a counter)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


RUNS = Series("bot_remediation_runs_total", "counter", "Runs that ended, by outcome.", ("kind", "outcome"))
ATTEMPTS = Series(
    "bot_remediation_attempts_total",
    "counter",
    "Recovery tiers tried, by what the verification saw.",
    ("tier", "outcome"),
)
DURATION = Series(
    "bot_remediation_duration_seconds", "histogram", "From the start of a run to its end.", ("kind",)
)
ACTIVE = Series(
    "bot_remediation_active",
    "gauge",
    "1 while a run is active; tier is empty before the first action.",
    ("bot", "kind", "tier"),
)
BLOCKED = Series("bot_remediation_blocked", "gauge", "1 while a run waits at a gate.", ("bot", "reason"))
BLOCKED_TOTAL = Series(
    "bot_remediation_blocked_total", "counter", "Times a gate began to hold a run back.", ("reason",)
)
STORM = Series(
    "bot_remediation_storm_active", "gauge", "1 while the fleet gate holds automatic recovery back."
)
FLEET_RATIO = Series(
    "bot_remediation_fleet_unhealthy_ratio",
    "gauge",
    "Share of bots found ill when the fleet gate last looked.",
)
FLEET_LIMIT = Series(
    "bot_remediation_fleet_unhealthy_ratio_limit", "gauge", "Share of ill bots above which nothing is done."
)
QUARANTINED = Series(
    "bot_quarantined", "gauge", "1 from an escalation until a person recovers or redeploys the bot.", ("bot",)
)
ALERTS = Series(
    "bot_remediator_alerts_total",
    "counter",
    "Alerts received from Alertmanager, resends included.",
    ("status",),
)
ALERTS_IGNORED = Series(
    "bot_remediator_alerts_ignored_total",
    "counter",
    "Firing alerts that led to no run, and why.",
    ("reason",),
)
ALERTS_TRUNCATED = Series(
    "bot_remediator_alerts_truncated_total",
    "counter",
    "Alerts that Alertmanager left out of a payload (max_alerts).",
)
MANAGED = Series("bot_remediator_managed_bots", "gauge", "Bots in the registry.")
NOTIFICATIONS = Series(
    "bot_remediator_notifications_total", "counter", "Messages to people.", ("channel", "outcome")
)
BUILD_INFO = Series("bot_remediator_build_info", "gauge", "1, with the version.", ("version", "python"))

SERIES: Final = (
    RUNS,
    ATTEMPTS,
    DURATION,
    ACTIVE,
    BLOCKED,
    BLOCKED_TOTAL,
    STORM,
    FLEET_RATIO,
    FLEET_LIMIT,
    QUARANTINED,
    ALERTS,
    ALERTS_IGNORED,
    ALERTS_TRUNCATED,
    MANAGED,
    NOTIFICATIONS,
    BUILD_INFO,
)


def _counter(series: Series, registry: CollectorRegistry) -> Counter:
    return Counter(series.name, series.help, series.labels, registry=registry)


def _gauge(series: Series, registry: CollectorRegistry) -> Gauge:
    return Gauge(series.name, series.help, series.labels, registry=registry)


def family(series: Series, samples: Iterable[tuple[str, ...]]) -> GaugeMetricFamily:
    """A gauge that is 1 for each of the label tuples, made from state at the time of a scrape."""
    made = GaugeMetricFamily(series.name, series.help, labels=series.labels)
    for labels in samples:
        made.add_metric(labels, 1)
    return made


class Metrics:
    """Counters and gauges kept in memory. What is state (active, blocked, quarantined) is read at scrape."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.runs = _counter(RUNS, registry)
        self.attempts = _counter(ATTEMPTS, registry)
        self.duration = Histogram(
            DURATION.name, DURATION.help, DURATION.labels, buckets=DURATION_BUCKETS, registry=registry
        )
        self.blocked = _counter(BLOCKED_TOTAL, registry)
        self.storm = _gauge(STORM, registry)
        self.fleet_ratio = _gauge(FLEET_RATIO, registry)
        self.fleet_limit = _gauge(FLEET_LIMIT, registry)
        self.alerts = _counter(ALERTS, registry)
        self.ignored = _counter(ALERTS_IGNORED, registry)
        self.truncated = _counter(ALERTS_TRUNCATED, registry)
        self.notifications = _counter(NOTIFICATIONS, registry)
        _gauge(BUILD_INFO, registry).labels(version, platform.python_version()).set(1)
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """A counter that appears with its first event hides it from `increase()`."""
        for kind, outcomes in (("recover", RECOVER_OUTCOMES), ("deploy", DEPLOY_OUTCOMES)):
            self.duration.labels(kind)
            for outcome in outcomes:
                self.runs.labels(kind, outcome)
        for tier in TIERS:
            for outcome in ATTEMPT_OUTCOMES:
                self.attempts.labels(tier, outcome)
        for gate in GATES:
            self.blocked.labels(gate)
        for reason in IGNORED:
            self.ignored.labels(reason)
        for status in ("firing", "resolved"):
            self.alerts.labels(status)
        for outcome in ("sent", "failed"):
            self.notifications.labels("telegram", outcome)
