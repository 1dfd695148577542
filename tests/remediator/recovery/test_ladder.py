from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.model import TIERS, Run, Step, Tier
from remediator.recovery.ladder import (
    Attempt,
    Finish,
    Settle,
    Try,
    Verify,
    attempts_of,
    first_tier,
    next_move,
)

TIMEOUTS: dict[Tier, float] = {"restart": 10, "reboot": 20, "redeploy": 30}


def step(name: str, state: Any, **changes: Any) -> Step:
    defaults: dict[str, Any] = {"request": {}, "result": {}, "detail": ""}
    defaults |= {"acted_at": None, "finished_at": None}
    return Step(id=1, run_id="rec-1", name=name, state=state, intended_at=0, **{**defaults, **changes})


@pytest.mark.parametrize("first", TIERS)
def test_it_begins_at_the_tier_asked_for(first: Tier) -> None:
    assert next_move([], first, TIMEOUTS) == Try(first)


def test_an_intent_without_a_result_is_settled_before_anything_else() -> None:
    assert next_move([Attempt("reboot", "intended")], "restart", TIMEOUTS) == Settle("reboot")


def test_what_was_done_is_verified_until_its_own_deadline() -> None:
    move = next_move([Attempt("reboot", "acted", acted_at=100.0)], "restart", TIMEOUTS)
    assert move == Verify("reboot", 120.0)


def test_a_cure_ends_it() -> None:
    move = next_move([Attempt("restart", "not_cured"), Attempt("reboot", "cured")], "restart", TIMEOUTS)
    assert move == Finish("recovered", "reboot cured it")


@pytest.mark.parametrize("tier", TIERS)
def test_denied_stops_the_ladder_at_once_and_says_why(tier: Tier) -> None:
    move = next_move([Attempt(tier, "failed", detail="UnauthorizedOperation", denied=True)], tier, TIMEOUTS)
    assert move == Finish("escalated", f"{tier}: UnauthorizedOperation")


def test_escalation_says_what_each_tier_came_to() -> None:
    attempts = [
        Attempt("reboot", "not_cured", detail="no answer"),
        Attempt("redeploy", "failed", detail="no capacity"),
    ]
    assert next_move(attempts, "reboot", TIMEOUTS) == Finish(
        "escalated", "reboot: no answer; redeploy: no capacity"
    )


@given(
    first=st.sampled_from(TIERS),
    ends=st.lists(st.sampled_from(["cured", "not_cured", "failed", "denied"]), min_size=3, max_size=3),
    crashes=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_no_tier_is_skipped_or_repeated_and_every_history_ends(
    first: Tier, ends: list[str], crashes: list[bool]
) -> None:
    """Whatever each tier comes to, and wherever a crash is."""
    attempts: list[Attempt] = []
    order: list[Tier] = []
    for _ in range(20):
        move = next_move(attempts, first, TIMEOUTS)
        if isinstance(move, Finish):
            break
        if isinstance(move, Try):
            order.append(move.tier)
            attempts.append(Attempt(move.tier, "intended"))
            if crashes[len(order) % 6]:
                continue  # the next life finds an intent
        elif isinstance(move, Settle):
            assert attempts[-1].state == "intended"
        elif isinstance(move, Verify):
            assert attempts[-1].state == "acted"
        end = ends[len(order) - 1]
        if attempts[-1].state == "intended" and end in ("cured", "not_cured"):
            attempts[-1] = Attempt(move.tier, "acted", acted_at=1.0)
        else:
            attempts[-1] = Attempt(move.tier, "failed" if end == "denied" else end, denied=end == "denied")  # type: ignore[arg-type]
    else:
        pytest.fail(f"it never ends: {attempts}")
    assert order == list(TIERS[TIERS.index(first) :][: len(order)])
    assert (move.outcome == "recovered") == (attempts[-1].state == "cured")
    reached_the_top = order[-1] == "redeploy"
    assert reached_the_top or attempts[-1].state == "cured" or attempts[-1].denied


def test_only_tiers_are_attempts_and_a_redeploys_sub_steps_are_not() -> None:
    steps = [
        step("restart", "failed", detail="exit 1", result={"denied": False}),
        step("redeploy", "intended"),
        step("image", "done"),
        step("launch", "intended"),
    ]
    assert attempts_of(steps) == [
        Attempt("restart", "failed", detail="exit 1"),
        Attempt("redeploy", "intended"),
    ]


@pytest.mark.parametrize(
    ("method", "tier"), [("", "restart"), ("reboot", "reboot"), ("redeploy", "redeploy")]
)
def test_an_alert_begins_at_the_bottom_and_a_person_where_they_say(method: str, tier: Tier) -> None:
    run = Run("rec-1", "recover", "forge", "manual", method, "running", "", "", 0, None)
    assert first_tier(run) == tier
