"""Durations: read as Prometheus reads them, and written so that they are read back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.durations import DURATION, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("30s", 30),
        ("1h30m", 5400),
        ("1d", 86400),
        ("2w", 1209600),
        ("1y", 31536000),
    ],
)
def test_a_duration_is_read_as_prometheus_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "-5m", "5min", "1..5s", "00"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write it as 250ms"):
        parse_duration(text)


@given(st.integers(0, 10**12))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert re.fullmatch(r"[0-9]+(ms|[smhd])", text), "a unit, and no fraction, which PromQL would refuse"
    assert parse_duration(text) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (1.5, "1500ms"), (60, "1m"), (90, "90s"), (7200, "2h"), (86400, "1d")],
)
def test_a_duration_is_written_in_its_largest_exact_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_durations_are_found_in_a_text() -> None:
    assert re.findall(DURATION, "rate(x[1h30m]) offset 250ms") == ["1h30m", "250ms"]
