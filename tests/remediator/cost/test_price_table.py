"""Price tables: dated, never 0, and kept where a refresh lacks a price."""

import itertools
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.cost.price_table import (
    PriceTable,
    credible,
    from_products,
    newer,
    on_demand,
    shipped,
    shipped_regions,
    table,
)
from templates.instance_types import FAMILIES, INSTANCE_TYPES, family_of
from tests.remediator.cost.test_pricing_api import product


@pytest.mark.parametrize("region", shipped_regions())
def test_each_size_of_a_family_costs_twice_the_one_before(region: str) -> None:
    """But for cents: AWS rounds."""
    prices = shipped(region).instance
    assert {"t2", "t3", "t3a", "t4g", "m7g", "c7g"} <= {name.partition(".")[0] for name in prices}
    assert prices.keys() <= INSTANCE_TYPES.keys()
    for family in FAMILIES:
        sizes = [size.name for size in INSTANCE_TYPES.values() if size.family == family]
        for smaller, larger in itertools.pairwise(name for name in sizes if name in prices):
            assert prices[larger] == pytest.approx(2 * prices[smaller], rel=0.01)


def test_all_types_are_priced_where_aws_has_most_of_them() -> None:
    assert shipped("us-east-1").instance.keys() == INSTANCE_TYPES.keys()


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
    shared = {name: virginia.instance[name] for name in ohio.instance}
    assert shared != ohio.instance, "Ohio's Graviton 3 and 4 of the family c are cheaper"
    assert {name: price for name, price in shared.items() if price != ohio.instance[name]}.keys() <= {
        size.name for name in ("c7g.large", "c8g.large") for size in family_of(name)
    }
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
    price = credible(value)
    assert price is None or 0 < price < float("inf")


def test_a_free_instance_in_a_list_is_a_fault_of_the_list() -> None:
    assert table("x", "2026-01-01", "a list", {"instance": {"t3.micro": 0, "t3.small": "0.02"}}).instance == {
        "t3.small": 0.02
    }


def test_what_a_refresh_lacks_keeps_its_last_good_price_and_the_source_says_so() -> None:
    before = shipped("us-west-1")
    fetched = PriceTable("us-west-1", "2027-01-01", "AWS pricing API", {"t3.micro": 9.0}, gp3=0.2)
    merged = newer(fetched, before)
    assert merged.instance["t3.micro"] == 9.0
    assert merged.instance["t3.small"] == before.instance["t3.small"]
    assert (merged.gp3, merged.address) == (0.2, before.address)
    assert merged.as_of == "2027-01-01"
    kept = "address, burst, t3.2xlarge, t3.large, t3.medium, t3.nano, t3.small, t3.xlarge, other families"
    assert f"{kept}: {before.source}" in merged.source


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", product("0"), product("free"), product("-1")])
def test_a_product_that_makes_no_sense_is_left_out(text: str) -> None:
    assert on_demand(text)[1] is None
    assert from_products("us-west-1", {"instance": [text]}).instance == {}
