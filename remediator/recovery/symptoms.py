"""Whether a bot still shows what an alert says of it. Pure.

A recovery is judged by the signal that began it: a bot that answers /health and hears nothing is not well for
a run that a deaf bot began, and is for one that began because it did not answer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from remediator.model import StoredAlert, Symptom
from remediator.monitoring.prober import Observation
from remediator.recovery.queues import QueueAnswer

SYMPTOM_LABEL: Final = "symptom"
SYMPTOMS: Final[tuple[Symptom, ...]] = get_args(Symptom)
RESTARTED_FOR: Final = ("other",)  # kinds of failed turns that the bot itself may be the cause of
MOVED_BACK_FOR: Final = (*RESTARTED_FOR, "model_not_found")  # or the configuration that a redeploy brings

Queues = Mapping[str, QueueAnswer]
"""What was answered of the queue of a bot's channel, by channel."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is seen of a bot at this moment, beside what was seen before the last tier of the run."""

    observation: Observation
    turn_limit: float = math.inf  # seconds; a turn that runs for longer is stuck
    queues: Queues = field(default_factory=dict)
    stalled: frozenset[str] = frozenset()  # channels whose queue was not falling for three looks
    waited: Mapping[str, int] | None = None  # by channel, before the last tier; None before any tier
    blamed: tuple[str, ...] = RESTARTED_FOR


def symptoms_of(alerts: Sequence[StoredAlert]) -> frozenset[Symptom]:
    """Return what the firing alerts say of their bot; what all said, where none fires any more.

    One without the label says that the bot is down; a person's run has no alerts, and no symptoms.
    """
    counted = [alert for alert in alerts if alert.status == "firing"] or alerts
    labels = {alert.labels.get(SYMPTOM_LABEL, "down") for alert in counted}
    return frozenset(symptom for symptom in SYMPTOMS if symptom in labels) or frozenset(
        ("down",) if counted else ()
    )


def told(evidence: Evidence) -> frozenset[Symptom]:
    """Return the symptoms of which the evidence says anything, for or against the bot."""
    work, queues = evidence.observation.work, evidence.queues.values()
    answered = any(answer.refused or answer.pending is not None for answer in queues)
    signals = {"deaf": bool(work.channels) or answered, "mute": work.failed is not None}
    signals["stuck"] = work.turn_age is not None
    return frozenset(symptom for symptom in SYMPTOMS if signals.get(symptom))


def problem(symptoms: frozenset[Symptom], evidence: Evidence) -> str:
    """Return why the bot is not well as far as these symptoms go; "" where it is.

    What it does not tell is no proof that it is well.
    """
    if not evidence.observation.healthy:
        return evidence.observation.detail
    problems = (_CHECKS[symptom](evidence) for symptom in SYMPTOMS if symptom in symptoms)
    return next(filter(None, problems), "")


def _down(_: Evidence) -> str:
    return ""


def _deaf(evidence: Evidence) -> str:
    work, queues = evidence.observation.work, evidence.queues
    if work.down:
        return f"{', '.join(work.down)} is down"
    for channel, answer in queues.items():
        if answer.refused:
            return f"{channel} refuses its token"
        if _waits(channel, answer.pending, evidence):
            return f"{answer.pending} updates wait at {channel}, and are not fetched"
    if not work.channels and all(answer.pending is None for answer in queues.values()):
        return "it does not tell whether its channels are up"
    return ""


def _waits(channel: str, pending: int | None, evidence: Evidence) -> bool:
    """Say whether it does not fall: since the last tier, or for three looks before any."""
    if not pending:
        return False
    if evidence.waited is None:
        return channel in evidence.stalled
    before = evidence.waited.get(channel)
    return before is not None and pending >= before


def _mute(evidence: Evidence) -> str:
    """Judge by what the bot's process has counted, which a tier begins anew."""
    work = evidence.observation.work
    if work.failed is None:
        return "it does not tell how its turns end"
    failures = sum(work.failed.get(kind, 0) for kind in evidence.blamed)
    if not failures or (evidence.waited is not None and work.succeeded):
        return ""
    return f"{failures:.0f} turns failed"


def _stuck(evidence: Evidence) -> str:
    age = evidence.observation.work.turn_age
    if age is None:
        return "it does not tell how long its turns run"
    return f"a turn has run for {age:.0f} s" if age > evidence.turn_limit else ""


_CHECKS: Final[Mapping[Symptom, Callable[[Evidence], str]]] = {
    "down": _down,
    "deaf": _deaf,
    "mute": _mute,
    "stuck": _stuck,
}
