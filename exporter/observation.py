"""What a probe came to, given what was known before. Pure."""

from sys import intern
from typing import NamedTuple

from exporter.answer import Facts, ProbeResult, Reason
from exporter.score import Score, Thresholds, next_streak, score


class State(NamedTuple):
    """What is remembered of a bot between its probes.

    `score` is None before the first probe; `last_success` is unix seconds, None if it never was ok;
    `restarts` counts changes of `boot_id`; `health` and `mesh` are the reasons of the last probe.
    """

    score: float | None = None
    streak: int = 0
    last_success: float | None = None
    version: str = ""
    config_sha: str = ""
    boot_id: str | None = None
    restarts: int = 0
    health: Reason | None = None
    mesh: Reason | None = None


UNKNOWN = State()


class Observation(NamedTuple):
    """A probe, its score, and what is to be remembered."""

    result: ProbeResult
    score: Score
    state: State
    facts: Facts


def observe(before: State, result: ProbeResult, thresholds: Thresholds) -> Observation:
    """A bot that fails keeps the facts it last told."""
    streak = next_streak(before.streak, result)
    facts = result.facts
    restarted = facts.boot_id is not None and before.boot_id is not None and facts.boot_id != before.boot_id
    points = score(result, streak, thresholds)
    state = State(
        score=points.total,
        streak=streak,
        last_success=result.at if result.health.ok else before.last_success,
        version=before.version if facts.version is None else intern(facts.version),
        config_sha=before.config_sha if facts.config_sha is None else intern(facts.config_sha),
        boot_id=before.boot_id if facts.boot_id is None else facts.boot_id,
        restarts=before.restarts + restarted,
        health=result.health.reason,
        mesh=result.mesh.reason,
    )
    return Observation(result, points, state, facts)
