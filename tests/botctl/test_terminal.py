"""What people are shown: cells and tables, and nothing that a bot could have put into them."""

import io
from typing import Any

import pytest
from rich.console import Console

from botctl import cost_views, views
from botctl.options import Duration, settings
from botctl.progress import position, step_line
from botctl.tables import cell, clean, duration, table


def drawn(renderable: Any, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(renderable)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


EVIL = "\x1b]0;title\x07\x1b[31mred[/red][bold]b[/bold]:smile:\u202e\r\x9b2J"


@pytest.mark.parametrize(
    "made",
    [
        views.run(
            {
                "botName": EVIL,
                "deploymentId": EVIL,
                "status": EVIL,
                "reason": EVIL,
                "finishedAt": None,
                "steps": [{"name": EVIL, "status": EVIL, "detail": EVIL}],
                "gates": [{"gate": EVIL, "tier": EVIL, "at": EVIL, "why": EVIL, "verdict": "closed"}],
                "warnings": [EVIL],
            }
        ),
        views.story({"bot": EVIL, "state": EVIL, "story": [{"at": EVIL, "what": EVIL}], "next": [EVIL]}),
        views.facts({"a": EVIL, "rows": [{EVIL: EVIL}], "nested": {EVIL: [EVIL]}, "diff": [{"path": EVIL}]}),
        views.pairing(
            {
                "bot": "forge",
                "dmPolicy": EVIL,
                "requests": [{"code": EVIL, "sender": EVIL, "name": EVIL, "askedAt": EVIL}],
            }
        ),
        views.pairing({"bot": EVIL, "dmPolicy": EVIL, "requests": []}),
        views.paired({"bot": EVIL, "sender": EVIL, "keep": EVIL}),
        views.asking(EVIL),
        views.storm({"active": True, "reason": EVIL}),
        views.audit([{"id": 1, "actor": EVIL, "detail": {EVIL: EVIL}}]),
        step_line({"name": EVIL, "status": EVIL, "detail": EVIL}),
        cost_views.recommendations(
            {
                "recommended": [
                    {
                        "bot": EVIL,
                        "current": EVIL,
                        "target": EVIL,
                        "monthlySavingUsd": None,
                        "evidence": {EVIL: EVIL},
                        "risk": EVIL,
                        "command": EVIL,
                    }
                ],
                "insufficientData": [{"bot": EVIL, "kind": EVIL}],
                "tooLarge": [EVIL],
            }
        ),
    ],
)
def test_nothing_that_is_shown_steers_the_terminal_or_is_taken_for_markup(made: Any) -> None:
    text = drawn(made, 400)
    assert not set(text) & set("\x1b\x07\x9b\r\u202e")
    assert "[bold]b[/bold]" in text


def test_what_is_under_way_is_said_in_a_few_words() -> None:
    steps = [
        {"name": "image", "status": "done", "startedAt": "2026-11-22T10:00:00Z", "finishedAt": "x"},
        {"name": "healthy", "status": "running", "startedAt": "2026-11-22T10:00:01Z", "finishedAt": None},
    ]
    view = {"botName": "forge", "status": "running", "steps": steps, "estimatedSeconds": 95.0}
    assert position(view) == "forge: healthy, about 1m 35s left"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (0.01234567, "0.01235"),
        (1234.5, "1,234.50"),
        (3.0, "3"),
        (["a", None], "a, -"),
        ({"a": 1}, "a=1"),
        ("2026-11-22T10:00:00.123Z", "2026-11-22 10:00:00Z"),
    ],
)
def test_a_value_as_a_person_reads_it(value: object, text: str) -> None:
    assert cell(value).plain == text


def test_a_column_that_says_nothing_is_left_out_and_an_empty_table_says_what_is_missing() -> None:
    columns = (("bot", "bot"), ("tier", "tier"))
    assert "tier" not in drawn(table(columns, [{"bot": "forge", "tier": ""}], empty=""))
    assert drawn(table(columns, [], empty="no bots yet")) == "no bots yet\n"


def test_who_waits_fits_on_80_columns() -> None:
    asked = {
        "code": "SC8QY8YQ",
        "sender": "7123456789",
        "name": "Jo Doe @jo",
        "askedAt": "2026-11-28T01:17:49.874Z",
    }
    text = drawn(views.pairing({"bot": "forge", "dmPolicy": "pairing", "requests": [asked]}), 80)
    assert [line.split() for line in text.splitlines() if "SC8QY8YQ" in line] == [
        ["SC8QY8YQ", "7123456789", "Jo", "Doe", "@jo", "2026-11-28", "01:17:49Z"]
    ]


def test_an_unknown_price_is_never_shown_as_nothing() -> None:
    assert cost_views.usd(None) == "unknown"
    assert cost_views.usd(0.0) == "$0.00"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.34, "0.3s"), (59.94, "59.9s"), (95, "1m 35s"), (7260, "2h 01m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172800)])
def test_durations_as_they_are_typed(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


def test_settings_are_nested_by_their_dots_and_are_json_where_they_look_like_it() -> None:
    pairs = ("probe.port=1234", "model=a/b=c", "probe.x=null", 'list=["a"]', "heartbeat=30m")
    assert settings(pairs) == {
        "probe": {"port": 1234, "x": None},
        "model": "a/b=c",
        "list": ["a"],
        "heartbeat": "30m",
    }


def test_cleaning_keeps_lines_and_letters() -> None:
    assert clean("größer\n→ ok\t1") == "größer\n→ ok\t1"
