"""Every series the exporter publishes: name, type, help, labels and unit, written once."""

from dataclasses import dataclass
from typing import Literal

ENDPOINTS = ("health", "mesh")
COMPONENTS = ("health", "mesh", "latency", "streak")
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family. Prints as its name, so a query can be written as an f-string."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    def __str__(self) -> str:
        return self.name


# One bot: `bot` is the only identifying label.
BOT_UP = Family("bot_up", "gauge", "1 if the bot's last /health probe was ok, else 0.", ("bot",))
BOT_HEALTH_SCORE = Family(
    "bot_health_score", "gauge", "Health of the bot from 0 (dead) to 100 (all well).", ("bot",), "points"
)
BOT_HEALTH_COMPONENT_SCORE = Family(
    "bot_health_component_score",
    "gauge",
    "Points of the health score by component: health 30, mesh 20, latency 20, streak 30 at most.",
    ("bot", "component"),
    "points",
)
BOT_PROBE_DURATION_SECONDS = Family(
    "bot_probe_duration_seconds",
    "gauge",
    "How long the last probe of the endpoint took until its answer or its failure.",
    ("bot", "endpoint"),
    "seconds",
)
BOT_PROBE_FAILURE_STREAK = Family(
    "bot_probe_failure_streak", "gauge", "Consecutive failed /health probes of the bot.", ("bot",), "probes"
)
BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS = Family(
    "bot_probe_last_success_timestamp_seconds",
    "gauge",
    "When /health was last ok; absent until it was.",
    ("bot",),
    "unix seconds",
)
BOT_PROBE_LAST_TIMESTAMP_SECONDS = Family(
    "bot_probe_last_timestamp_seconds", "gauge", "When the bot was last probed.", ("bot",), "unix seconds"
)
BOT_MESH_UP = Family(
    "bot_mesh_up",
    "gauge",
    "1 if the bot's last /mesh probe was ok, else 0; only where it has a mesh.",
    ("bot",),
)
BOT_MESH_PEERS_UP_RATIO = Family(
    "bot_mesh_peers_up_ratio",
    "gauge",
    "Share of the bot's mesh peers that are up; only where the bot lists them.",
    ("bot",),
    "ratio",
)
BOT_INFO = Family(
    "bot_info",
    "gauge",
    "What is known about the bot, always 1; version is empty until the bot tells it.",
    ("bot", "template", "environment", "instance_id", "version"),
)
BOT_PROBE_FAILURE_INFO = Family(
    "bot_probe_failure_info",
    "gauge",
    "Why the endpoint fails, always 1; present only while it fails.",
    ("bot", "endpoint", "reason"),
)
BOT_CONFIG_INFO = Family(
    "bot_config_info",
    "gauge",
    "The configuration the bot says it runs, always 1; only where it tells.",
    ("bot", "config_sha"),
)
BOT_CONTEXT_USAGE_RATIO = Family(
    "bot_context_usage_ratio",
    "gauge",
    "Share of the model's context window in use; only where the bot tells.",
    ("bot",),
    "ratio",
)
BOT_EVENT_LOOP_USAGE_RATIO = Family(
    "bot_event_loop_usage_ratio",
    "gauge",
    "Share of time in which the bot's event loop is busy; only where it tells, as OpenClaw's /ready.",
    ("bot",),
    "ratio",
)
BOT_USAGE_REQUESTS_TOTAL = Family(
    "bot_usage_requests_total",
    "counter",
    "Calls of the model that succeeded; only where the bot tells.",
    ("bot",),
    "requests",
)
BOT_USAGE_FAILED_TOTAL = Family(
    "bot_usage_failed_total",
    "counter",
    "Calls of the model that failed, by kind; only where the bot tells.",
    ("bot", "kind"),
    "requests",
)
BOT_USAGE_INPUT_TOKENS_TOTAL = Family(
    "bot_usage_input_tokens_total",
    "counter",
    "Tokens the bot has read; only where it tells.",
    ("bot",),
    "tokens",
)
BOT_USAGE_OUTPUT_TOKENS_TOTAL = Family(
    "bot_usage_output_tokens_total",
    "counter",
    "Tokens the bot has written; only where it tells.",
    ("bot",),
    "tokens",
)
BOT_CHANNEL_UP = Family(
    "bot_channel_up",
    "gauge",
    "1 if the bot's channel, such as telegram, is up, else 0; only those that it tells.",
    ("bot", "channel"),
)
BOT_MEMORY_BYTES = Family(
    "bot_memory_bytes",
    "gauge",
    "Resident memory of the bot's process; only where it tells.",
    ("bot",),
    "bytes",
)
BOT_TURN_AGE_SECONDS = Family(
    "bot_turn_age_seconds",
    "gauge",
    "Age of the oldest turn still running, 0 without one; only where the bot tells.",
    ("bot",),
    "seconds",
)
BOT_RESTARTS_TOTAL = Family(
    "bot_restarts_total",
    "counter",
    "Restarts of the bot seen, by a changed started_at or boot_id; only where it tells one.",
    ("bot",),
    "restarts",
)

# One template.
BOT_FLEET_PROBE_DURATION_SECONDS = Family(
    "bot_fleet_probe_duration_seconds",
    "histogram",
    "How long probes took, by template.",
    ("template", "endpoint"),
    "seconds",
)
BOT_FLEET_PROBES_TOTAL = Family(
    "bot_fleet_probes_total", "counter", "Probes made, by template.", ("template", "endpoint")
)
BOT_FLEET_PROBE_FAILURES_TOTAL = Family(
    "bot_fleet_probe_failures_total",
    "counter",
    "Probes that failed, by template and reason.",
    ("template", "endpoint", "reason"),
)

# The settings, so that rules and dashboards read the same numbers.
BOT_HEALTH_SCORE_THRESHOLD = Family(
    "bot_health_score_threshold",
    "gauge",
    "Score below which a bot is low (people are told) or critical (it is recovered).",
    ("level",),
    "points",
)
BOT_PROBE_FAILURE_STREAK_THRESHOLD = Family(
    "bot_probe_failure_streak_threshold",
    "gauge",
    "Consecutive failures from which a critical bot is recovered.",
    (),
    "probes",
)
BOT_PROBE_INTERVAL_SECONDS = Family(
    "bot_probe_interval_seconds",
    "gauge",
    "Time between two probes of a bot; the longest where bots differ.",
    (),
    "seconds",
)
BOT_PROBE_TIMEOUT_SECONDS = Family(
    "bot_probe_timeout_seconds", "gauge", "Time an endpoint has to answer.", (), "seconds"
)

# The exporter itself; process_* and python_info come from prometheus-client's own collectors.
BOT_EXPORTER_TARGETS = Family("bot_exporter_targets", "gauge", "Bots being probed.", (), "bots")
BOT_EXPORTER_TARGETS_INVALID = Family(
    "bot_exporter_targets_invalid", "gauge", "Targets refused at the last load.", (), "targets"
)
BOT_EXPORTER_PROBES_IN_FLIGHT = Family(
    "bot_exporter_probes_in_flight", "gauge", "Probes running now.", (), "probes"
)
BOT_EXPORTER_PROBES_SKIPPED_TOTAL = Family(
    "bot_exporter_probes_skipped_total",
    "counter",
    "Probes not made as the bot's previous one still ran, or for want of descriptors.",
)
BOT_EXPORTER_SCHEDULE_LAG_SECONDS = Family(
    "bot_exporter_schedule_lag_seconds",
    "histogram",
    "How long after its slot a probe started.",
    (),
    "seconds",
)
BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESSFUL = Family(
    "bot_exporter_config_last_reload_successful",
    "gauge",
    "1 if every source of targets was read and valid at the last load, else 0.",
)
BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS = Family(
    "bot_exporter_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When every source of targets was last read and valid.",
    (),
    "unix seconds",
)
BOT_EXPORTER_SHARD = Family("bot_exporter_shard", "gauge", "Which shard this exporter is, from 0.")
BOT_EXPORTER_SHARDS = Family("bot_exporter_shards", "gauge", "How many exporters share the fleet.")
BOT_EXPORTER_BUILD_INFO = Family(
    "bot_exporter_build_info", "gauge", "Version of the exporter, always 1.", ("version", "python")
)

PER_BOT = (
    BOT_UP,
    BOT_HEALTH_SCORE,
    BOT_HEALTH_COMPONENT_SCORE,
    BOT_PROBE_DURATION_SECONDS,
    BOT_PROBE_FAILURE_STREAK,
    BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS,
    BOT_PROBE_LAST_TIMESTAMP_SECONDS,
    BOT_MESH_UP,
    BOT_MESH_PEERS_UP_RATIO,
    BOT_INFO,
    BOT_PROBE_FAILURE_INFO,
    BOT_CONFIG_INFO,
    BOT_CONTEXT_USAGE_RATIO,
    BOT_EVENT_LOOP_USAGE_RATIO,
    BOT_MEMORY_BYTES,
    BOT_TURN_AGE_SECONDS,
    BOT_CHANNEL_UP,
    BOT_USAGE_REQUESTS_TOTAL,
    BOT_USAGE_FAILED_TOTAL,
    BOT_USAGE_INPUT_TOKENS_TOTAL,
    BOT_USAGE_OUTPUT_TOKENS_TOTAL,
    BOT_RESTARTS_TOTAL,
)
PER_TEMPLATE = (
    BOT_FLEET_PROBE_DURATION_SECONDS,
    BOT_FLEET_PROBES_TOTAL,
    BOT_FLEET_PROBE_FAILURES_TOTAL,
)
SETTINGS = (
    BOT_HEALTH_SCORE_THRESHOLD,
    BOT_PROBE_FAILURE_STREAK_THRESHOLD,
    BOT_PROBE_INTERVAL_SECONDS,
    BOT_PROBE_TIMEOUT_SECONDS,
)
SELF = (
    BOT_EXPORTER_TARGETS,
    BOT_EXPORTER_TARGETS_INVALID,
    BOT_EXPORTER_PROBES_IN_FLIGHT,
    BOT_EXPORTER_PROBES_SKIPPED_TOTAL,
    BOT_EXPORTER_SCHEDULE_LAG_SECONDS,
    BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESSFUL,
    BOT_EXPORTER_CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS,
    BOT_EXPORTER_SHARD,
    BOT_EXPORTER_SHARDS,
    BOT_EXPORTER_BUILD_INFO,
)
ALL = PER_BOT + PER_TEMPLATE + SETTINGS + SELF
