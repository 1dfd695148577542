"""The health score of a bot, 0 to 100. Pure: a probe's result and the failure streak in, points out."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from exporter.result import NOT_ASKED, ProbeResult

HEALTH_POINTS = 30.0
MESH_POINTS = 20.0
LATENCY_POINTS = 20.0
STREAK_POINTS = 30.0

Band = Literal["operational", "minor", "degraded", "critical"]
# The score from which on a bot is in the band; below `DEGRADED` it is critical.
OPERATIONAL: Final = 100.0
MINOR: Final = 70.0
DEGRADED: Final = 30.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits of the score and of its alerts: points, `streak` in probes, latencies in seconds."""

    low: float = 50
    critical: float = 20
    streak: int = 3
    latency_full: float = 0.5
    latency_zero: float = 5.0


class Score(NamedTuple):
    """Points by component; their sum is the score."""

    health: float
    mesh: float
    latency: float
    streak: float

    @property
    def total(self) -> float:
        return round(self.health + self.mesh + self.latency + self.streak, 2)


def next_streak(streak: int, result: ProbeResult) -> int:
    """Return the consecutive /health failures once `result` is counted."""
    return 0 if result.health.ok else streak + 1


def score(result: ProbeResult, streak: int, thresholds: Thresholds) -> Score:
    """Return the points for a probe; `streak` already counts it.

    Speed is worth points only in an answer that is ok: a bot that quickly answers 500 to everything
    would otherwise stay at 20 and never count as critical. For the same reason the points for the mesh go
    with /health where the bot has no mesh.
    """
    health = result.health
    return Score(
        health=HEALTH_POINTS if health.ok else 0.0,
        mesh=_mesh_points(result),
        latency=_latency_points(health.seconds, thresholds) if health.ok else 0.0,
        streak=round(STREAK_POINTS * (1 - min(streak, thresholds.streak) / thresholds.streak), 2),
    )


def band(total: float) -> Band:
    """Return the band of a score."""
    if total >= OPERATIONAL:
        return "operational"
    if total >= MINOR:
        return "minor"
    if total >= DEGRADED:
        return "degraded"
    return "critical"


def _mesh_points(result: ProbeResult) -> float:
    """Return the points for an answer that is ok, times the share of its peers that are up."""
    if not (result.health if result.mesh is NOT_ASKED else result.mesh).ok:
        return 0.0
    peers = result.peers_up_ratio
    return MESH_POINTS if peers is None else round(MESH_POINTS * peers, 2)


def _latency_points(seconds: float, thresholds: Thresholds) -> float:
    if seconds <= thresholds.latency_full:
        return LATENCY_POINTS
    if seconds >= thresholds.latency_zero:
        return 0.0
    width = thresholds.latency_zero - thresholds.latency_full
    return round(LATENCY_POINTS * (thresholds.latency_zero - seconds) / width, 2)
