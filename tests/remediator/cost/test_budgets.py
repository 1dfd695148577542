"""What was spent of a budget, what will have been, and which deploys it refuses."""

import pytest

from remediator.cost.budgets import Budget, Outlook, outlook, refusal
from remediator.cost.estimate import ModelSpend
from remediator.timestamps import DAY
from tests.remediator.cost.test_estimate import NOVEMBER, NOW, rate

FLEET = Budget("fleet", "all", 100.0)


def spend(usd: float, *, month: str = "2026-11", since: float = NOVEMBER, unpriced: float = 0) -> ModelSpend:
    return ModelSpend("a", "x/y", month, "support", "production", usd, 100, unpriced, 1, 1, since, NOW)


def test_the_projection_is_what_was_spent_and_the_present_rate_to_the_months_end() -> None:
    standing = outlook(FLEET, [rate(0.1), rate(0.1, until=NOW - 3600, bot="gone")], [], NOW)
    assert standing.spent == pytest.approx(24 + 23.9)
    assert standing.projected == pytest.approx(standing.spent + 0.1 * 480)
    assert not standing.over, standing
    assert outlook(FLEET, [rate(1.0)], [], NOW).over


def test_models_go_on_as_this_month_so_far() -> None:
    standing = outlook(FLEET, [], [spend(10), spend(99, month="2026-10", since=NOVEMBER - 30 * DAY)], NOW)
    assert standing.spent == 10
    assert standing.projected == pytest.approx(30)


def test_in_the_first_days_of_a_month_the_last_one_foretells_models() -> None:
    early = NOVEMBER + 3600
    last = spend(300, month="2026-10", since=NOVEMBER - 31 * DAY)
    standing = outlook(FLEET, [], [last], early)
    assert standing.spent == 0
    assert standing.projected == pytest.approx(300 / (31 * 24 + 1) * (30 * 24 - 1))


def test_what_is_unknown_is_said_and_not_added() -> None:
    standing = outlook(FLEET, [rate(None)], [spend(0, unpriced=100)], NOW)
    assert (standing.spent, standing.unknown_hours, standing.unpriced_requests) == (0, 240, 100)


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


def outlook_of(budget: Budget, projected: float) -> Outlook:
    return Outlook(budget, 10, projected, 0.1, 0, 0, hours_left=100)


def test_a_deploy_is_refused_with_the_reason_where_it_would_overrun_a_budget_that_refuses() -> None:
    strict = Budget("template", "support", 20, refuse=True)
    assert refusal([outlook_of(strict, 15)], "support", "production", 0.04) == ""
    reason = refusal([outlook_of(strict, 15)], "support", "production", 0.06)
    assert "budget of template support is $20.00; with this bot $21.00" in reason
    assert refusal([outlook_of(strict, 15)], "manager", "production", 0.06) == ""
    assert refusal([outlook_of(Budget("template", "support", 20), 99)], "support", "production", 9) == ""


def test_a_bot_of_unknown_cost_is_refused_only_by_a_budget_that_is_overrun_without_it() -> None:
    strict = Budget("fleet", "all", 20, refuse=True)
    assert refusal([outlook_of(strict, 19)], "support", "production", None) == ""
    assert refusal([outlook_of(strict, 21)], "support", "production", None)
