"""The right instance for usage of known shape, and what no recommendation may ever do."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remediator.advice import HEADROOM, IDLE_GIB, Advice, advise, need_of
from remediator.prices import shipped
from remediator.usage import CLOUDWATCH, POINTS_A_DAY, SHAPES, Measure, Usage, busiest_day, measured, quantile
from templates import load
from tests.benchmarks.usages import WORKLOADS

FORTNIGHT = 14 * POINTS_A_DAY
PRICES = shipped("us-west-1")
TEMPLATES = load()
SIZES = list(SHAPES)


def replayed(workload: str, points: int = FORTNIGHT, seed: int = 1) -> Usage:
    return WORKLOADS[workload].make(Random(seed), points).usage()


def asked(current: str, usage: Usage, standing: str = "") -> Advice:
    return advise("forge", current, usage, PRICES, standing)


@pytest.mark.parametrize("template", TEMPLATES.names)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_advice_for_a_known_shape_is_the_right_one_for_every_template(
    template: str, workload: str
) -> None:
    current = TEMPLATES.get(template, "production").instance_type
    right = WORKLOADS[workload].needs
    for seed, points in ((1, FORTNIGHT), (2, 30 * POINTS_A_DAY)):
        advice = asked(current, replayed(workload, points, seed))
        if current == right:
            assert (advice.status, advice.target) == ("fits", ""), advice
        else:
            assert (advice.status, advice.target) == ("recommended", right), advice


def test_a_support_bot_on_a_micro_is_told_to_grow_though_nobody_measures_it() -> None:
    """OpenClaw takes 806 MB when it does nothing: that is known, whatever is not."""
    advice = asked("t3.micro", Usage())
    assert advice.target == "t3.small"
    assert "806 MiB when idle" in " ".join(advice.evidence)
    assert advice.monthly_saving is not None
    assert advice.monthly_saving < 0


def test_a_recommendation_says_evidence_saving_risk_and_the_command() -> None:
    advice = asked("t3.large", replayed("idle"))
    assert advice.command == "botctl config forge --set instance_type=t3.small --set memory=2GB --apply"
    assert advice.monthly_saving == pytest.approx((0.0992 - 0.0248) * 730)
    assert any("p99.5 of 14 days" in line for line in advice.evidence)
    assert advice.risk


def test_memory_is_named_before_cpu() -> None:
    usage = replace(replayed("heavy"), cpu=replayed("bursty").cpu, cpu_day=0.9)
    assert [line.partition(":")[0] for line in asked("t3.micro", usage).evidence][:2] == [
        "memory",
        "CPU credits",
    ]


@pytest.mark.parametrize("days", [0, 1, 12])
def test_less_than_two_weeks_is_insufficient_data(days: int) -> None:
    usage = replayed("idle", days * POINTS_A_DAY) if days else Usage()
    advice = asked("t3.large", usage)
    assert (advice.status, advice.target) == ("insufficient data", "")


def test_nothing_shrinks_while_a_part_of_it_is_not_measured() -> None:
    usage = replayed("idle")
    for lacking in (replace(usage, cpu=None, cpu_day=None), replace(usage, memory=None)):
        assert asked("t3.large", lacking).target == ""


@pytest.mark.parametrize("current", SIZES[1:])
def test_cloudwatch_without_its_agent_knows_no_memory_so_nothing_shrinks_and_none_is_0(current: str) -> None:
    seen = replayed("idle")
    assert seen.cpu is not None
    advice = asked(current, Usage().completed(Usage(replace(seen.cpu, source=CLOUDWATCH), seen.cpu_day)))
    assert (advice.status, advice.target) == ("insufficient data", "")
    said = " ".join(advice.evidence)
    assert "memory of the instance: not measured" in said
    assert "vCPU (CloudWatch)" in said


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
    advice, other = asked("t3.large", node), asked("t3.large", cloudwatch)
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
    advice = asked("t3.large", replace(replayed("idle"), event_loop=0.95))
    assert advice.target == ""
    assert "a larger one would not be faster" in " ".join(advice.evidence)


def test_what_no_instance_can_bear_is_said() -> None:
    advice = asked("t3.2xlarge", replace(replayed("idle"), memory=flat(40.0)))
    assert (advice.status, advice.target) == ("too large", "")


def test_an_unknown_price_is_an_unknown_saving() -> None:
    advice = advise("forge", "t3.large", replayed("idle"), shipped("mars-north-1"))
    assert advice.target == "t3.small"
    assert advice.monthly_saving is None


def test_an_unknown_instance_type_is_left_alone() -> None:
    assert asked("m7i.large", replayed("idle")).status == "insufficient data"


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
    advice = asked(current, usage, standing)
    if advice.target:
        shape, need = SHAPES[advice.target], need_of(usage)
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
    first = asked(current, usage, standing)
    if first.target:
        for remembered in ("", first.target, current):
            if remembered != current or remembered == first.target:
                assert asked(first.target, usage, remembered).target == ""


@given(usages, st.sampled_from(SIZES))
def test_a_recommendation_stands_while_nothing_changes(usage: Usage, current: str) -> None:
    first = asked(current, usage)
    assert asked(current, usage, first.target) == first


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
    said, changes = "", 0
    for factor in wavering:
        usage = Usage(flat(0.1), 0.05, flat(memory * factor), None, None)
        advice = asked(current, usage, said)
        changes += advice.target != said
        said = advice.target
    assert changes <= 2


# the summary of two weeks


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.floats(0, 1))
def test_the_quantile_lies_between_the_least_and_the_greatest(values: list[float], q: float) -> None:
    assert min(values) <= quantile(sorted(values), q) <= max(values)


def test_only_the_last_two_weeks_count() -> None:
    month = [9.0] * (16 * POINTS_A_DAY) + [1.0] * FORTNIGHT
    found = measured(month)
    assert found is not None
    assert (found.peak, found.points) == (1.0, FORTNIGHT)


def test_the_busiest_day_is_found_wherever_it_begins() -> None:
    points = [0.0] * 1000 + [1.0] * POINTS_A_DAY + [0.0] * 1000
    assert busiest_day(points) == pytest.approx(1.0)
    assert busiest_day([0.5] * 10) == 0.5
    assert busiest_day([]) is None


def test_no_bot_needs_less_than_an_idle_one() -> None:
    assert SHAPES["t3.micro"].usable_gib < IDLE_GIB * HEADROOM
    assert SHAPES["t3.small"].usable_gib > IDLE_GIB * HEADROOM
