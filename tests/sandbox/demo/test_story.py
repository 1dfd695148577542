"""The demo's verdict is strict: whatever is not as the act asks for is a problem."""

from __future__ import annotations

import pytest

from sandbox.cloud.client import Effect
from sandbox.demo.show import line_of
from sandbox.demo.story import ACTS, Act, Result, judge

ACT = {act.name: act for act in ACTS}


def effects(*actions: str) -> list[Effect]:
    return [Effect(float(at), action, "i-1", "forge") for at, action in enumerate(actions)]


def judged(act: Act, outcome: str, tier: str, *actions: str) -> Result:
    result = Result(act, 0.0, outcome=outcome, tier=tier)
    judge(result, effects(*actions))
    return result


@pytest.mark.parametrize(
    ("name", "outcome", "tier", "actions"),
    [
        ("killed", "recovered", "restart", ["restart"]),
        ("needs-reboot", "recovered", "reboot", ["restart", "reboot"]),
        ("needs-redeploy", "recovered", "redeploy", ["restart", "reboot", "run", "terminate"]),
        ("incurable", "escalated", "", ["restart", "reboot", "run", "terminate"]),
    ],
)
def test_an_act_that_ends_as_it_should_is_ok(name: str, outcome: str, tier: str, actions: list[str]) -> None:
    assert judged(ACT[name], outcome, tier, *actions).ok


@pytest.mark.parametrize(
    ("name", "outcome", "tier", "actions", "problem"),
    [
        ("killed", "recovered", "reboot", ["restart", "reboot"], "reboot cured it, not restart"),
        ("killed", "recovered", "restart", ["restart", "restart"], "the cloud saw restart, restart"),
        ("killed", "unneeded", "", [], "it ended as unneeded"),
        ("needs-reboot", "recovered", "reboot", ["reboot"], "the cloud saw reboot"),
        ("incurable", "recovered", "redeploy", ["restart", "reboot", "run"], "it ended as recovered"),
    ],
)
def test_an_act_that_ends_otherwise_is_a_problem(
    name: str, outcome: str, tier: str, actions: list[str], problem: str
) -> None:
    result = judged(ACT[name], outcome, tier, *actions)
    assert any(text.startswith(problem) for text in result.problems)
    assert line_of(result).startswith("FAIL")


def test_a_line_of_an_act_shows_the_tier_and_the_timings() -> None:
    result = judged(ACT["killed"], "recovered", "restart", "restart")
    result.mark("alert", 4.14)
    result.alert = "BotDown"
    line = line_of(result)
    assert line.endswith("BotDown")
    assert "restart cured it" in line
    assert "alert 4.1 s · action none" in line
