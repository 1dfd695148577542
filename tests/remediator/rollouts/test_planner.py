"""The decisions of a rolling update."""

import pytest

from remediator.model import Run
from remediator.rollouts.planner import Begin, End, Member, MemberState, Move, Rollout, Wait, next_move

ROLLOUT = Rollout("rol-1", "running", "", "a newer image", "ann", {}, 2, 1, 0.0, None)


def redeploy(status: str = "running") -> Run:
    ended = None if status == "running" else 9.0
    return Run("red-1", "redeploy", "a", "manual", "", status, "why it is so", "", 0.0, ended)


def states(*statuses: str, ill: str = "", blocked: str = "", excluded: str = "") -> list[MemberState]:
    """Make bots a, b, c, … of these statuses; `ill`, `blocked` and `excluded` list their letters."""
    return [
        MemberState(
            Member("rol-1", bot, number, None, "left" if status == "skipped" else ""),
            run=redeploy(status) if status in ("running", "deployed", "failed") else None,
            ill=bot in ill,
            blocked="paused" if bot in blocked else "",
            excluded="retired" if bot in excluded else "",
        )
        for number, (bot, status) in enumerate(zip("abcdef", statuses, strict=False))
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (states("waiting", "waiting", "waiting"), Begin(["a", "b"], {}, "a, b under way")),
        (states("running", "waiting", "waiting"), Begin(["b"], {}, "a, b under way")),
        (states("running", "running", "waiting"), Wait("a, b under way")),
        (states("deployed", "running", "waiting"), Wait("b under way")),
        (states("deployed", "deployed", "waiting"), Begin(["c"], {}, "c under way")),
        (states("deployed", "skipped", "deployed"), End("completed", "2 of 3 bots redeployed")),
        (states("deployed", "failed", "waiting"), End("stopped", "b failed: why it is so")),
        (states("waiting", "waiting", excluded="b"), Begin(skip={"b": "retired"})),
        (states("waiting", "waiting", blocked="a"), Begin(["b"], {}, "b under way")),
        (states("waiting", "waiting", "waiting", blocked="ab"), Wait("held: a: paused")),
        (states("waiting", "waiting", "waiting", ill="c"), Begin(["a", "b"], {}, "a, b under way")),
        (states("waiting", "waiting", "waiting", ill="bc"), End("stopped", "b, c ill, where 1 may be")),
        (states("running", "running", "waiting", ill="abc"), Wait("a, b under way")),
        (states("deployed", "deployed", "waiting", ill="a"), End("stopped", "a was redeployed and is ill")),
    ],
)
def test_the_next_move_of_a_rollout(members: list[MemberState], expected: Move) -> None:
    assert next_move(ROLLOUT, members, storm=False) == expected


def test_a_storm_holds_what_would_be_begun() -> None:
    assert next_move(ROLLOUT, states("waiting"), storm=True) == Wait("held: a storm is on")
    ended = next_move(ROLLOUT, states("deployed"), storm=True)
    assert ended == End("completed", "1 of 1 bots redeployed")
