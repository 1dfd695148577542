from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.alerts.webhook import Webhook, parse
from remediator.errors import Refused
from tests.remediator.conftest import firing, resolved, webhook


def test_a_payload_of_alertmanager_is_read() -> None:
    payload = parse(
        webhook(firing("forge"), resolved(firing("atlas")), truncatedAlerts=7, notification_reason="x")
    )
    assert [(alert.bot, alert.status) for alert in payload.alerts] == [
        ("forge", "firing"),
        ("atlas", "resolved"),
    ]
    assert payload.truncated == 7


def payload_with(**changes: Any) -> dict[str, Any]:
    """Make a payload of one alert, changed like this; `...` leaves a field out."""
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
        (payload_with(status="pending"), "alerts.0.status"),
        (payload_with(status=...), "alerts.0.status"),
        (payload_with(labels={"bot": 1}), "alerts.0.labels.bot"),
        (payload_with(startsAt="yesterday"), "alerts.0.startsAt"),
        (payload_with(startsAt="2026-11-22T10:00:00"), "alerts.0.startsAt"),
        (payload_with(startsAt="0001-01-01T00:00:00Z"), "alerts.0.startsAt"),
        (payload_with(fingerprint=""), "alerts.0.fingerprint"),
        (payload_with(fingerprint="f" * 65), "alerts.0.fingerprint"),
        (payload_with(fingerprint=...), "alerts.0.fingerprint"),
    ],
)
def test_what_is_no_webhook_is_refused_by_the_name_of_the_field(payload: Any, field: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(payload)
    assert (caught.value.kind, caught.value.field) == ("invalid", field)


def test_a_member_that_is_no_alert_takes_no_neighbour_along() -> None:
    payload = parse(webhook(firing("forge"), {"status": "pending"}, firing("atlas"), 7))  # type: ignore[arg-type]
    assert [alert.bot for alert in payload.alerts] == ["forge", "atlas"]
    assert [refused.field for refused in payload.malformed] == ["alerts.1.status", "alerts.3"]


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_a_map_that_go_never_made_is_empty(field: str) -> None:
    payload = parse(payload_with(**{field: None}))
    assert getattr(payload.alerts[0], field) == {}
    assert payload.malformed == ()


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
    payload = webhook() | {field: rubbish} if field in webhook() else payload_with(**{field: rubbish})
    for body in (rubbish, payload):
        answer = parse_or_refuse(body)
        assert isinstance(answer, Webhook) or (answer.kind == "invalid" and answer.field.encode())


def parse_or_refuse(payload: Any) -> Webhook | Refused:
    """Return the refusal instead of raising it."""
    try:
        return parse(payload)
    except Refused as refused:
        return refused
