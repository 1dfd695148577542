"""The text of the exposition format (version 0.0.4): headers, numbers, escaped labels, and a bot's lines."""

from exporter import metrics
from exporter.metrics import Family
from exporter.observation import Observation
from exporter.targets import Target

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def header(family: Family) -> str:
    escaped = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.name} {escaped}\n# TYPE {family.name} {family.type}\n"


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def sample(family: Family, value: float, *labels: str) -> str:
    """One line; `labels` in the order of `family.labels`."""
    pairs = ",".join(f'{name}="{escape(label)}"' for name, label in zip(family.labels, labels, strict=True))
    return f"{family.name}{{{pairs}}} {number(float(value))}\n"


def bot_lines(target: Target, seen: Observation | None) -> tuple[str, ...]:
    """The bot's lines, one string for each family of `metrics.PER_BOT`; before its first probe info alone."""
    bot = target.bot
    version = seen.version if seen else ""
    info = sample(metrics.BOT_INFO, 1, bot, target.template, target.environment, target.instance_id, version)
    if seen is None:
        return tuple(info if family is metrics.BOT_INFO else "" for family in metrics.PER_BOT)
    result, score = seen.result, seen.score
    health, mesh, peers = result.health, result.mesh, result.peers_up_ratio
    return (
        sample(metrics.BOT_UP, health.ok, bot),
        sample(metrics.BOT_HEALTH_SCORE, score.total, bot),
        "".join(
            sample(metrics.BOT_HEALTH_COMPONENT_SCORE, getattr(score, component), bot, component)
            for component in metrics.COMPONENTS
        ),
        sample(metrics.BOT_PROBE_DURATION_SECONDS, round(health.seconds, 6), bot, "health")
        + sample(metrics.BOT_PROBE_DURATION_SECONDS, round(mesh.seconds, 6), bot, "mesh"),
        sample(metrics.BOT_PROBE_FAILURE_STREAK, seen.streak, bot),
        ""
        if seen.last_success is None
        else sample(metrics.BOT_PROBE_LAST_SUCCESS_TIMESTAMP_SECONDS, round(seen.last_success, 3), bot),
        sample(metrics.BOT_PROBE_LAST_TIMESTAMP_SECONDS, round(result.at, 3), bot),
        sample(metrics.BOT_MESH_UP, mesh.ok, bot),
        "" if peers is None else sample(metrics.BOT_MESH_PEERS_UP_RATIO, round(peers, 4), bot),
        info,
        "".join(
            sample(metrics.BOT_PROBE_FAILURE_INFO, 1, bot, endpoint, answer.reason)
            for endpoint, answer in (("health", health), ("mesh", mesh))
            if answer.reason is not None
        ),
    )
