"""What requests to models cost, and how they are told apart by what bots count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.cost.model_pricing import Counters, Requests, aliased, between, priced, request_price
from templates.facts import RETIRED_MODELS

SONNET = "anthropic/claude-sonnet-4-5"


def test_a_long_context_costs_more_a_token() -> None:
    short, long = (
        request_price(SONNET, 100_000, 0, "2026-11-22"),
        request_price(SONNET, 300_000, 0, "2026-11-22"),
    )
    assert short is not None
    assert long is not None
    assert long > 3 * short * 1.5


def test_requests_are_priced_one_by_one_and_not_as_their_sum() -> None:
    """Ten of 100,000 tokens are no long context, though their sum is."""
    ten = priced(SONNET, Requests(1.79e9, 10, 1_000_000, 1000))
    single = priced(SONNET, Requests(1.79e9, 1, 100_000, 100))
    assert ten is not None
    assert single is not None
    assert ten == pytest.approx(10 * single)


@pytest.mark.parametrize("model", ["anthropic/claude-opus-latest", "nobody/knows", "no-provider", "/", ""])
def test_a_model_that_is_not_listed_has_no_price_and_not_0(model: str) -> None:
    assert priced(model, Requests(1.79e9, 1, 1000, 1000)) is None


def counted(*requests: float) -> list[Counters]:
    """Return a probe a minute; each request reads 1,000 tokens and writes 100."""
    return [Counters(60.0 * at, count, 1000 * count, 100 * count) for at, count in enumerate(requests)]


def test_requests_between_probes_are_told_apart() -> None:
    requests = between(None, counted(5, 5, 6, 9))
    assert [(some.at, some.count, some.input_tokens) for some in requests] == [
        (120, 1, 1000),
        (180, 3, 3000),
    ]


def test_a_bot_that_started_again_counts_from_0() -> None:
    (requests,) = between(counted(7)[0], [Counters(60, 2, 2000, 200)])
    assert (requests.count, requests.input_tokens, requests.output_tokens) == (2, 2000, 200)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.sets(st.integers(1, 49)))
def test_no_request_is_lost_or_counted_twice_wherever_the_rounds_are_cut(
    steps: list[int], cuts: set[int]
) -> None:
    total, counts = 0, []
    for step in steps:
        counts.append(total := total + step)
    points = counted(*counts)
    before: Counters | None = points[0]
    requests: list[Requests] = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(points)], strict=True):
        part = points[start:end]
        requests += between(before, part)
        before = part[-1] if part else before
    assert sum(some.count for some in requests) == counts[-1] - counts[0]


def test_a_retired_name_has_the_price_of_the_model_that_it_stands_for() -> None:
    name = "anthropic/claude-opus-latest"
    assert aliased(name, {}) == "anthropic/claude-opus-5"
    assert aliased(name, {name: SONNET}) == SONNET
    for model in RETIRED_MODELS.values():
        assert priced(model, Requests(1.79e9, 1, 1000, 1000)) is not None
