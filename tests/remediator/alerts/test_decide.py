from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.alerts.decide import Decision, Ignore, Join, Start, decide, run_id
from remediator.alerts.webhook import Alert
from remediator.model import Bot, IgnoreReason, Run
from tests.remediator.conftest import firing

BOT = Bot(
    "forge", "support", "staging", "active", "127.0.0.2:1", "/health", "/mesh", "i-1", {}, "sha", None, None,
    "", None, None, 0, 0, 0,
)  # fmt: skip
ALERT = Alert.model_validate(firing("forge"))
BEGAN = ALERT.started
RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", BEGAN + 10, None)
ENDED = replace(RUN, status="recovered", finished_at=BEGAN + 100)


def decision(alert: Alert = ALERT, now: float = BEGAN + 200, **changes: Any) -> Decision:
    """Decide on an alert that nothing was done about yet, but for the changes."""
    situation: dict[str, Any] = {
        "first_seen": BEGAN + 5,
        "bot": BOT,
        "active": None,
        "own": None,
        "last": None,
    }
    return decide(alert, **{**situation, "now": now, "relapse_after": 300, **changes})


def test_a_first_alert_starts_a_run_under_the_episodes_id() -> None:
    assert decision() == Start(run_id(ALERT.fingerprint, BEGAN))


def test_another_alert_of_a_bot_in_hand_joins_the_run() -> None:
    assert decision(active=RUN) == Join("rec-1")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"bot": ""}, "no_bot_label"),
        ({"remediation": ""}, "no_auto_remediation"),
        ({"remediation": "yes"}, "no_auto_remediation"),
    ],
)
def test_only_alerts_with_both_labels_start_anything(labels: dict[str, str], reason: IgnoreReason) -> None:
    member = firing("forge")
    assert decision(Alert.model_validate(member | {"labels": member["labels"] | labels})) == Ignore(reason)


def test_a_bot_that_is_not_ours_is_left_alone() -> None:
    assert decision(bot=None) == Ignore("unknown_bot")


def test_a_quarantined_bot_is_left_alone_until_a_person_clears_it() -> None:
    assert decision(bot=replace(BOT, quarantined_at=1.0)) == Ignore("quarantined")


@pytest.mark.parametrize("status", ["recovered", "unneeded", "escalated"])
def test_what_comes_late_or_again_belongs_to_the_recovery_that_dealt_with_it(status: str) -> None:
    assert decision(last=replace(ENDED, status=status)) == Join("rec-1")


def test_a_copy_of_what_a_recovery_dealt_with_is_not_taken_over_by_the_next() -> None:
    """Whichever of the two a payload names first, and however the next one ends."""
    dealt = replace(ENDED, id="rec-0")
    assert decision(own=dealt, last=dealt, active=RUN) == Join("rec-0")
    assert decision(own=dealt, last=replace(ENDED, status="resolved")) == Join("rec-0")
    assert decision(own=replace(dealt, status="resolved"), active=RUN) == Join("rec-1")
    assert decision(own=dealt, last=dealt, active=RUN, now=BEGAN + 401) == Join("rec-1"), "it never went away"


def test_a_new_illness_after_a_recovery_starts_a_new_run() -> None:
    later = Alert.model_validate(firing("forge", starts_at="2026-11-22T11:00:00Z"))
    assert isinstance(decision(later, now=later.started + 1, first_seen=later.started + 1, last=ENDED), Start)


def test_an_alert_still_sent_long_after_a_cure_is_a_new_illness_and_only_one() -> None:
    first, again = decision(last=ENDED, now=BEGAN + 401), decision(last=ENDED, now=BEGAN + 900)
    assert isinstance(first, Start)
    assert first == again
    assert first != Start(run_id(ALERT.fingerprint, BEGAN)), "that run has ended; its id starts nothing"


def test_another_alert_is_not_swallowed_by_a_run_that_ended_because_its_own_were_resolved() -> None:
    """Such a run never saw the bot well."""
    other = Alert.model_validate(firing("forge", name="BotHealthScoreCritical"))
    assert isinstance(decision(other, last=replace(ENDED, status="resolved")), Start)


def test_a_prometheus_whose_clock_is_ahead_does_not_hide_a_relapse() -> None:
    """`startsAt` lies after the recovery that the alert itself began."""
    late = replace(ENDED, finished_at=BEGAN - 30)
    within = decision(first_seen=BEGAN - 60, now=BEGAN, last=late)
    after = decision(first_seen=BEGAN - 60, now=BEGAN + 600, last=late)
    assert within == Join("rec-1")
    assert isinstance(after, Start)
    assert after.run_id != run_id(ALERT.fingerprint, BEGAN)


@given(
    now=st.floats(0, 10_000),
    finished=st.floats(0, 10_000) | st.none(),
    status=st.sampled_from(["recovered", "unneeded", "resolved"]),
)
def test_the_same_situation_always_gives_the_same_answer(
    now: float, finished: float | None, status: str
) -> None:
    last = None if finished is None else replace(ENDED, status=status, finished_at=BEGAN + finished)
    assert decision(now=BEGAN + now, last=last) == decision(now=BEGAN + now, last=last)


EPISODES = st.tuples(st.text("abc", min_size=1, max_size=3), st.integers(0, 5))


@given(st.lists(EPISODES, min_size=2, max_size=9, unique=True))
def test_different_episodes_have_different_ids(episodes: list[tuple[str, int]]) -> None:
    ids = {run_id(fingerprint, float(started)) for fingerprint, started in episodes}
    assert len(ids) == len(episodes)
