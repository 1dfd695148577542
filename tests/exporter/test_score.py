"""The health score: worked examples of the rules, and what holds for every probe."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.probing.probe import EndpointResult, ProbeResult, Reason
from exporter.result import NOT_ASKED
from exporter.score import Score, Thresholds, band, next_streak, score

DEFAULTS = Thresholds()


def endpoint(
    ok: bool = True, seconds: float = 0.1, payload: Mapping[str, object] | None = None
) -> EndpointResult:
    reason = None if ok else Reason.http_status
    return EndpointResult(ok, reason, 200 if ok else 500, seconds, payload)


def result(health: EndpointResult | None = None, mesh: EndpointResult | None = None) -> ProbeResult:
    return ProbeResult("forge", 0.0, health or endpoint(), mesh or endpoint())


DEAD = result(endpoint(ok=False), endpoint(ok=False))

results = st.builds(
    result,
    st.builds(endpoint, st.booleans(), st.floats(0, 60)),
    st.builds(
        endpoint,
        st.booleans(),
        st.floats(0, 60),
        st.none() | st.fixed_dictionaries({"peers": st.lists(st.fixed_dictionaries({"up": st.booleans()}))}),
    ),
)


def test_a_well_bot_scores_100() -> None:
    assert score(result(), 0, DEFAULTS) == Score(health=30, mesh=20, latency=20, streak=30)


def test_a_dead_bot_reads_20_10_0_so_that_the_rule_holds_at_its_third_failure() -> None:
    streak, scores = 0, []
    for _ in range(4):
        streak = next_streak(streak, DEAD)
        scores.append((score(DEAD, streak, DEFAULTS).total, streak))
    assert scores == [(20, 1), (10, 2), (0, 3), (0, 4)]
    critical = [total < DEFAULTS.critical and failures >= DEFAULTS.streak for total, failures in scores]
    assert critical == [False, False, True, True]


def test_health_gone_while_the_mesh_answers_settles_at_exactly_20() -> None:
    assert score(result(endpoint(ok=False)), 5, DEFAULTS).total == 20


@pytest.mark.parametrize(("seconds", "points"), [(0, 20), (0.5, 20), (2.75, 10), (4.1, 4), (5.0, 0), (60, 0)])
def test_latency_is_linear_between_its_thresholds(seconds: float, points: float) -> None:
    assert score(result(endpoint(seconds=seconds)), 0, DEFAULTS).latency == points


def test_a_quick_wrong_answer_earns_nothing_for_speed() -> None:
    assert score(result(endpoint(ok=False, seconds=0.001)), 3, DEFAULTS).latency == 0


def test_mesh_points_follow_the_share_of_peers_that_are_up() -> None:
    peers = {"peers": [{"up": True}, {"up": False}, {"up": True}, {"up": True}]}
    assert score(result(mesh=endpoint(payload=peers)), 0, DEFAULTS).mesh == 15


def test_a_bot_without_a_mesh_reaches_100_and_dies_as_the_others() -> None:
    assert score(result(mesh=NOT_ASKED), 0, DEFAULTS).total == 100
    dead = result(endpoint(ok=False), NOT_ASKED)
    assert [score(dead, streak, DEFAULTS).total for streak in (1, 2, 3)] == [20, 10, 0]


@pytest.mark.parametrize(
    ("probe", "lost"),
    [
        (result(mesh=endpoint(ok=False)), "mesh"),
        (result(mesh=endpoint(payload={"ok": True, "peers": [{"name": "telegram", "up": False}]})), "mesh"),
        (result(endpoint(seconds=5.0)), "latency"),
    ],
    ids=["no mesh, or an ill one", "the channel is down", "slow"],
)
def test_80_is_a_bot_that_answers_and_has_lost_one_of_two_parts(probe: ProbeResult, lost: str) -> None:
    points = score(probe, 0, DEFAULTS)
    assert (points.total, getattr(points, lost)) == (80, 0)


def test_one_good_answer_ends_a_streak() -> None:
    assert next_streak(7, result()) == 0


@pytest.mark.parametrize(
    ("total", "name"),
    [
        (100, "operational"),
        (99.9, "minor"),
        (70, "minor"),
        (69.9, "degraded"),
        (30, "degraded"),
        (29.9, "critical"),
        (0, "critical"),
    ],
)
def test_bands_end_at_70_30_and_below_100(total: float, name: str) -> None:
    assert band(total) == name


@given(results, st.integers(0, 1000))
def test_a_score_is_the_sum_of_its_components_each_within_its_bounds(
    probed: ProbeResult, streak: int
) -> None:
    points = score(probed, streak, DEFAULTS)
    for value, most in ((points.health, 30), (points.mesh, 20), (points.latency, 20), (points.streak, 30)):
        assert 0 <= value <= most
    assert points.total == pytest.approx(points.health + points.mesh + points.latency + points.streak)


@given(results, st.integers(0, 100), st.integers(0, 100))
def test_a_longer_streak_never_scores_more(probed: ProbeResult, streak: int, more: int) -> None:
    assert score(probed, streak + more, DEFAULTS).total <= score(probed, streak, DEFAULTS).total


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_slower_answer_never_scores_more(first: float, second: float) -> None:
    quick, slow = sorted((first, second))
    scores = [score(result(endpoint(seconds=seconds)), 0, DEFAULTS).total for seconds in (quick, slow)]
    assert scores[0] >= scores[1]
