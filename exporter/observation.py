"""A probe judged in the light of the bot's earlier ones. Pure."""

from sys import intern
from typing import NamedTuple

from exporter.result import Facts, ProbeResult, Reason
from exporter.score import Score, Thresholds, next_streak, score


class State(NamedTuple):
    """The state of a bot between its probes.

    `score` is None before the first probe; `last_success` is unix seconds, None if it never was ok;
    `restarts` counts changes of `started_at` or `boot_id`; `health` and `mesh` are the reasons of the last
    probe.
    """

    score: float | None = None
    streak: int = 0
    last_success: float | None = None
    version: str = ""
    config_sha: str = ""
    boot_id: str | None = None
    started_at: str | None = None
    restarts: int = 0
    health: Reason | None = None
    mesh: Reason | None = None


UNKNOWN = State()


class Observation(NamedTuple):
    """A probe, its score, and the state after it."""

    result: ProbeResult
    score: Score
    state: State
    facts: Facts


def observe(before: State, result: ProbeResult, thresholds: Thresholds) -> Observation:
    """Judge a probe, given the state before it. A bot that fails keeps the facts it last reported."""
    streak = next_streak(before.streak, result)
    facts = result.facts
    restarted = _changed(before.started_at, facts.started_at) or _changed(before.boot_id, facts.boot_id)
    points = score(result, streak, thresholds)
    state = State(
        score=points.total,
        streak=streak,
        last_success=result.at if result.health.ok else before.last_success,
        version=before.version if facts.version is None else intern(facts.version),
        config_sha=before.config_sha if facts.config_sha is None else intern(facts.config_sha),
        boot_id=before.boot_id if facts.boot_id is None else facts.boot_id,
        started_at=before.started_at if facts.started_at is None else facts.started_at,
        restarts=before.restarts + restarted,
        health=result.health.reason,
        mesh=result.mesh.reason,
    )
    return Observation(result, points, state, facts)


def _changed(before: str | None, now: str | None) -> bool:
    return before is not None and now is not None and before != now
