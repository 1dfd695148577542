"""Groups that grow and shrink: what the decision may never do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remediator.modes import mode_for_scaling, parse_rule
from remediator.scaling.policy import Group, Move, Past, Policy, decide, moved
from templates import TemplateError, load
from tests.remediator.scaling.scaled_templates import write_scaled_templates

POLICY = Policy(min=2, max=4, target=0.8, scale_out_delay=300, scale_in_delay=1800)


def after(seconds: float, group: Group) -> Move:
    """Return the move when the group has been so for that many seconds."""
    past, _ = decide(POLICY, group, Past(), 0)
    return decide(POLICY, group, past, seconds)[1]


def test_a_group_that_stays_short_of_healthy_bots_grows_after_a_while() -> None:
    short = Group(bots=3, healthy=2, added=0, load=None)
    assert after(299, short).direction == ""
    assert after(300, short).direction == "out"


def test_a_group_whose_work_leaves_too_little_grows() -> None:
    assert after(300, Group(bots=3, healthy=3, added=0, load=0.3)).direction == "out"
    assert after(300, Group(bots=3, healthy=3, added=0, load=0.1)).direction == ""


def test_one_that_was_added_stands_in_for_one_that_is_ill() -> None:
    assert after(300, Group(bots=3, healthy=2, added=1, load=None)).direction == ""


def test_a_group_shrinks_after_a_longer_calm_and_only_by_what_was_added() -> None:
    calm = Group(bots=3, healthy=3, added=1, load=0.05)
    assert after(1799, calm).direction == ""
    assert after(1800, calm).direction == "in"
    assert after(9999, Group(bots=3, healthy=3, added=0, load=0.0)).direction == ""


def test_a_group_keeps_a_bot_without_which_it_would_be_short() -> None:
    assert after(9999, Group(bots=3, healthy=3, added=1, load=0.12)).direction == ""


def test_a_group_below_its_least_grows_and_one_at_its_most_does_not() -> None:
    assert after(300, Group(bots=1, healthy=1, added=0, load=0.0)).direction == "out"
    assert after(300, Group(bots=4, healthy=1, added=0, load=1.0)).direction == ""


def test_a_group_in_which_nobody_has_deployed_a_bot_is_none() -> None:
    assert after(9999, Group(bots=0, healthy=0, added=0, load=None)).direction == ""


KEEPS_OFF = [{"storm": True}, {"busy": True}]


@pytest.mark.parametrize("what", KEEPS_OFF)
def test_nothing_is_done_in_a_storm_or_while_a_bot_is_on_its_way(what: Any) -> None:
    assert after(9999, Group(bots=3, healthy=1, added=0, load=1.0, **what)).direction == ""


@pytest.mark.parametrize("what", KEEPS_OFF)
def test_both_begin_the_clocks_anew(what: Any) -> None:
    """What one bot more has come to is seen only once it is there."""
    short = Group(bots=3, healthy=1, added=0, load=None)
    past, _ = decide(POLICY, short, Past(), 0)
    past, _ = decide(POLICY, Group(bots=3, healthy=1, added=0, load=None, **what), past, 200)
    assert decide(POLICY, short, past, 400)[1].direction == ""


def test_the_other_way_is_taken_only_after_a_calm() -> None:
    past = moved(Past(), "in", 0)
    short = Group(bots=2, healthy=1, added=0, load=None)
    past, _ = decide(POLICY, short, past, 1)
    assert decide(POLICY, short, past, 1799)[1].direction == ""
    assert decide(POLICY, short, past, 1801)[1].direction == "out"


# modes and templates


@pytest.mark.parametrize(
    ("rules", "mode"),
    [
        ("", "shadow"),
        ("*=auto", "shadow"),
        ("scale=auto", "auto"),
        ("scale=auto production:scale=approve", "approve"),
        ("staging:scale=auto", "shadow"),
    ],
)
def test_scaling_is_written_down_until_a_rule_names_it(rules: str, mode: str) -> None:
    assert mode_for_scaling([parse_rule(rule) for rule in rules.split()], "production") == mode


def test_no_bundled_template_scales_by_itself() -> None:
    templates = load()
    assert all(templates.get(name, "production").scaling is None for name in templates.names)


def test_more_at_least_than_at_most_is_refused_by_field(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"scaling\.max.*less than min"):
        load(write_scaled_templates(tmp_path, min=3, max=2, target=0.8))
