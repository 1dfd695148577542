"""Price tables: dated, never 0, refreshed from the pricing API, and kept when that fails."""

import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from remediator.model_prices import Counters, Requests, between, priced, request_price
from remediator.prices import (
    PriceTable,
    from_products,
    known,
    newer,
    on_demand,
    shipped,
    shipped_regions,
    table,
)
from remediator.pricing import Pricing, PricingError
from remediator.usage import SHAPES

SONNET = "anthropic/claude-sonnet-4-5"


# what came with this version


@pytest.mark.parametrize("region", shipped_regions())
def test_each_size_of_the_t3_family_costs_twice_the_one_before(region: str) -> None:
    prices = [shipped(region).instance[name] for name in SHAPES]
    for smaller, larger in itertools.pairwise(prices):
        assert larger == pytest.approx(2 * smaller)


@pytest.mark.parametrize("region", shipped_regions())
def test_no_price_is_0_or_missing_and_the_table_says_its_date(region: str) -> None:
    prices = shipped(region)
    assert all(price > 0 for price in prices.instance.values())
    assert None not in (prices.gp3, prices.address, prices.burst)
    assert date.fromisoformat(prices.as_of) <= date(2100, 1, 1)
    assert prices.dated is not None
    assert prices.source


def test_the_prices_of_virginia_are_those_of_the_price_list() -> None:
    prices = shipped("us-east-1")
    assert prices.instance["t3.micro"] == 0.0104
    assert prices.instance["t3.large"] == 0.0832
    assert (prices.gp3, prices.address, prices.burst) == (0.08, 0.005, 0.05)


def test_a_region_says_the_date_and_the_source_of_its_own_prices() -> None:
    virginia, ohio = shipped("us-east-1"), shipped("us-east-2")
    assert virginia.instance == ohio.instance
    assert virginia.as_of > ohio.as_of
    assert "karpenter" in virginia.source
    assert "karpenter" not in ohio.source


def test_a_region_that_is_not_listed_has_unknown_prices_and_not_those_of_another() -> None:
    prices = shipped("mars-north-1")
    assert prices.instance == {}
    assert prices.gp3 is None
    assert prices.dated is None


@given(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5))
def test_only_a_finite_number_above_0_is_a_price(value: object) -> None:
    found = known(value)
    assert found is None or 0 < found < float("inf")


def test_a_free_instance_in_a_list_is_a_fault_of_the_list() -> None:
    assert table("x", "2026-01-01", "a list", {"instance": {"t3.micro": 0, "t3.small": "0.02"}}).instance == {
        "t3.small": 0.02
    }


# the pricing API


def product(price: str, *, published: str = "2026-11-01T00:00:00Z", **attributes: str) -> str:
    """As GetProducts has it."""
    dimension = {"pricePerUnit": {"USD": price}, "unit": "Hrs", "beginRange": "0", "endRange": "Inf"}
    return json.dumps(
        {
            "product": {"attributes": {"usagetype": "USW1-BoxUsage", **attributes}},
            "terms": {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": dimension}}}},
            "publicationDate": published,
        }
    )


Answer = Callable[[Mapping[str, Any]], Sequence[str] | str]


@asynccontextmanager
async def pricing_api(answer: Answer) -> AsyncIterator[str]:
    """A server of AWS's pricing protocol, two products a page. A text is the code of an error."""

    async def get_products(request: web.Request) -> web.Response:
        assert request.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        asked = json.loads(await request.read())
        filters = {one["Field"]: one["Value"] for one in asked["Filters"]}
        found = answer({"service": asked["ServiceCode"], **filters})
        if isinstance(found, str):
            return web.json_response({"__type": found}, status=500 if found.startswith("Internal") else 400)
        at = int(asked.get("NextToken", 0))
        more = {"NextToken": str(at + 2)} if at + 2 < len(found) else {}
        return web.json_response(
            {"FormatVersion": "aws_v1", "PriceList": list(found[at : at + 2]), **more},
            content_type="application/x-amz-json-1.1",
        )

    app = web.Application()
    app.router.add_post("/", get_products)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def everything(asked: Mapping[str, Any]) -> Sequence[str]:
    """Dearer than what is shipped, and with products in between that are not meant."""
    assert asked["regionCode"] == "us-west-1"
    if "instanceType" in asked:
        assert (asked["operatingSystem"], asked["tenancy"]) == ("Linux", "Shared")
        return [product(str(shipped("us-west-1").instance[asked["instanceType"]] + 1), **asked)]
    if asked.get("volumeApiName") == "gp3":
        return [
            product("0.01", usagetype="USW1-EBS:VolumeP-IOPS.gp3"),
            product("0.02", usagetype="USW1-EBS:VolumeP-Throughput.gp3"),
            product("0.5", usagetype="USW1-EBS:VolumeUsage.gp3"),
        ]
    if asked["service"] == "AmazonVPC":
        return [
            product("0.006", usagetype="USW1-PublicIPv4:InUseAddress"),
            product("0.007", usagetype="USW1-PublicIPv4:IdleAddress"),
        ]
    return [product("0.04", usagetype="USW1-CPUCredits:t4g"), product("0.06", usagetype="USW1-CPUCredits:t3")]


async def test_a_refresh_reads_every_price_and_its_date() -> None:
    async with pricing_api(everything) as url:
        fetched = await Pricing(url).fetch("us-west-1", list(SHAPES))
    assert fetched.instance["t3.micro"] == pytest.approx(1.0124)
    assert (fetched.gp3, fetched.address, fetched.burst) == (0.5, 0.006, 0.06)
    assert (fetched.as_of, fetched.source) == ("2026-11-01", "AWS pricing API")


async def test_a_refresh_that_fails_says_so() -> None:
    async with pricing_api(lambda _: "InternalErrorException") as url:
        with pytest.raises(PricingError, match="InternalError"):
            await Pricing(url).fetch("us-west-1", list(SHAPES))


async def test_a_refresh_that_is_denied_names_what_the_policy_lacks() -> None:
    async with pricing_api(lambda _: "AccessDeniedException") as url:
        with pytest.raises(PricingError, match=r"allow pricing:GetProducts .*iam/remediator\.json"):
            await Pricing(url).fetch("us-west-1", list(SHAPES))


async def test_a_list_without_an_instance_type_is_no_refresh() -> None:
    def lacking(asked: Mapping[str, Any]) -> Sequence[str]:
        return [] if asked.get("instanceType") == "t3.large" else everything(asked)

    async with pricing_api(lacking) as url:
        with pytest.raises(PricingError, match=r"t3\.large in us-west-1"):
            await Pricing(url).fetch("us-west-1", list(SHAPES))


def test_what_a_refresh_lacks_keeps_its_last_good_price_and_the_source_says_so() -> None:
    before = shipped("us-west-1")
    fetched = PriceTable("us-west-1", "2027-01-01", "AWS pricing API", {"t3.micro": 9.0}, gp3=0.2)
    merged = newer(fetched, before)
    assert merged.instance["t3.micro"] == 9.0
    assert merged.instance["t3.small"] == before.instance["t3.small"]
    assert (merged.gp3, merged.address) == (0.2, before.address)
    assert merged.as_of == "2027-01-01"
    assert f"address, burst, t3.2xlarge, t3.large, t3.medium, t3.small, t3.xlarge: {before.source}" in (
        merged.source
    )


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", product("0"), product("free"), product("-1")])
def test_a_product_that_makes_no_sense_is_left_out(text: str) -> None:
    assert on_demand(text)[1] is None
    assert from_products("us-west-1", {"instance": [text]}).instance == {}


# models


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
    one = priced(SONNET, Requests(1.79e9, 1, 100_000, 100))
    assert ten is not None
    assert one is not None
    assert ten == pytest.approx(10 * one)


@pytest.mark.parametrize("model", ["anthropic/claude-opus-latest", "nobody/knows", "no-provider", "/", ""])
def test_a_model_that_is_not_listed_has_no_price_and_not_0(model: str) -> None:
    assert priced(model, Requests(1.79e9, 1, 1000, 1000)) is None


def counted(*requests: float) -> list[Counters]:
    """A probe a minute; each request reads 1,000 tokens and writes 100."""
    return [Counters(60.0 * at, count, 1000 * count, 100 * count) for at, count in enumerate(requests)]


def test_requests_between_probes_are_told_apart() -> None:
    found = between(None, counted(5, 5, 6, 9))
    assert [(one.at, one.count, one.input_tokens) for one in found] == [(120, 1, 1000), (180, 3, 3000)]


def test_a_bot_that_started_again_counts_from_0() -> None:
    (found,) = between(counted(7)[0], [Counters(60, 2, 2000, 200)])
    assert (found.count, found.input_tokens, found.output_tokens) == (2, 2000, 200)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.sets(st.integers(1, 49)))
def test_no_request_is_lost_or_counted_twice_wherever_the_rounds_are_cut(
    steps: list[int], cuts: set[int]
) -> None:
    total, counts = 0, []
    for step in steps:
        counts.append(total := total + step)
    points = counted(*counts)
    before: Counters | None = points[0]
    found: list[Requests] = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(points)], strict=True):
        part = points[start:end]
        found += between(before, part)
        before = part[-1] if part else before
    assert sum(one.count for one in found) == counts[-1] - counts[0]
