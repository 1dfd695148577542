"""What the demo draws, for a person and for the README."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sandbox.demo.screen import Screen, sentence_of, write_svg
from sandbox.demo.story import ACTS, Result
from sandbox.stack.snapshot import BotState, Snapshot


@pytest.fixture
def screen() -> Screen:
    bots = (
        BotState("ada", "support", "active", 100.0, 0, "", ""),
        BotState("bob", "designer", "active", 20.0, 4, "running", "reboot"),
        BotState("cyd", "manager", "active", 0.0, 9, "blocked", ""),
        BotState("dot", "manager", "quarantined", None, 0, "", ""),
    )
    screen = Screen(urls={"remediator": "http://127.0.0.1:19000"}, now=Snapshot(bots=bots))
    result = Result(ACTS[0], 0.0, outcome="recovered", tier="restart")
    result.mark("alert", 4.1)
    screen.results.append(result)
    screen.add_audit_entry(entry("tier.intended", tier="reboot"))
    return screen


def entry(event: str, **detail: Any) -> dict[str, Any]:
    return {"actor": "remediator", "event": event, "bot": "bob", "detail": detail}


def drawn(screen: Screen, height: int = 60) -> list[str]:
    console = Console(file=io.StringIO(), width=118, height=height)
    console.print(screen)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def line_with(lines: list[str], word: str) -> str:
    return next(line for line in lines if word in line)


def test_every_bot_is_shown_with_score_streak_state_and_tier(screen: Screen) -> None:
    lines = drawn(screen)
    assert "100" in line_with(lines, "ada")
    assert "well" in line_with(lines, "ada")
    for part in ("20", "●●●●", "recovering", "reboot"):
        assert part in line_with(lines, "bob")
    assert "held back" in line_with(lines, "cyd")
    assert "quarantined" in line_with(lines, "dot")


def test_every_act_is_shown_and_a_finished_one_with_its_end(screen: Screen) -> None:
    lines = drawn(screen)
    for act in ACTS:
        assert line_with(lines, act.plot)
    assert "✓ restart cured it" in line_with(lines, "killed")
    assert "4.1 s" in line_with(lines, "killed")
    assert "✓" not in line_with(lines, "needs-reboot")


def test_a_small_terminal_keeps_the_newest_events(screen: Screen) -> None:
    for number in range(30):
        screen.add_event(f"event {number}.")
    lines = "\n".join(drawn(screen, height=30))
    assert "event 29." in lines
    assert "event 3." not in lines


@pytest.mark.parametrize(
    ("event", "detail", "words"),
    [
        (
            "gate.held",
            {"tier": "restart", "gate": "fleet", "why": "6 of 8 are ill"},
            "held back before restart",
        ),
        ("tier.not_cured", {"tier": "restart", "seen": "no answer"}, "restart did not help"),
        ("run.escalated", {"why": "nothing helped"}, "escalated"),
        ("run.recovered", {"why": "restart cured it"}, "recovered"),
    ],
)
def test_the_audit_trail_is_told_in_words(event: str, detail: dict[str, Any], words: str) -> None:
    sentence = sentence_of(entry(event, **detail))
    assert sentence is not None
    assert words in sentence[0]


def test_what_only_clutters_is_left_out() -> None:
    assert sentence_of(entry("step.intended", step="image")) is None


def test_the_picture_is_an_svg_of_the_screen(screen: Screen, tmp_path: Path) -> None:
    write_svg(screen, tmp_path / "docs" / "demo.svg")
    picture = (tmp_path / "docs" / "demo.svg").read_text()
    assert picture.startswith("<svg")
    assert "needs-redeploy" in picture
