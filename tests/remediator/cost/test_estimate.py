"""What a bot costs an hour, the months that it is summed by, and the rows that are kept of it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.cost.estimate import (
    BillableParts,
    Rate,
    changed,
    estimate,
    month_bounds,
    month_of,
    spent,
    surplus_vcpus,
)
from remediator.cost.price_table import PriceTable, shipped
from remediator.timestamps import DAY

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
NOW = NOVEMBER + 10 * DAY


def rate(usd: float | None, since: float = NOVEMBER, until: float | None = None, **changes: str) -> Rate:
    labels: dict[str, str] = {"bot": "a", "component": "instance", **changes}
    return Rate(labels["bot"], "support", "production", labels["component"], since, until, usd)


def test_a_bot_costs_what_its_parts_do() -> None:
    costs = estimate(
        BillableParts("t3.micro", 10, volumes=2, addresses=1, surplus_vcpus=0.5), shipped("us-west-1")
    )
    assert costs.usd_per_hour == pytest.approx(
        {"instance": 0.0124, "volume": 2 * 10 * 0.096 / 730, "address": 0.005, "burst": 0.025}
    )
    assert costs.total == pytest.approx(sum(filter(None, costs.usd_per_hour.values())))
    assert costs.unknown == {}
    assert costs.as_of == shipped("us-west-1").as_of


def test_what_has_no_price_is_unknown_and_so_is_the_sum() -> None:
    costs = estimate(BillableParts("t3.micro", 10, addresses=1), PriceTable("mars-north-1"))
    assert costs.usd_per_hour == {"instance": None, "volume": None, "address": None, "burst": 0.0}
    assert costs.total is None
    assert costs.unknown["instance"] == (
        "no price of t3.micro in mars-north-1; set BOT_REMEDIATOR_PRICES_REFRESH=true to ask AWS for it"
    )


def test_an_address_of_which_nobody_knows_is_unknown_and_none_is_free() -> None:
    prices = shipped("us-west-1")
    assert estimate(BillableParts("t3.micro", 10, addresses=None), prices).usd_per_hour["address"] is None
    assert estimate(BillableParts("t3.micro", 10, addresses=0), prices).usd_per_hour["address"] == 0.0


def test_a_stopped_instance_costs_its_volume() -> None:
    costs = estimate(BillableParts("t3.large", 10, running=False), shipped("us-west-1"))
    assert costs.usd_per_hour["instance"] == 0
    assert costs.usd_per_hour["volume"]


def test_surplus_credits_are_what_is_used_beyond_the_baseline() -> None:
    assert surplus_vcpus(0.15, 2, 0.1) == pytest.approx(0.1)
    assert surplus_vcpus(0.05, 2, 0.1) == 0


def test_a_month_is_that_of_utc_and_december_is_followed_by_january() -> None:
    assert month_bounds(NOW) == (NOVEMBER, DECEMBER)
    assert (month_of(NOVEMBER), month_of(NOVEMBER - 1)) == ("2026-11", "2026-10")
    assert month_bounds(DECEMBER)[1] == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def test_what_was_spent_is_that_of_this_month_and_unknown_hours_are_counted_apart() -> None:
    rates = [
        rate(1.0, since=NOVEMBER - DAY),
        rate(2.0, since=NOVEMBER, until=NOVEMBER + 3600, component="volume"),
        rate(None, since=NOW - 7200, component="address"),
    ]
    assert list(spent(rates, NOVEMBER, NOW)) == pytest.approx([240 + 2, 2])


def test_what_costs_as_much_as_before_keeps_its_row() -> None:
    before = Rate("a", "support", "production", "instance", 0, None, 0.1, id=1)
    other = Rate("b", "support", "production", "instance", 0, None, 0.1, id=2)
    close, add = changed([before, other], [rate(0.1), rate(None, component="address")])
    assert close == [2]
    assert [(row.component, row.usd_per_hour) for row in add] == [("address", None)]
    assert changed([before], [rate(0.2)])[0] == [1]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.floats(0.01, 1)), max_size=12))
def test_the_sum_over_rows_is_the_sum_over_time_however_prices_changed(
    changes: list[tuple[str, float | None]],
) -> None:
    rows: list[Rate] = []
    expected = unknown = 0.0
    now = NOVEMBER
    prices: dict[str, float | None] = {}
    for bot, usd in changes:
        prices[bot] = usd
        wanted = [rate(price, since=now, bot=name) for name, price in prices.items()]
        close, add = changed([row for row in rows if row.until is None], wanted)
        rows = [row if row.id not in close else replace(row, until=now) for row in rows]
        rows += [replace(row, id=len(rows) + at) for at, row in enumerate(add)]
        now += 3600
        expected += sum(price or 0.0 for price in prices.values())
        unknown += sum(price is None for price in prices.values())
    assert list(spent(rows, NOVEMBER, now)) == pytest.approx([expected, unknown])


@pytest.mark.parametrize(("kind", "known"), [("t3a.small", True), ("t2.small", True), ("t4g.small", False)])
def test_surplus_credits_of_graviton_have_another_price_which_is_not_known(kind: str, known: bool) -> None:
    costs = estimate(BillableParts(kind, 10, surplus_vcpus=0.5), shipped("us-west-1"))
    assert (costs.usd_per_hour["burst"] is not None) == known
    assert ("burst" in costs.unknown) != known
