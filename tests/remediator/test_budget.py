"""What was spent of a budget, what will have been, and whom it refuses."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.budget import Budget, Outlook, outlook, refusal
from remediator.cost import ModelSpend, Rate, changed, month_bounds, month_of, spent

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
NOW = NOVEMBER + 10 * 86400
FLEET = Budget("fleet", "all", 100.0)


def rate(usd: float | None, since: float = NOVEMBER, until: float | None = None, **changes: str) -> Rate:
    of: dict[str, str] = {"bot": "a", "component": "instance", **changes}
    return Rate(of["bot"], "support", "production", of["component"], since, until, usd)


def spend(usd: float, *, month: str = "2026-11", since: float = NOVEMBER, unpriced: float = 0) -> ModelSpend:
    return ModelSpend("a", "x/y", month, "support", "production", usd, 100, unpriced, 1, 1, since, NOW)


def test_a_month_is_that_of_utc_and_december_is_followed_by_january() -> None:
    assert month_bounds(NOW) == (NOVEMBER, DECEMBER)
    assert (month_of(NOVEMBER), month_of(NOVEMBER - 1)) == ("2026-11", "2026-10")
    assert month_bounds(DECEMBER)[1] == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def test_what_was_spent_is_that_of_this_month_and_unknown_hours_are_counted_apart() -> None:
    rates = [
        rate(1.0, since=NOVEMBER - 86400),
        rate(2.0, since=NOVEMBER, until=NOVEMBER + 3600, component="volume"),
        rate(None, since=NOW - 7200, component="address"),
    ]
    assert list(spent(rates, NOVEMBER, NOW)) == pytest.approx([240 + 2, 2])


def test_the_projection_is_what_was_spent_and_the_present_rate_to_the_months_end() -> None:
    seen = outlook(FLEET, [rate(0.1), rate(0.1, until=NOW - 3600, bot="gone")], [], NOW)
    assert seen.spent == pytest.approx(24 + 23.9)
    assert seen.projected == pytest.approx(seen.spent + 0.1 * 480)
    assert not seen.over, seen
    assert outlook(FLEET, [rate(1.0)], [], NOW).over


def test_models_go_on_as_this_month_so_far() -> None:
    seen = outlook(FLEET, [], [spend(10), spend(99, month="2026-10", since=NOVEMBER - 30 * 86400)], NOW)
    assert seen.spent == 10
    assert seen.projected == pytest.approx(30)


def test_in_the_first_days_of_a_month_the_last_one_foretells_models() -> None:
    early = NOVEMBER + 3600
    last = spend(300, month="2026-10", since=NOVEMBER - 31 * 86400)
    seen = outlook(FLEET, [], [last], early)
    assert seen.spent == 0
    assert seen.projected == pytest.approx(300 / (31 * 24 + 1) * (30 * 24 - 1))


def test_what_is_unknown_is_said_and_not_added() -> None:
    seen = outlook(FLEET, [rate(None)], [spend(0, unpriced=100)], NOW)
    assert (seen.spent, seen.unknown_hours, seen.unpriced_requests) == (0, 240, 100)


@pytest.mark.parametrize(
    ("budget", "covered"),
    [
        (Budget("fleet", "all", 1), True),
        (Budget("template", "support", 1), True),
        (Budget("template", "manager", 1), False),
        (Budget("environment", "production", 1), True),
        (Budget("environment", "staging", 1), False),
    ],
)
def test_a_budget_covers_its_scope(budget: Budget, covered: bool) -> None:
    assert budget.covers("support", "production") is covered


def looked(budget: Budget, projected: float) -> Outlook:
    return Outlook(budget, 10, projected, 0.1, 0, 0, hours_left=100)


def test_a_deploy_is_refused_with_the_reason_where_it_would_overrun_a_budget_that_refuses() -> None:
    strict = Budget("template", "support", 20, refuse=True)
    assert refusal([looked(strict, 15)], "support", "production", 0.04) == ""
    why = refusal([looked(strict, 15)], "support", "production", 0.06)
    assert "budget of template support is $20.00; with this bot $21.00" in why
    assert refusal([looked(strict, 15)], "manager", "production", 0.06) == ""
    assert refusal([looked(Budget("template", "support", 20), 99)], "support", "production", 9) == ""


def test_a_bot_of_unknown_cost_is_refused_only_by_a_budget_that_is_overrun_without_it() -> None:
    strict = Budget("fleet", "all", 20, refuse=True)
    assert refusal([looked(strict, 19)], "support", "production", None) == ""
    assert refusal([looked(strict, 21)], "support", "production", None)


# the rows that are kept


def test_what_costs_as_much_as_before_keeps_its_row() -> None:
    before = Rate("a", "support", "production", "instance", 0, None, 0.1, id=1)
    other = Rate("b", "support", "production", "instance", 0, None, 0.1, id=2)
    close, add = changed([before, other], [rate(0.1), rate(None, component="address")], NOW)
    assert close == [2]
    assert [(one.component, one.usd_per_hour) for one in add] == [("address", None)]
    assert changed([before], [rate(0.2)], NOW)[0] == [1]


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
        close, add = changed([row for row in rows if row.until is None], wanted, now)
        rows = [row if row.id not in close else ended(row, now) for row in rows]
        rows += [numbered(row, len(rows) + at) for at, row in enumerate(add)]
        now += 3600
        expected += sum(price or 0.0 for price in prices.values())
        unknown += sum(price is None for price in prices.values())
    assert list(spent(rows, NOVEMBER, now)) == pytest.approx([expected, unknown])


def ended(row: Rate, at: float) -> Rate:
    return Rate(
        row.bot, row.template, row.environment, row.component, row.since, at, row.usd_per_hour, row.id
    )


def numbered(row: Rate, number: int) -> Rate:
    return Rate(
        row.bot, row.template, row.environment, row.component, row.since, None, row.usd_per_hour, number
    )
