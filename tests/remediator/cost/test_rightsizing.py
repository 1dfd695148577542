"""The right instance for usage of known shape, and what no recommendation may ever do."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remediator.cost.price_table import shipped
from remediator.cost.rightsizing import HEADROOM, TURN_GIB, Advice, advise, need_of
from remediator.cost.utilization import (
    CLOUDWATCH,
    POINTS_A_DAY,
    Measure,
    Usage,
    busiest_day,
    measured,
    quantile,
)
from templates import load
from templates.instance_types import INSTANCE_TYPES, family_of
from tests.benchmarks.usages import WORKLOADS

FORTNIGHT = 14 * POINTS_A_DAY
PRICES = shipped("us-west-1")
TEMPLATES = load()
SIZES = [size.name for size in family_of("t3.micro") if size.memory_gib >= 1]


def replayed(workload: str, points: int = FORTNIGHT, seed: int = 1) -> Usage:
    return WORKLOADS[workload].make(Random(seed), points).usage()


def advice_for(current: str, usage: Usage, standing: str = "") -> Advice:
    return advise("forge", current, usage, PRICES, standing)


@pytest.mark.parametrize("template", TEMPLATES.names)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_advice_for_a_known_shape_is_the_right_one_for_every_template(
    template: str, workload: str
) -> None:
    current = TEMPLATES.get(template, "production").instance_type
    right = WORKLOADS[workload].needs
    for seed, points in ((1, FORTNIGHT), (2, 30 * POINTS_A_DAY)):
        advice = advice_for(current, replayed(workload, points, seed))
        if current == right:
            assert (advice.status, advice.target) == ("fits", ""), advice
        else:
            assert (advice.status, advice.target) == ("recommended", right), advice


def test_a_support_bot_on_a_micro_is_told_to_grow_though_nobody_measures_it() -> None:
    """What OpenClaw takes is known, whatever is not."""
    advice = advice_for("t3.micro", Usage())
    assert advice.target == "t3.small"
    assert "806 MB when idle, 1700 in a turn" in " ".join(advice.evidence)
    assert advice.monthly_saving is not None
    assert advice.monthly_saving < 0


def test_a_recommendation_says_evidence_saving_risk_and_the_command() -> None:
    advice = advice_for("t3.large", replayed("idle"))
    assert advice.command == "botctl config forge --set instance_type=t3.small --set memory=2GB --apply"
    assert advice.monthly_saving == pytest.approx((0.0992 - 0.0248) * 730)
    assert any("p99.5 of 14 days" in line for line in advice.evidence)
    assert advice.risk


def test_memory_is_named_before_cpu() -> None:
    usage = replace(replayed("heavy"), cpu=replayed("bursty").cpu, cpu_day=0.9)
    assert [line.partition(":")[0] for line in advice_for("t3.micro", usage).evidence][:2] == [
        "memory",
        "CPU credits",
    ]


@pytest.mark.parametrize("days", [0, 1, 12])
def test_less_than_two_weeks_is_insufficient_data(days: int) -> None:
    usage = replayed("idle", days * POINTS_A_DAY) if days else Usage()
    advice = advice_for("t3.large", usage)
    assert (advice.status, advice.target) == ("insufficient data", "")


def test_nothing_shrinks_while_a_part_of_it_is_not_measured() -> None:
    usage = replayed("idle")
    for lacking in (replace(usage, cpu=None, cpu_day=None), replace(usage, memory=None)):
        assert advice_for("t3.large", lacking).target == ""


@pytest.mark.parametrize("current", SIZES[1:])
def test_cloudwatch_without_its_agent_knows_no_memory_so_nothing_shrinks_and_none_is_0(current: str) -> None:
    usage = replayed("idle")
    assert usage.cpu is not None
    advice = advice_for(
        current, Usage().completed(Usage(replace(usage.cpu, source=CLOUDWATCH), usage.cpu_day))
    )
    assert (advice.status, advice.target) == ("insufficient data", "")
    evidence = " ".join(advice.evidence)
    assert "memory of the instance: not measured" in evidence
    assert "vCPU (CloudWatch)" in evidence


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_same_usage_is_the_same_advice_whoever_measured_it(workload: str) -> None:
    node = replayed(workload)
    assert node.cpu is not None
    assert node.memory is not None
    cloudwatch = replace(
        node,
        cpu=replace(node.cpu, source=CLOUDWATCH),
        memory=replace(node.memory, source=CLOUDWATCH),
    )
    advice, other = advice_for("t3.large", node), advice_for("t3.large", cloudwatch)
    assert (advice.status, advice.target) == (other.status, other.target)
    assert "(node_exporter)" in " ".join(advice.evidence)
    assert "(CloudWatch)" in " ".join(other.evidence)


def test_node_exporter_goes_before_cloudwatch_unless_only_that_has_two_weeks() -> None:
    long, short = flat(1.0), flat(2.0, points=100)
    node, cloudwatch = Usage(short, 0.2, long), Usage(long, 0.1, flat(3.0))
    assert node.completed(cloudwatch) == Usage(long, 0.1, long)
    assert Usage(long, 0.1).completed(Usage(flat(9.0), 0.9, short)) == Usage(long, 0.1, short)
    assert Usage(short, 0.2, None).completed(Usage()) == Usage(short, 0.2, None)


def test_a_busy_event_loop_keeps_a_bot_from_shrinking_and_says_that_growing_would_not_help() -> None:
    advice = advice_for("t3.large", replace(replayed("idle"), event_loop=0.95))
    assert advice.target == ""
    assert "a larger one would not be faster" in " ".join(advice.evidence)


def test_what_no_instance_can_bear_is_said() -> None:
    advice = advice_for("t3.2xlarge", replace(replayed("idle"), memory=flat(40.0)))
    assert (advice.status, advice.target) == ("too large", "")


def test_an_unknown_price_is_an_unknown_saving() -> None:
    advice = advise("forge", "t3.large", replayed("idle"), shipped("mars-north-1"))
    assert advice.target == "t3.small"
    assert advice.monthly_saving is None


# what holds for any usage


def flat(peak: float, points: float = FORTNIGHT) -> Measure:
    return Measure(points, peak, peak, peak)


measures = st.builds(
    lambda peak, late, early: Measure(FORTNIGHT, max(peak, late, early), late, early),
    st.floats(0.001, 40),
    st.floats(0.001, 40),
    st.floats(0.001, 40),
)
usages = st.builds(Usage, measures, st.floats(0, 8), measures, st.none() | st.floats(0, 1), st.none())


@given(usages, st.sampled_from(SIZES), st.sampled_from(["", *SIZES]))
def test_a_recommendation_never_lowers_headroom_below_its_rule(
    usage: Usage, current: str, standing: str
) -> None:
    advice = advice_for(current, usage, standing)
    if advice.target:
        shape, need = INSTANCE_TYPES[advice.target], need_of(usage)
        assert need.fits(shape)
        assert usage.memory is not None
        assert usage.cpu is not None
        assert usage.memory.peak * HEADROOM <= shape.usable_gib + 1e-6
        assert usage.cpu.peak * HEADROOM <= shape.vcpus + 1e-6
        assert (usage.cpu_day or 0) * HEADROOM <= shape.sustained_vcpus + 1e-6


@given(usages, st.sampled_from(SIZES), st.sampled_from(["", *SIZES]))
def test_who_follows_a_recommendation_and_asks_again_is_told_nothing_new(
    usage: Usage, current: str, standing: str
) -> None:
    first = advice_for(current, usage, standing)
    if first.target:
        for remembered in ("", first.target, current):
            if remembered != current or remembered == first.target:
                assert advice_for(first.target, usage, remembered).target == ""


@given(usages, st.sampled_from(SIZES))
def test_a_recommendation_stands_while_nothing_changes(usage: Usage, current: str) -> None:
    first = advice_for(current, usage)
    assert advice_for(current, usage, first.target) == first


@settings(max_examples=50)
@example("t3.micro", 25.0, [1.0, 1.04, 1.0, 1.04] * 5)
@given(
    st.sampled_from(SIZES),
    st.floats(0.3, 30),
    st.lists(st.floats(0.96, 1.04), min_size=20, max_size=20),
)
def test_advice_does_not_flap_while_usage_wavers_around_a_limit(
    current: str, memory: float, wavering: list[float]
) -> None:
    """Within 4 % either way there are at most three different answers in a row: it settles."""
    standing, changes = "", 0
    for factor in wavering:
        usage = Usage(flat(0.1), 0.05, flat(memory * factor), None, None)
        advice = advice_for(current, usage, standing)
        changes += advice.target != standing
        standing = advice.target
    assert changes <= 2


# the summary of two weeks


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.floats(0, 1))
def test_the_quantile_lies_between_the_least_and_the_greatest(values: list[float], q: float) -> None:
    assert min(values) <= quantile(sorted(values), q) <= max(values)


def test_only_the_last_two_weeks_count() -> None:
    month = [9.0] * (16 * POINTS_A_DAY) + [1.0] * FORTNIGHT
    measure = measured(month)
    assert measure is not None
    assert (measure.peak, measure.points) == (1.0, FORTNIGHT)


def test_the_busiest_day_is_found_wherever_it_begins() -> None:
    points = [0.0] * 1000 + [1.0] * POINTS_A_DAY + [0.0] * 1000
    assert busiest_day(points) == pytest.approx(1.0)
    assert busiest_day([0.5] * 10) == 0.5
    assert busiest_day([]) is None


def test_a_small_instance_has_room_for_a_turn_and_a_micro_has_not() -> None:
    assert INSTANCE_TYPES["t3.micro"].usable_gib < TURN_GIB < INSTANCE_TYPES["t3.small"].usable_gib


@pytest.mark.parametrize("family", ["t3a", "t4g", "m7g", "c7i", "r8g"])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_advice_stays_in_the_family_and_so_with_the_architecture(family: str, workload: str) -> None:
    for size in family_of(f"{family}.large"):
        advice = advice_for(size.name, replayed(workload))
        target = INSTANCE_TYPES[advice.target or size.name]
        assert (target.family, target.architecture) == (family, size.architecture)
        assert "CPU credits: the busiest" not in " ".join(advice.evidence) or size.burstable


def test_a_graviton_bot_that_idles_is_told_to_shrink_to_what_is_priced() -> None:
    advice = advice_for("t4g.large", replayed("idle"))
    assert (advice.target, advice.overrides["memory"]) == ("t4g.small", "2GB")
    assert advice.monthly_saving is not None


def test_advice_about_a_type_without_a_price_says_no_saving() -> None:
    advice = advise("forge", "t4g.large", replayed("idle"), shipped("mars-north-1"))
    assert (advice.target, advice.monthly_saving) == ("t4g.small", None)


def test_no_advice_is_given_on_a_type_that_is_not_known() -> None:
    advice = advice_for("t9.large", replayed("idle"))
    assert advice.status == "insufficient data"
    assert "is not known; use a size of t2, t3" in advice.evidence[0]
