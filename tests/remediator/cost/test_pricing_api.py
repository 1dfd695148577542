"""Prices as the AWS pricing API answers them, over its own protocol."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from remediator.cost.price_table import shipped
from remediator.cost.pricing_api import Pricing, PricingError
from templates.instance_types import family_of


def product(price: str, *, published: str = "2026-11-01T00:00:00Z", **attributes: str) -> str:
    """Return a product as GetProducts answers it."""
    dimension = {"pricePerUnit": {"USD": price}, "unit": "Hrs", "beginRange": "0", "endRange": "Inf"}
    return json.dumps(
        {
            "product": {"attributes": {"usagetype": "USW1-BoxUsage", **attributes}},
            "terms": {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": dimension}}}},
            "publicationDate": published,
        }
    )


T3 = [size.name for size in family_of("t3.micro")]
Answer = Callable[[Mapping[str, Any]], Sequence[str] | str]


@asynccontextmanager
async def pricing_api(answer: Answer) -> AsyncIterator[str]:
    """Serve AWS's pricing protocol, two products a page; a text as answer is the code of an error."""

    async def get_products(request: web.Request) -> web.Response:
        assert request.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        query = json.loads(await request.read())
        filters = {condition["Field"]: condition["Value"] for condition in query["Filters"]}
        products = answer({"service": query["ServiceCode"], **filters})
        if isinstance(products, str):
            status = 500 if products.startswith("Internal") else 400
            return web.json_response({"__type": products}, status=status)
        at = int(query.get("NextToken", 0))
        more = {"NextToken": str(at + 2)} if at + 2 < len(products) else {}
        return web.json_response(
            {"FormatVersion": "aws_v1", "PriceList": list(products[at : at + 2]), **more},
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


def everything(query: Mapping[str, Any]) -> Sequence[str]:
    """Answer with prices above the shipped ones, and with products in between that are not meant."""
    assert query["regionCode"] == "us-west-1"
    if "instanceType" in query:
        assert (query["operatingSystem"], query["tenancy"]) == ("Linux", "Shared")
        return [product(str(shipped("us-west-1").instance[query["instanceType"]] + 1), **query)]
    if query.get("volumeApiName") == "gp3":
        return [
            product("0.01", usagetype="USW1-EBS:VolumeP-IOPS.gp3"),
            product("0.02", usagetype="USW1-EBS:VolumeP-Throughput.gp3"),
            product("0.5", usagetype="USW1-EBS:VolumeUsage.gp3"),
        ]
    if query["service"] == "AmazonVPC":
        return [
            product("0.006", usagetype="USW1-PublicIPv4:InUseAddress"),
            product("0.007", usagetype="USW1-PublicIPv4:IdleAddress"),
        ]
    return [product("0.04", usagetype="USW1-CPUCredits:t4g"), product("0.06", usagetype="USW1-CPUCredits:t3")]


async def test_a_refresh_reads_every_price_and_its_date() -> None:
    async with pricing_api(everything) as url:
        fetched = await Pricing(url).fetch("us-west-1", T3)
    assert fetched.instance["t3.micro"] == pytest.approx(1.0124)
    assert (fetched.gp3, fetched.address, fetched.burst) == (0.5, 0.006, 0.06)
    assert (fetched.as_of, fetched.source) == ("2026-11-01", "AWS pricing API")


async def test_a_refresh_that_fails_says_so() -> None:
    async with pricing_api(lambda _: "InternalErrorException") as url:
        with pytest.raises(PricingError, match="InternalError"):
            await Pricing(url).fetch("us-west-1", T3)


async def test_a_refresh_that_is_denied_names_what_the_policy_lacks() -> None:
    async with pricing_api(lambda _: "AccessDeniedException") as url:
        with pytest.raises(PricingError, match=r"allow pricing:GetProducts .*iam/remediator\.json"):
            await Pricing(url).fetch("us-west-1", T3)


async def test_a_list_without_an_instance_type_leaves_its_price_unknown() -> None:
    """No region has every type."""

    def lacking(query: Mapping[str, Any]) -> Sequence[str]:
        return [] if query.get("instanceType") == "t3.large" else everything(query)

    async with pricing_api(lacking) as url:
        fetched = await Pricing(url).fetch("us-west-1", T3)
    assert set(fetched.instance) == set(T3) - {"t3.large"}


async def test_a_list_without_any_instance_type_is_no_refresh() -> None:
    def empty(query: Mapping[str, Any]) -> Sequence[str]:
        return [] if "instanceType" in query else everything(query)

    async with pricing_api(empty) as url:
        with pytest.raises(PricingError, match=r"t3\.large, .* in us-west-1"):
            await Pricing(url).fetch("us-west-1", T3)
