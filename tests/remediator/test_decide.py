from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.alerts import Alert, Decision, Ignore, Join, Start, Webhook, decide, parse, run_id
from remediator.errors import RequestError
from remediator.model import Bot, Run
from tests.remediator.conftest import firing, resolved, webhook

BOT = Bot(
    "forge", "support", "staging", "active", "127.0.0.2:1", "/health", "/mesh", "i-1", {}, "sha", None, None,
    "", None, None, 0, 0, 0,
)  # fmt: skip
ALERT = Alert.model_validate(firing("forge"))
BEGAN = ALERT.started
RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", BEGAN + 10, None)
ENDED = replace(RUN, status="recovered", finished_at=BEGAN + 100)


def asked(alert: Alert = ALERT, now: float = BEGAN + 200, **changes: Any) -> Decision:
    situation: dict[str, Any] = {
        "first_seen": BEGAN + 5,
        "bot": BOT,
        "active": None,
        "own": None,
        "last": None,
    }
    return decide(alert, **{**situation, "now": now, "relapse_after": 300, **changes})


def test_a_first_alert_starts_a_run_under_the_episodes_id() -> None:
    assert asked() == Start(run_id(ALERT.fingerprint, BEGAN))


def test_another_alert_of_a_bot_in_hand_joins_the_run() -> None:
    assert asked(active=RUN) == Join("rec-1")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"bot": ""}, "no_bot_label"),
        ({"remediation": ""}, "no_auto_remediation"),
        ({"remediation": "yes"}, "no_auto_remediation"),
    ],
)
def test_only_alerts_with_both_labels_start_anything(labels: dict[str, str], reason: str) -> None:
    sent = firing("forge")
    assert asked(Alert.model_validate(sent | {"labels": sent["labels"] | labels})) == Ignore(reason)


def test_a_bot_that_is_not_ours_is_left_alone() -> None:
    assert asked(bot=None) == Ignore("unknown_bot")


def test_a_quarantined_bot_is_left_alone_until_a_person_clears_it() -> None:
    assert asked(bot=replace(BOT, quarantined_at=1.0)) == Ignore("quarantined")


@pytest.mark.parametrize("status", ["recovered", "unneeded", "escalated"])
def test_what_comes_late_or_again_belongs_to_the_recovery_that_dealt_with_it(status: str) -> None:
    assert asked(last=replace(ENDED, status=status)) == Join("rec-1")


def test_a_copy_of_what_a_recovery_dealt_with_is_not_taken_over_by_the_next() -> None:
    """Whichever of the two a payload names first, and however the next one ends."""
    dealt = replace(ENDED, id="rec-0")
    assert asked(own=dealt, last=dealt, active=RUN) == Join("rec-0")
    assert asked(own=dealt, last=replace(ENDED, status="resolved")) == Join("rec-0")
    assert asked(own=replace(dealt, status="resolved"), active=RUN) == Join("rec-1")
    assert asked(own=dealt, last=dealt, active=RUN, now=BEGAN + 401) == Join("rec-1"), "it never went away"


def test_a_new_illness_after_a_recovery_starts_a_new_run() -> None:
    later = Alert.model_validate(firing("forge", starts_at="2026-11-22T11:00:00Z"))
    assert isinstance(asked(later, now=later.started + 1, first_seen=later.started + 1, last=ENDED), Start)


def test_an_alert_still_sent_long_after_a_cure_is_a_new_illness_and_only_one() -> None:
    first, again = asked(last=ENDED, now=BEGAN + 401), asked(last=ENDED, now=BEGAN + 900)
    assert isinstance(first, Start)
    assert first == again
    assert first != Start(run_id(ALERT.fingerprint, BEGAN)), "that run has ended; its id starts nothing"


def test_another_alert_is_not_swallowed_by_a_run_that_ended_because_its_own_were_resolved() -> None:
    """Such a run never saw the bot well."""
    other = Alert.model_validate(firing("forge", name="BotHealthScoreCritical"))
    assert isinstance(asked(other, last=replace(ENDED, status="resolved")), Start)


def test_a_prometheus_whose_clock_is_ahead_does_not_hide_a_relapse() -> None:
    """`startsAt` lies after the recovery that the alert itself began."""
    late = replace(ENDED, finished_at=BEGAN - 30)
    within = asked(first_seen=BEGAN - 60, now=BEGAN, last=late)
    after = asked(first_seen=BEGAN - 60, now=BEGAN + 600, last=late)
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
    assert asked(now=BEGAN + now, last=last) == asked(now=BEGAN + now, last=last)


EPISODES = st.tuples(st.text("abc", min_size=1, max_size=3), st.integers(0, 5))


@given(st.lists(EPISODES, min_size=2, max_size=9, unique=True))
def test_different_episodes_have_different_ids(episodes: list[tuple[str, int]]) -> None:
    ids = {run_id(fingerprint, float(started)) for fingerprint, started in episodes}
    assert len(ids) == len(episodes)


def test_a_payload_of_alertmanager_is_read() -> None:
    read = parse(
        webhook(firing("forge"), resolved(firing("atlas")), truncatedAlerts=7, notification_reason="x")
    )
    assert [(one.bot, one.status) for one in read.alerts] == [("forge", "firing"), ("atlas", "resolved")]
    assert read.truncated == 7


def member(**changes: Any) -> dict[str, Any]:
    return webhook({key: value for key, value in {**firing("forge"), **changes}.items() if value is not ...})


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (None, "body"),
        ([], "body"),
        ("x", "body"),
        ({}, "version"),
        (webhook() | {"version": "3"}, "version"),
        (webhook() | {"version": 4}, "version"),
        (webhook() | {"alerts": {}}, "alerts"),
        (webhook() | {"alerts": [1]}, "alerts.0"),
        (webhook() | {"truncatedAlerts": -1}, "truncatedAlerts"),
        (member(status="pending"), "alerts.0.status"),
        (member(status=...), "alerts.0.status"),
        (member(labels={"bot": 1}), "alerts.0.labels.bot"),
        (member(startsAt="yesterday"), "alerts.0.startsAt"),
        (member(startsAt="2026-11-22T10:00:00"), "alerts.0.startsAt"),
        (member(startsAt="0001-01-01T00:00:00Z"), "alerts.0.startsAt"),
        (member(fingerprint=""), "alerts.0.fingerprint"),
        (member(fingerprint="f" * 65), "alerts.0.fingerprint"),
        (member(fingerprint=...), "alerts.0.fingerprint"),
    ],
)
def test_what_is_no_webhook_is_refused_by_the_name_of_the_field(payload: Any, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(payload)
    assert (caught.value.status, caught.value.field) == (400, field)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    anything,
    st.sampled_from(["version", "alerts", "status", "labels", "startsAt", "fingerprint", "annotations"]),
)
def test_no_payload_is_answered_with_anything_but_a_refusal_or_typed_alerts(rubbish: Any, field: str) -> None:
    payload = webhook() | {field: rubbish} if field in webhook() else member(**{field: rubbish})
    for sent in (rubbish, payload):
        said = outcome(sent)
        assert isinstance(said, Webhook) or (said.status == 400 and said.body()["error"]["field"].encode())


def outcome(payload: Any) -> Webhook | RequestError:
    try:
        return parse(payload)
    except RequestError as refused:
        return refused
