"""Every series the remediator exposes: name, type, labels, help text, once."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from remediator.model import TIERS, IgnoreReason

RECOVER_OUTCOMES: Final = ("recovered", "unneeded", "resolved", "escalated", "cancelled", "shadowed")
DEPLOYMENT_KINDS: Final = ("deploy", "redeploy", "retire", "adopt")
DEPLOY_OUTCOMES: Final = ("deployed", "failed")
ATTEMPT_OUTCOMES: Final = ("cured", "not_cured", "failed")
DEPENDENT: Final = ("deaf", "mute", "stuck")  # symptoms that what many bots need can have
IGNORED: Final = get_args(IgnoreReason)
REFRESH_OUTCOMES: Final = ("refreshed", "failed")
SCALING_OUTCOMES: Final = ("begun", "shadowed", "proposed", "refused")
LAUNCH_FAULTS: Final = ("throttled", "transient", "capacity", "denied", "refused", "gone")
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
TIME_TO_RECOVER = Series(
    "bot_remediation_time_to_recover_seconds",
    "histogram",
    "From the start of a recovered bot's oldest alert to its proven health. Manual recoveries are not in it.",
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
    "Share of bots that the newest census of the fleet gate found ill.",
)
FLEET_LIMIT = Series(
    "bot_remediation_fleet_unhealthy_ratio_limit", "gauge", "Share of ill bots above which nothing is done."
)
DEPENDENCY = Series(
    "bot_remediation_dependency_active",
    "gauge",
    "1 while too many bots show the symptom at once, so that none is acted on for it.",
    ("symptom",),
)
TURN_LIMIT = Series(
    "bot_remediation_turn_age_limit_seconds", "gauge", "Age from which a turn that still runs is stuck."
)
PENDING_UPDATES = Series(
    "bot_remediator_pending_updates",
    "gauge",
    "Updates that wait for the bot at the channel, as the remediator last asked there.",
    ("bot", "channel"),
)
QUEUE_STALLED = Series(
    "bot_remediator_pending_updates_stalled",
    "gauge",
    "1 while updates waited at three looks, and never fewer than the time before.",
    ("bot", "channel"),
)
TOKEN_REFUSED = Series(
    "bot_remediator_channel_token_refused",
    "gauge",
    "1 while the channel refuses the bot's token.",
    ("bot", "channel"),
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
DEPLOYMENT_PROGRESS = Series(
    "bot_deployment_progress_ratio", "gauge", "How far a deployment under way is.", ("bot", "kind")
)
DEPLOYMENT_DURATION = Series(
    "bot_deployment_duration_seconds", "histogram", "From the start of a deployment to its end.", ("kind",)
)
ROLLOUT_ACTIVE = Series("bot_rollout_active", "gauge", "1 while a rolling update goes on.", ("rollout",))
ROLLOUT_PROGRESS = Series(
    "bot_rollout_progress_ratio",
    "gauge",
    "Share of its bots that a rolling update is done with.",
    ("rollout",),
)
BUILD_INFO = Series("bot_remediator_build_info", "gauge", "1, with the version.", ("version", "python"))

# What it costs, from the price table and the usage that bots report. What has no known price has no series.
COST = Series(
    "bot_cost_usd_per_hour",
    "gauge",
    "What the bot costs an hour, by component: instance, volume, address, burst. Absent where unknown.",
    ("bot", "component"),
)
COST_UNKNOWN = Series(
    "bot_cost_unknown", "gauge", "1 while a component of the bot has no known price.", ("bot", "component")
)
MODEL_COST = Series(
    "bot_model_cost_usd_total",
    "counter",
    "What the bot's requests to the model have cost, since they are counted.",
    ("bot", "model"),
)
PRICES_DATE = Series(
    "bot_cost_prices_timestamp_seconds",
    "gauge",
    "Date of the prices that costs are computed from.",
    ("source",),
)
PRICE_REFRESHES = Series(
    "bot_cost_price_refreshes_total", "counter", "Times the AWS pricing API was asked.", ("outcome",)
)
BUDGET = Series("bot_budget_usd", "gauge", "What may be spent in a month.", ("scope", "name"))
BUDGET_SPENT = Series("bot_budget_spent_usd", "gauge", "What was spent this month.", ("scope", "name"))
BUDGET_PROJECTED = Series(
    "bot_budget_projected_usd",
    "gauge",
    "What will have been spent at the end of the month, at today's rate.",
    ("scope", "name"),
)
SAVING = Series(
    "bot_recommendation_monthly_saving_usd",
    "gauge",
    "What following the recommendation would save a month; negative where it costs more.",
    ("bot", "kind"),
)
INSTANCE_VCPUS = Series(
    "bot_instance_vcpus",
    "gauge",
    "vCPUs of the bot's instance: what CloudWatch's shares are shares of.",
    ("bot", "instance_id"),
)
INSTANCE_MEMORY = Series(
    "bot_instance_memory_bytes",
    "gauge",
    "Memory of the bot's instance, without what the kernel keeps for itself.",
    ("bot", "instance_id"),
)

# Scaling of groups of bots: a template in an environment.
SCALING_BOTS = Series(
    "bot_scaling_bots", "gauge", "Bots of a group that scales.", ("template", "environment")
)
SCALING_CAPACITY = Series(
    "bot_scaling_capacity_ratio",
    "gauge",
    "The lesser of the group's healthy share and what is left of its capacity.",
    ("template", "environment"),
)
SCALING_TARGET = Series(
    "bot_scaling_target_ratio", "gauge", "Capacity below which the group grows.", ("template", "environment")
)
SCALINGS = Series(
    "bot_scalings_total",
    "counter",
    "Decisions to scale, by what became of them.",
    ("direction", "outcome"),
)

CONFIG_VERSION = Series("bot_config_version", "gauge", "Number of the configuration the bot runs.", ("bot",))
ROLLBACKS = Series("bot_config_rollbacks_total", "counter", "Rollbacks that people asked for.")
DRIFT = Series(
    "bot_config_drift",
    "gauge",
    "1 while this is otherwise than it was declared, as the observer last saw it.",
    ("bot", "field"),
)
DRIFT_LOOKED = Series(
    "bot_config_drift_last_look_timestamp_seconds", "gauge", "When the observer of drift last saw the fleet."
)

LAUNCHED = Series(
    "bot_instance_launch_timestamp_seconds",
    "gauge",
    "When the bot's instance was launched or last started, as the observer of drift saw it.",
    ("bot",),
)
LAUNCH_ERRORS = Series(
    "bot_launch_errors_total", "counter", "Launches that EC2 did not carry out, by why.", ("kind",)
)
ORPHANS = Series(
    "bot_orphan_instances", "gauge", "Instances that are tagged as ours, and that no bot and no run claims."
)

COST_SERIES: Final = (
    COST,
    COST_UNKNOWN,
    MODEL_COST,
    PRICES_DATE,
    BUDGET,
    BUDGET_SPENT,
    BUDGET_PROJECTED,
    SAVING,
    INSTANCE_VCPUS,
    INSTANCE_MEMORY,
)
"""As the cost worker last made them."""

SERIES: Final = (
    RUNS,
    ATTEMPTS,
    DURATION,
    TIME_TO_RECOVER,
    ACTIVE,
    BLOCKED,
    BLOCKED_TOTAL,
    STORM,
    FLEET_RATIO,
    FLEET_LIMIT,
    DEPENDENCY,
    TURN_LIMIT,
    PENDING_UPDATES,
    QUEUE_STALLED,
    TOKEN_REFUSED,
    QUARANTINED,
    ALERTS,
    ALERTS_IGNORED,
    ALERTS_TRUNCATED,
    MANAGED,
    NOTIFICATIONS,
    DEPLOYMENT_PROGRESS,
    DEPLOYMENT_DURATION,
    ROLLOUT_ACTIVE,
    ROLLOUT_PROGRESS,
    BUILD_INFO,
    PRICE_REFRESHES,
    SCALINGS,
    CONFIG_VERSION,
    ROLLBACKS,
    DRIFT,
    DRIFT_LOOKED,
    LAUNCHED,
    LAUNCH_ERRORS,
    ORPHANS,
    *COST_SERIES,
    SCALING_BOTS,
    SCALING_CAPACITY,
    SCALING_TARGET,
)


Samples = Sequence[tuple[tuple[str, ...], float]]
"""Values of labels, and the value."""


def _counter(series: Series, registry: CollectorRegistry) -> Counter:
    return Counter(series.name, series.help, series.labels, registry=registry)


@dataclass(frozen=True, slots=True)
class StateCollector(Collector):
    """The series of what is so at the moment of a scrape: each a gauge or counter with all of its samples."""

    samples: Mapping[Series, Samples]

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each series, also for one without samples."""
        for series, samples in self.samples.items():
            kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
            family = kind(series.name, series.help, labels=series.labels)
            for labels, value in samples:
                family.add_metric(labels, value)
            yield family


class Metrics:
    """Counters and histograms in memory. What is so now is read by a scrape: `StateCollector`."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.runs = _counter(RUNS, registry)
        self.attempts = _counter(ATTEMPTS, registry)
        self.duration = Histogram(
            DURATION.name, DURATION.help, DURATION.labels, buckets=DURATION_BUCKETS, registry=registry
        )
        self.time_to_recover = Histogram(
            TIME_TO_RECOVER.name, TIME_TO_RECOVER.help, buckets=DURATION_BUCKETS, registry=registry
        )
        self.deployment_duration = Histogram(
            DEPLOYMENT_DURATION.name,
            DEPLOYMENT_DURATION.help,
            DEPLOYMENT_DURATION.labels,
            buckets=(*DURATION_BUCKETS, 3600),
            registry=registry,
        )
        self.blocked = _counter(BLOCKED_TOTAL, registry)
        self.alerts = _counter(ALERTS, registry)
        self.ignored = _counter(ALERTS_IGNORED, registry)
        self.truncated = _counter(ALERTS_TRUNCATED, registry)
        self.notifications = _counter(NOTIFICATIONS, registry)
        self.rollbacks = _counter(ROLLBACKS, registry)
        self.price_refreshes = _counter(PRICE_REFRESHES, registry)
        self.scalings = _counter(SCALINGS, registry)
        self.launch_errors = _counter(LAUNCH_ERRORS, registry)
        info = Gauge(BUILD_INFO.name, BUILD_INFO.help, BUILD_INFO.labels, registry=registry)
        info.labels(version, platform.python_version()).set(1)
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """Make every counter's series: one that appears with its first event hides it from `increase()`.

        Those of the gates and of the channels to people are made by the gatekeeper and the notifier.
        """
        for kind in DEPLOYMENT_KINDS:
            self.deployment_duration.labels(kind)
        deployments = [(kind, DEPLOY_OUTCOMES) for kind in ("deploy", "redeploy")]
        deployments += [("adopt", ("adopted", "failed")), ("retire", ("retired", "failed"))]
        for kind, outcomes in (("recover", RECOVER_OUTCOMES), *deployments):
            self.duration.labels(kind)
            for outcome in outcomes:
                self.runs.labels(kind, outcome)
        for tier in TIERS:
            for outcome in ATTEMPT_OUTCOMES:
                self.attempts.labels(tier, outcome)
        for reason in IGNORED:
            self.ignored.labels(reason)
        for status in ("firing", "resolved"):
            self.alerts.labels(status)
        for kind in LAUNCH_FAULTS:
            self.launch_errors.labels(kind)
        for outcome in REFRESH_OUTCOMES:
            self.price_refreshes.labels(outcome)
        for direction in ("out", "in"):
            for outcome in SCALING_OUTCOMES:
                self.scalings.labels(direction, outcome)
