"""The timing wheel: even spread, stable slots, nothing lost and nothing twice."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.schedule import Ring, Wheel, slot

NAMES = [f"bot-{n}" for n in range(2000)]


def test_a_slot_is_the_same_in_every_process_and_release() -> None:
    assert slot("forge", 60) == pytest.approx(40.76308169287131)


def test_slots_are_spread_evenly() -> None:
    tenths = [0] * 10
    for name in NAMES:
        tenths[int(slot(name, 10))] += 1
    assert min(tenths) > 140
    assert max(tenths) < 260


@given(st.text(), st.floats(0.1, 86400))
def test_a_slot_lies_within_the_interval(bot: str, interval: float) -> None:
    assert 0 <= slot(bot, interval) < interval


@given(
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.floats(0, 1e6),
    st.lists(st.floats(0, 3), min_size=1, max_size=30),
)
def test_every_bot_is_due_once_an_interval_however_irregularly_the_wheel_is_asked(
    bots: set[str], start: float, gaps: list[float]
) -> None:
    ring = Ring(5.0)
    for bot in bots:
        ring.add(bot)
    list(ring.due(start))
    slots: dict[str, list[float]] = {bot: [] for bot in bots}
    now = start
    for gap in gaps:
        now += gap
        for bot, due in ring.due(now):
            assert due <= now
            slots[bot].append(due)
    for times in slots.values():
        intervals = (now - start) / 5.0
        assert int(intervals - 0.01) <= len(times) <= int(intervals + 0.01) + 1
        assert all(abs(b - a - 5.0) < 1e-6 for a, b in pairwise(times))


def test_adding_and_removing_bots_moves_nobody() -> None:
    def times(wheel: Wheel) -> dict[str, float]:
        wheel.due(1000.0)
        return dict(wheel.due(1009.9999))

    few, many = Wheel(), Wheel()
    for bot in NAMES[:100]:
        few.add(bot, 10)
    for bot in NAMES:
        many.add(bot, 10)
    for bot in NAMES[100:1000]:
        many.remove(bot, 10)
    before, after = times(few), times(many)
    assert before
    assert before.items() <= after.items()


def test_at_start_nothing_is_due_all_at_once() -> None:
    wheel = Wheel()
    for bot in NAMES:
        wheel.add(bot, 60)
    assert len(wheel.due(12345.6)) < 10


def test_after_a_long_stall_each_bot_is_due_once() -> None:
    wheel = Wheel()
    for bot in NAMES:
        wheel.add(bot, 10)
    wheel.due(0)
    assert sorted(bot for bot, _ in wheel.due(1_000_000)) == sorted(NAMES)


def test_a_clock_that_steps_back_hands_out_nothing_twice() -> None:
    wheel = Wheel()
    for bot in NAMES:
        wheel.add(bot, 10)
    wheel.due(100)
    first = {bot for bot, _ in wheel.due(105)}
    assert wheel.due(101) == []
    assert first.isdisjoint(bot for bot, _ in wheel.due(109))


def test_intervals_may_differ_and_the_longest_is_told() -> None:
    wheel = Wheel()
    wheel.add("muse", 1000)
    wheel.add("forge", 0.1)
    assert wheel.longest == 1000
    wheel.remove("muse", 1000)
    assert wheel.longest == 0.1
    wheel.due(50)
    assert [bot for bot, _ in wheel.due(50.1001)] == ["forge"]


def test_the_wheel_says_when_the_next_slot_comes() -> None:
    wheel = Wheel()
    assert wheel.next_due(0) is None
    wheel.add("forge", 60)
    wheel.due(600)
    due = wheel.next_due(600)
    assert due is not None
    assert 600 < due <= 660.01
    assert wheel.due(due - 0.001) == []
    assert wheel.due(due + 0.001) == [("forge", due)]
