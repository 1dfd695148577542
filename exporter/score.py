"""The health score of a bot, 0 to 100. Pure: what a probe saw and the failure streak in, points out."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from exporter.answer import ProbeResult

HEALTH_POINTS = 30.0
MESH_POINTS = 20.0
LATENCY_POINTS = 20.0
STREAK_POINTS = 30.0

Band = Literal["operational", "minor", "degraded", "critical"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`low` and `critical` are points, `streak` is probes, latencies are seconds."""

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
    """Consecutive /health failures once `result` is counted."""
    return 0 if result.health.ok else streak + 1


def score(result: ProbeResult, streak: int, thresholds: Thresholds) -> Score:
    """Points for a probe; `streak` already counts it.

    Speed is worth points only in an answer that is ok: a bot that quickly says 500 to everything
    would otherwise stay at 20 and never count as critical.
    """
    health = result.health
    peers = result.peers_up_ratio
    return Score(
        health=HEALTH_POINTS if health.ok else 0.0,
        mesh=round(MESH_POINTS * (1.0 if peers is None else peers), 2) if result.mesh.ok else 0.0,
        latency=_latency_points(health.seconds, thresholds) if health.ok else 0.0,
        streak=round(STREAK_POINTS * (1 - min(streak, thresholds.streak) / thresholds.streak), 2),
    )


def band(total: float) -> Band:
    """The seed's four bands."""
    if total >= 100:
        return "operational"
    if total >= 70:
        return "minor"
    if total >= 30:
        return "degraded"
    return "critical"


def _latency_points(seconds: float, thresholds: Thresholds) -> float:
    if seconds <= thresholds.latency_full:
        return LATENCY_POINTS
    if seconds >= thresholds.latency_zero:
        return 0.0
    width = thresholds.latency_zero - thresholds.latency_full
    return round(LATENCY_POINTS * (thresholds.latency_zero - seconds) / width, 2)
