"""The cure is proved by the signal that began the recovery."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.model import StoredAlert, Symptom
from remediator.monitoring.prober import Observation
from remediator.monitoring.work import Work
from remediator.recovery.queues import QueueAnswer
from remediator.recovery.symptoms import SYMPTOMS, Evidence, problem, symptoms_of, told

UP, DOWN = {"telegram": True}, {"telegram": False}


def seen(*, answers: bool = True, limit: float = 60, **more: Any) -> Evidence:
    """Return what is seen of a bot: `work` by its fields, the rest as Evidence has it."""
    work = Work(**{name: more.pop(name) for name in list(more) if name in Work.__dataclass_fields__})
    return Evidence(Observation(answers, "as seen", work=work), limit, **more)


def alert(status: str = "firing", **labels: str) -> StoredAlert:
    return StoredAlert("f", 900.0, "BotDown", "forge", status, labels, {}, 900.0, 990.0, 1, "rec-1", "")


def waiting(pending: int | None = None, **more: Any) -> dict[str, QueueAnswer]:
    return {"telegram": QueueAnswer(pending, **more)}


@pytest.mark.parametrize(
    ("alerts", "symptoms"),
    [
        ([], set()),
        ([alert()], {"down"}),
        ([alert(symptom="deaf"), alert(symptom="stuck")], {"deaf", "stuck"}),
        ([alert(symptom="deaf"), alert("resolved")], {"deaf"}),
        ([alert("resolved", symptom="mute")], {"mute"}),
        ([alert(symptom="sad")], {"down"}),
    ],
)
def test_symptoms_are_those_of_the_alerts_that_fire(
    alerts: list[StoredAlert], symptoms: set[Symptom]
) -> None:
    assert symptoms_of(alerts) == symptoms


@given(st.frozensets(st.sampled_from(SYMPTOMS)))
def test_a_bot_that_does_not_answer_is_never_well(symptoms: frozenset[Symptom]) -> None:
    assert problem(symptoms, seen(answers=False, channels=UP, turn_age=0, failed={})) == "as seen"


@given(st.frozensets(st.sampled_from(SYMPTOMS)))
def test_a_bot_that_works_is_well_whatever_was_said(symptoms: frozenset[Symptom]) -> None:
    assert problem(symptoms, seen(channels=UP, turn_age=0, failed={}, queues=waiting(0))) == ""


def test_a_bot_that_tells_nothing_is_judged_by_its_answer_where_that_is_what_was_wrong() -> None:
    assert problem(frozenset({"down"}), seen()) == ""
    assert problem(frozenset(), seen(channels=DOWN)) == ""


@pytest.mark.parametrize(
    ("evidence", "shown"),
    [
        (seen(channels=DOWN, queues=waiting(0)), "telegram is down"),
        (seen(channels={**UP, "slack": False}), "slack is down"),
        (seen(), "it does not tell whether its channels are up"),
        (seen(queues=waiting(problem="away")), "it does not tell whether its channels are up"),
        (seen(queues=waiting(0)), ""),
        (seen(channels=UP, queues=waiting(problem="away")), ""),
        (seen(channels=UP, queues=waiting(refused=True)), "telegram refuses its token"),
        # before any tier: by three looks
        (seen(channels=UP, queues=waiting(5)), ""),
        (
            seen(channels=UP, queues=waiting(5), stalled=frozenset({"telegram"})),
            "5 updates wait at telegram, and are not fetched",
        ),
        # after a tier: the queue has to fall
        (seen(channels=UP, queues=waiting(5), waited={"telegram": 6}), ""),
        (
            seen(channels=UP, queues=waiting(5), waited={"telegram": 5}),
            "5 updates wait at telegram, and are not fetched",
        ),
        (seen(channels=UP, queues=waiting(0), waited={"telegram": 0}), ""),
        (seen(channels=UP, queues=waiting(5), waited={}), ""),
    ],
)
def test_deaf(evidence: Evidence, shown: str) -> None:
    assert problem(frozenset({"deaf"}), evidence) == shown


@pytest.mark.parametrize(
    ("evidence", "shown"),
    [
        (seen(failed={"other": 3}, succeeded=900), "3 turns failed"),
        (seen(failed={"other": 0, "overloaded": 7}), ""),
        (seen(succeeded=9), "it does not tell how its turns end"),
        # after a tier, which begins the counters anew
        (seen(failed={"other": 1}, succeeded=0, waited={}), "1 turns failed"),
        (seen(failed={"other": 1}, succeeded=1, waited={}), ""),
        (seen(failed={}, succeeded=0, waited={}), ""),
        (seen(failed={"rate_limit": 4}, succeeded=0, waited={}), ""),
    ],
)
def test_mute(evidence: Evidence, shown: str) -> None:
    assert problem(frozenset({"mute"}), evidence) == shown


@pytest.mark.parametrize(
    ("evidence", "shown"),
    [
        (seen(turn_age=61.0), "a turn has run for 61 s"),
        (seen(turn_age=60.0), ""),
        (seen(turn_age=0.0), ""),
        (seen(), "it does not tell how long its turns run"),
    ],
)
def test_stuck(evidence: Evidence, shown: str) -> None:
    assert problem(frozenset({"stuck"}), evidence) == shown


@pytest.mark.parametrize(
    ("evidence", "symptoms"),
    [
        (seen(), set()),
        (seen(channels={}, queues=waiting(problem="away")), set()),
        (seen(channels=DOWN), {"deaf"}),
        (seen(queues=waiting(0)), {"deaf"}),
        (seen(queues=waiting(refused=True)), {"deaf"}),
        (seen(failed={}), {"mute"}),
        (seen(turn_age=0.0), {"stuck"}),
        (seen(channels=UP, failed={}, turn_age=1.0), {"deaf", "mute", "stuck"}),
    ],
)
def test_what_is_told_is_what_can_be_judged(evidence: Evidence, symptoms: set[Symptom]) -> None:
    assert told(evidence) == symptoms
    assert "does not tell" not in problem(told(evidence), evidence)
