from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.gates import Effect, Fleet, Limits, Situation, Verdict, decisive, judge, storm

LIMITS = Limits(fleet_max_ratio=0.3, fleet_min_unhealthy=1, max_in_flight=3)
ILL = Situation(
    trigger="alert",
    climbing=False,
    bot_healthy=False,
    bot_seen="/health: connect_refused",
    alerts_firing=True,
    fleet=Fleet(total=10, probed=10, unhealthy=1),
    in_flight=0,
)


def situation(**changes: Any) -> Situation:
    return Situation(**{name: getattr(ILL, name) for name in Situation.__slots__} | changes)


def stopped_by(now: Situation, limits: Limits = LIMITS) -> tuple[str, Effect] | None:
    stop = decisive(judge(now, limits))
    return None if stop is None else (stop.gate, stop.effect)


def test_an_ill_bot_in_a_healthy_fleet_may_be_acted_on() -> None:
    assert stopped_by(ILL) is None


@pytest.mark.parametrize(
    ("changes", "gate", "effect"),
    [
        ({"bot_healthy": True}, "healthy", Effect.end),
        ({"alerts_firing": False}, "resolved", Effect.end),
        ({"fleet": Fleet(10, 10, 4)}, "fleet", Effect.hold),
        ({"in_flight": 3}, "in_flight", Effect.hold),
    ],
)
def test_each_gate_stops_what_it_is_for(changes: dict[str, Any], gate: str, effect: Effect) -> None:
    assert stopped_by(situation(**changes)) == (gate, effect)


def test_every_gate_is_judged_and_says_why_even_when_another_has_stopped_it() -> None:
    verdicts = judge(situation(bot_healthy=True, fleet=Fleet(4, 4, 3), in_flight=9), LIMITS)
    assert [verdict.gate for verdict in verdicts] == ["healthy", "resolved", "fleet", "in_flight"]
    assert all(verdict.why for verdict in verdicts)
    assert "3 of 4 bots are ill (75%)" in verdicts[2].why


def test_nothing_left_to_do_wins_over_having_to_wait() -> None:
    """Else a bot that is well again would be held in a storm for as long as the storm lasts."""
    assert stopped_by(situation(bot_healthy=True, fleet=Fleet(4, 4, 4))) == ("healthy", Effect.end)
    assert stopped_by(situation(alerts_firing=False, in_flight=9)) == ("resolved", Effect.end)


@pytest.mark.parametrize(
    "changes", [{"bot_healthy": True}, {"alerts_firing": False}, {"fleet": Fleet(4, 4, 4)}]
)
def test_a_person_overrides_healthy_resolved_and_fleet(changes: dict[str, Any]) -> None:
    assert stopped_by(situation(trigger="manual", **changes)) is None


def test_nobody_asked_for_the_harder_tiers_on_a_bot_that_is_well() -> None:
    climbing = situation(trigger="manual", climbing=True, bot_healthy=True)
    assert stopped_by(climbing) == ("healthy", Effect.end)


def test_a_person_does_not_override_the_cap_on_actions_in_flight() -> None:
    assert stopped_by(situation(trigger="manual", in_flight=3)) == ("in_flight", Effect.hold)


def test_a_sample_is_said_to_be_one() -> None:
    verdicts = judge(situation(fleet=Fleet(total=1000, probed=200, unhealthy=10)), LIMITS)
    assert "a sample of 1000" in verdicts[2].why


@pytest.mark.parametrize(
    ("probed", "most"),
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (6, 1), (7, 2), (10, 3), (20, 6), (1000, 300)],
)
def test_share_and_floor_of_the_fleet_gate(probed: int, most: int) -> None:
    """A fleet of three heals one; of ten, three: exactly the share is still allowed."""
    assert not storm(Fleet(probed, probed, most), LIMITS)
    assert storm(Fleet(probed, probed, most + 1), LIMITS)


@given(
    ratio=st.integers(0, 100),
    floor=st.integers(1, 10),
    probed=st.integers(0, 5000),
    share=st.floats(0, 1),
)
def test_never_above_the_limit_and_never_blocked_below_it(
    ratio: int, floor: int, probed: int, share: float
) -> None:
    """The limit in exact integers, where the gate has floats."""
    unhealthy = round(share * probed)
    allowed = max(floor, ratio * probed // 100)
    limits = Limits(ratio / 100, floor, 1)
    stop = stopped_by(situation(fleet=Fleet(probed, probed, unhealthy)), limits)
    assert stop == (None if unhealthy <= allowed else ("fleet", Effect.hold))


@given(in_flight=st.integers(0, 100), limit=st.integers(1, 50), manual=st.booleans())
def test_never_more_in_flight_than_the_cap(in_flight: int, limit: int, manual: bool) -> None:
    now = situation(trigger="manual" if manual else "alert", in_flight=in_flight)
    goes = stopped_by(now, Limits(1, 1, limit)) is None
    assert goes == (in_flight < limit)


@given(st.lists(st.sampled_from(list(Effect)), max_size=6))
def test_the_decisive_verdict_is_the_first_end_then_the_first_hold(effects: list[Effect]) -> None:
    verdicts = [Verdict(str(number), effect, "") for number, effect in enumerate(effects)]
    stop = decisive(verdicts)
    if stop is None:
        assert set(effects) <= {Effect.go}
    else:
        assert stop.effect is (Effect.end if Effect.end in effects else Effect.hold)
        assert int(stop.gate) == effects.index(stop.effect)
