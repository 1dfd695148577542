"""The bots' series as columns: which family each belongs to, and its number in an observation."""

from dataclasses import dataclass

from exporter import metrics
from exporter.metrics import Family
from exporter.observation import Observation
from exporter.result import NOT_ASKED, Reason
from exporter.targets import Target

ABSENT = -1.0  # no series for this bot; nothing we publish is negative
REASONS = tuple(Reason)


def escape(value: str) -> str:
    """Escape a label's value, as both exposition formats do."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@dataclass(frozen=True, slots=True)
class Column:
    """One number a bot: a series `family{bot="…"` + `labels` + `} number`."""

    family: Family
    labels: str = ""


def _by(family: Family, label: str, values: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(Column(family, f',{label}="{value}"') for value in values)


# The first few change with each probe, the others seldom.
NUMBERS = (
    *_by(metrics.BOT_PROBE_DURATION_SECONDS, "endpoint", metrics.ENDPOINTS),
    Column(metrics.BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS),
    Column(metrics.BOT_PROBE_LAST_TIMESTAMP_SECONDS),
    Column(metrics.BOT_UP),
    Column(metrics.BOT_HEALTH_SCORE),
    *_by(metrics.BOT_HEALTH_COMPONENT_SCORE, "component", metrics.COMPONENTS),
    Column(metrics.BOT_PROBE_FAILURE_STREAK),
    Column(metrics.BOT_MESH_UP),
    Column(metrics.BOT_MESH_PEERS_UP_RATIO),
    Column(metrics.BOT_CONTEXT_USAGE_RATIO),
    Column(metrics.BOT_EVENT_LOOP_USAGE_RATIO),
    Column(metrics.BOT_MEMORY_BYTES),
    Column(metrics.BOT_TURN_AGE_SECONDS),
    Column(metrics.BOT_USAGE_REQUESTS_TOTAL),
    Column(metrics.BOT_USAGE_INPUT_TOKENS_TOTAL),
    Column(metrics.BOT_USAGE_OUTPUT_TOKENS_TOTAL),
    Column(metrics.BOT_RESTARTS_TOTAL),
)
CHANGING = 4
NOTHING = (ABSENT,) * len(NUMBERS)


def numbers(observation: Observation) -> tuple[float, ...]:
    """Return the numbers of an observation, in the order of `NUMBERS`."""
    result, score, state, facts = observation
    health, mesh = result.health, result.mesh
    peers, event_loop = result.peers_up_ratio, result.event_loop_ratio
    return (
        round(health.seconds, 6),
        ABSENT if mesh is NOT_ASKED else round(mesh.seconds, 6),
        ABSENT if state.last_success is None else round(state.last_success, 3),
        round(result.at, 3),
        1.0 if health.ok else 0.0,
        ABSENT if state.score is None else state.score,
        *score,  # in the order of COMPONENTS
        float(state.streak),
        ABSENT if mesh is NOT_ASKED else 1.0 if mesh.ok else 0.0,
        ABSENT if peers is None else round(peers, 4),
        ABSENT if facts.context_usage is None else round(facts.context_usage, 4),
        ABSENT if event_loop is None else round(event_loop, 4),
        ABSENT if facts.memory_bytes is None else facts.memory_bytes,
        ABSENT if facts.turn_age_seconds is None else round(facts.turn_age_seconds, 3),
        ABSENT if facts.requests is None else facts.requests,
        ABSENT if facts.input_tokens is None else facts.input_tokens,
        ABSENT if facts.output_tokens is None else facts.output_tokens,
        ABSENT if state.started_at is None and state.boot_id is None else float(state.restarts),
    )


def failures(observation: Observation) -> tuple[int, int]:
    """Return for each endpoint the index of its reason in `REASONS` plus one; 0 is a success."""
    health, mesh = observation.result.health.reason, observation.result.mesh.reason
    return (
        0 if health is None else REASONS.index(health) + 1,
        0 if mesh is None else REASONS.index(mesh) + 1,
    )


def info_labels(target: Target, version: str) -> str:
    """Return the labels of `bot_info` after `bot`, as text."""
    return (
        f',template="{escape(target.template)}",environment="{escape(target.environment)}"'
        f',instance_id="{escape(target.instance_id)}",version="{escape(version)}"'
    )
