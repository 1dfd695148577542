"""Many bots with one trouble: it is not theirs."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from remediator.model import Symptom
from remediator.recovery.dependencies import Dependency, held_by, next_dependencies
from remediator.recovery.storm import CensusEntry, Fleet
from tests.remediator.recovery.test_gates import BOT, LIMITS

ALL: frozenset[Symptom] = frozenset({"deaf", "mute", "stuck"})
MUTE: frozenset[Symptom] = frozenset({"mute"})


def census(telling: int, showing: int, *, silent: int = 0, **changes: Any) -> Fleet:
    """Make a census in which `showing` of `telling` bots are mute, no two alike, and others tell nothing."""
    entries = [
        CensusEntry(
            f"t-{n}", f"e-{n}", f"z-{n}", ill=False, tells=MUTE if n < telling else frozenset(),
            shows=MUTE if n < showing else frozenset(),
        )
        for n in range(telling + silent)
    ]  # fmt: skip
    return Fleet(len(entries), tuple(replace(entry, **changes) for entry in entries))


def away(fleet: Fleet, now: float = 1000, before: list[Dependency] | None = None) -> list[Dependency]:
    return next_dependencies(before or [], fleet, now, LIMITS)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_share_and_number_are_those_of_a_storm_and_of_those_that_tell(
    telling: int, showing: int, silent: int
) -> None:
    """In exact integers: three of ten, one of three."""
    showing = min(showing, telling)
    found = away(census(telling, showing, silent=silent))
    assert bool(found) == (showing > max(1, 3 * telling // 10))
    assert all((one.symptom, one.kind) == ("mute", "fleet") for one in found)
    assert all(one.reason == f"{showing} of {telling} bots are mute at once" for one in found)


def test_a_bot_that_does_not_answer_and_one_in_quarantine_are_no_evidence() -> None:
    assert away(census(4, 0, ill=True)) == []
    assert away(Fleet(4, (*census(3, 1).entries, replace(census(1, 1).entries[0], quarantined=True)))) == []


def test_all_bots_of_one_provider_are_enough_however_few_of_the_fleet_they_are() -> None:
    group = [replace(entry, provider="anthropic") for entry in census(3, 3).entries]
    others = census(17, 0).entries
    (found,) = away(Fleet(20, (*group, *others)))
    assert found.reason == "all 3 bots of provider anthropic are mute at once"
    ours, theirs = ({"model": f"{provider}/x"} for provider in ("anthropic", "openai"))
    assert held_by([found], replace(BOT, config=ours), MUTE) == found.reason
    assert held_by([found], replace(BOT, config=theirs), MUTE) == ""
    assert away(Fleet(20, (replace(group[0], shows=frozenset()), *group[1:], *others))) == []
    assert away(Fleet(19, (*group[1:], *others))) == []


def test_it_is_over_a_cool_down_after_it_was_last_seen() -> None:
    (first,) = away(census(10, 5), 1000)
    (later,) = away(census(10, 5), 1050, [first])
    assert (later.since, later.over_at) == (1000, 1050)
    assert away(census(10, 0), 1169, [later]) == [later]
    assert away(census(10, 0), 1170, [later]) == []


def test_a_fleet_of_which_nothing_was_seen_neither_loses_nor_restores_anything() -> None:
    before = away(census(4, 3))
    assert before
    assert away(Fleet(4), now=10**9, before=before) == before


def test_a_bot_with_a_trouble_of_its_own_beside_it_is_acted_on() -> None:
    found = away(census(10, 9))
    assert held_by(found, BOT, MUTE)
    assert held_by(found, BOT, ALL) == ""
    assert held_by(found, BOT, frozenset()) == ""
