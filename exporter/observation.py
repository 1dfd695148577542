"""What a probe came to, given what was known before. Pure."""

from dataclasses import dataclass

from exporter.answer import ProbeResult
from exporter.score import Score, Thresholds, next_streak, score


@dataclass(frozen=True, slots=True)
class Observation:
    """The last probe of a bot; `last_success` is unix seconds, None if it never was ok."""

    result: ProbeResult
    score: Score
    streak: int
    last_success: float | None
    version: str


def observe(before: Observation | None, result: ProbeResult, thresholds: Thresholds) -> Observation:
    """A bot that fails keeps the version it last told."""
    streak = next_streak(before.streak if before else 0, result)
    version, last_success = (before.version, before.last_success) if before else ("", None)
    return Observation(
        result=result,
        score=score(result, streak, thresholds),
        streak=streak,
        last_success=result.at if result.health.ok else last_success,
        version=result.version or version,
    )
