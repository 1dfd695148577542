"""Facts that bots tell of themselves: what makes sense is taken, whatever else they say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.result import FAILURE_KINDS, MAX_CHANNELS, Facts

rubbish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def failed(usage: object) -> dict[str, float] | None:
    counts = Facts.read({"usage": usage}).failed_by
    if counts is None:
        return None
    return {kind: count for kind, count in zip(FAILURE_KINDS, counts, strict=True) if count}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"failed": 3, "failed_by": {"auth": 1, "rate_limit": 2}}, {"auth": 1, "rate_limit": 2}),
        ({"failed": 3}, {"other": 3}),
        ({"failed": 0, "failed_by": {}}, {}),
        ({"failed": 5, "failed_by": {"auth": 1, "gremlins": 3}}, {"auth": 1, "other": 4}),
        ({"failed_by": {"auth": 1, "gremlins": 3}}, {"auth": 1, "other": 3}),
        ({"failed": 1, "failed_by": {"auth": 2}}, {"auth": 2}),
        ({"failed": 2, "failed_by": {"auth": -1, "timeout": "x", "billing": True}}, {"other": 2}),
        ({"failed": -1}, None),
        ({"requests": 3}, None),
        ([], None),
    ],
)
def test_failures_are_counted_by_kind_and_what_has_none_is_other(
    usage: object, counts: dict[str, float] | None
) -> None:
    assert failed(usage) == counts


@pytest.mark.parametrize(
    ("told", "channels"),
    [
        ([{"name": "telegram", "up": True}], (("telegram", True),)),
        ([], ()),
        ([{"name": "irc", "up": True}, {"name": "irc", "up": False}], (("irc", False),)),
        ([{"name": "irc", "up": False}, {"name": "irc", "up": True}], (("irc", False),)),
        ([{"name": "", "up": True}, {"name": 4, "up": True}, {"name": "x" * 65, "up": True}], ()),
        ([{"name": "irc", "up": 1}, {"name": "irc"}, "irc", None], ()),
        ({"telegram": True}, None),
        (None, None),
    ],
)
def test_channels_are_names_and_whether_they_are_up(told: object, channels: object) -> None:
    assert Facts.read({"channels": told}).channels == channels


def test_a_thousand_channels_are_a_few() -> None:
    told = [{"name": f"channel-{n}", "up": True} for n in range(1000)]
    channels = Facts.read({"channels": told}).channels
    assert channels is not None
    assert len(channels) == MAX_CHANNELS


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        ("boot_id", {"boot_id": "b"}),
        ("started_at", {"started_at": "t"}),
        ("version", {"version": "1"}),
        ("config_sha", {"config_sha": "c"}),
        ("context_usage", {"context_usage": 0.5}),
        ("requests", {"usage": {"requests": 1}}),
        ("input_tokens", {"usage": {"input_tokens": 1}}),
        ("output_tokens", {"usage": {"output_tokens": 1}}),
        ("failed_by", {"usage": {"failed": 1}}),
        ("memory_bytes", {"memory_bytes": 1}),
        ("turn_age_seconds", {"turn_age_seconds": 1}),
        ("channels", {"channels": []}),
    ],
)
def test_each_fact_is_read_where_nothing_else_is_told(fact: str, told: dict[str, object]) -> None:
    facts = Facts.read(told)
    assert [name for name in Facts._fields if getattr(facts, name) is not None] == [fact]


@pytest.mark.parametrize("fact", ["memory_bytes", "turn_age_seconds"])
@pytest.mark.parametrize("value", [-1, 1e15, "5", True, None, [1]])
def test_a_number_that_makes_no_sense_is_no_fact(fact: str, value: Any) -> None:
    assert getattr(Facts.read({fact: value}), fact) is None
    assert getattr(Facts.read({fact: 12.5}), fact) == 12.5


@given(st.dictionaries(st.sampled_from((*Facts._fields, "usage")), rubbish))
def test_nothing_that_a_bot_says_is_an_error(payload: dict[str, object]) -> None:
    facts = Facts.read(payload)
    for numbers in (facts.failed_by or (), (facts.memory_bytes, facts.turn_age_seconds)):
        assert all(number is None or 0 <= number < 1e16 for number in numbers)
