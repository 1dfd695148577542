"""PromQL of the dashboard of one bot, which `$bot` names."""

from typing import Final

from dashboards.error_budget import BUDGET, PERIOD
from dashboards.queries.selection import INTERVAL, OF_BOT, PREDICTED, RANGE, or_zero, per_bot
from exporter.metrics import (
    BOT_CHANNEL_UP,
    BOT_CONFIG_INFO,
    BOT_CONTEXT_USAGE_RATIO,
    BOT_HEALTH_COMPONENT_SCORE,
    BOT_HEALTH_SCORE,
    BOT_INFO,
    BOT_MEMORY_BYTES,
    BOT_MESH_PEERS_UP_RATIO,
    BOT_MESH_UP,
    BOT_PROBE_DURATION_SECONDS,
    BOT_PROBE_FAILURE_INFO,
    BOT_PROBE_FAILURE_STREAK,
    BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS,
    BOT_RESTARTS_TOTAL,
    BOT_TURN_AGE_SECONDS,
    BOT_UP,
    BOT_USAGE_FAILED_TOTAL,
    BOT_USAGE_INPUT_TOKENS_TOTAL,
    BOT_USAGE_OUTPUT_TOKENS_TOTAL,
    BOT_USAGE_REQUESTS_TOTAL,
)
from remediator.metrics import ACTIVE, BLOCKED, DRIFT, QUARANTINED

SCORE: Final = per_bot(BOT_HEALTH_SCORE, f"{{{OF_BOT}}}")
STREAK: Final = per_bot(BOT_PROBE_FAILURE_STREAK, f"{{{OF_BOT}}}")
SILENCE: Final = f"time() - {per_bot(BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS, f'{{{OF_BOT}}}')}"
AVAILABILITY: Final = f"max by (bot) (avg_over_time({BOT_UP}{{{OF_BOT}}}[{RANGE}]))"
FIRING: Final = or_zero(f'count(ALERTS{{alertstate="firing",{OF_BOT}}})')
INFO: Final = f"group by (bot, template, environment, instance_id, version) ({BOT_INFO}{{{OF_BOT}}})"
COMPONENTS: Final = f"max by (component) ({BOT_HEALTH_COMPONENT_SCORE}{{{OF_BOT}}})"
LATENCY: Final = f"max by (endpoint) ({BOT_PROBE_DURATION_SECONDS}{{{OF_BOT}}})"
UP: Final = f"max by (bot) ({BOT_UP}{{{OF_BOT}}})"
MESH: Final = f"max by (bot) ({BOT_MESH_UP}{{{OF_BOT}}})"
PEERS: Final = f"max by (bot) ({BOT_MESH_PEERS_UP_RATIO}{{{OF_BOT}}})"
REASONS: Final = f"max by (endpoint, reason) ({BOT_PROBE_FAILURE_INFO}{{{OF_BOT}}})"
RUNS: Final = f"max by (kind, tier) ({ACTIVE.name}{{{OF_BOT}}})"
GATES: Final = f"max by (reason) ({BLOCKED.name}{{{OF_BOT}}})"
QUARANTINE: Final = f"max by (bot) ({QUARANTINED.name}{{{OF_BOT}}})"
ALERTS: Final = f'max by (alertname, alertstate) (ALERTS{{alertstate!="",{OF_BOT}}})'
SCORE_PREDICTED: Final = f"{PREDICTED}{{{OF_BOT}}}"
LATENCY_PREDICTED: Final = f"bot:bot_probe_duration_seconds:predicted1h{{{OF_BOT}}}"
BUDGET_LEFT: Final = f"1 - (1 - max by (bot) (avg_over_time({BOT_UP}{{{OF_BOT}}}[{PERIOD}]))) / {BUDGET}"
RESTARTS: Final = f"max by (bot) (round(increase({BOT_RESTARTS_TOTAL}{{{OF_BOT}}}[{INTERVAL}])))"
CONTEXT: Final = f"max by (bot) ({BOT_CONTEXT_USAGE_RATIO}{{{OF_BOT}}})"
REQUESTS: Final = f"max by (bot) (rate({BOT_USAGE_REQUESTS_TOTAL}{{{OF_BOT}}}[{INTERVAL}]))"
TOKENS_IN: Final = f"max by (bot) (increase({BOT_USAGE_INPUT_TOKENS_TOTAL}{{{OF_BOT}}}[{INTERVAL}]))"
TOKENS_OUT: Final = f"max by (bot) (increase({BOT_USAGE_OUTPUT_TOKENS_TOTAL}{{{OF_BOT}}}[{INTERVAL}]))"
FAILED: Final = f"max by (kind) (increase({BOT_USAGE_FAILED_TOTAL}{{{OF_BOT}}}[{INTERVAL}]))"
CHANNELS: Final = f"max by (channel) ({BOT_CHANNEL_UP}{{{OF_BOT}}})"
MEMORY: Final = f"max by (bot) ({BOT_MEMORY_BYTES}{{{OF_BOT}}})"
TURN_AGE: Final = f"max by (bot) ({BOT_TURN_AGE_SECONDS}{{{OF_BOT}}})"
VERSIONS: Final = f"max by (version) ({BOT_INFO}{{{OF_BOT}}})"
CONFIGS: Final = f"max by (config_sha) ({BOT_CONFIG_INFO}{{{OF_BOT}}})"
DRIFTED: Final = f"max by (field) ({DRIFT.name}{{{OF_BOT}}})"


def latency_quantile(quantile: float, window: str) -> str:
    """Return the quantile of the bot's /health latency over the window, in seconds."""
    series = f'{BOT_PROBE_DURATION_SECONDS}{{endpoint="health",{OF_BOT}}}'
    return f"max by (bot) (quantile_over_time({quantile}, {series}[{window}]))"
