"""What a bot tells of its work, and what it may not make us believe."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.result import FAILURE_KINDS, EndpointResult, ProbeResult
from remediator.monitoring.prober import observation_of
from remediator.monitoring.work import Work

WORDS = st.sampled_from(["name", "up", "requests", "failed", "failed_by", "other", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("channels", "turn_age_seconds", "usage")


def read(health: Any, mesh: Any) -> Work:
    """Read it from the answers of a probe."""
    answers = (EndpointResult(True, None, 200, 0.1, payload) for payload in (health, mesh))
    return observation_of(ProbeResult("forge", 0.0, *answers)).work


def test_all_that_openclaws_bridge_tells_is_read() -> None:
    usage = {"requests": 7, "failed": 3, "failed_by": {"auth": 1, "other": 2}}
    channels = [{"name": "telegram", "up": False}, {"name": "slack", "up": True}]
    work = read({"ok": True}, {"usage": usage, "channels": channels, "turn_age_seconds": 1.5})
    assert work == Work({"telegram": False, "slack": True}, 1.5, 7.0, {"auth": 1.0, "other": 2.0})
    assert work.down == ["telegram"]


def test_what_health_tells_counts_before_the_mesh() -> None:
    work = read(
        {"turn_age_seconds": 1, "usage": {"requests": 1}}, {"turn_age_seconds": 2, "usage": {"failed": 4}}
    )
    assert (work.turn_age, work.succeeded, work.failed) == (1, 1, {"other": 4})


@pytest.mark.parametrize("payload", [None, {}, {"channels": None, "usage": 3, "turn_age_seconds": "long"}])
def test_a_bot_that_tells_nothing_has_no_work_that_is_known(payload: Any) -> None:
    assert read(payload, None) == Work()


def test_a_kind_that_the_alert_counts_as_other_is_other_for_the_cure_too() -> None:
    """The series have the known kinds alone: by another one a bot would be mute, and cured at once."""
    work = read(None, {"usage": {"failed": 3, "failed_by": {"auth": 1, "gremlins": 2}}})
    assert "gremlins" not in FAILURE_KINDS
    assert work.failed == {"auth": 1.0, "other": 2.0}


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_answer_breaks_it_and_every_number_is_one(health: Any, mesh: Any) -> None:
    work = read(health, mesh)
    numbers = [work.turn_age, work.succeeded, *(work.failed or {}).values()]
    assert all(number is None or (math.isfinite(number) and number >= 0) for number in numbers)
    assert all(type(up) is bool for up in (work.channels or {}).values())
