"""Refuses a new bot that would break a budget. Called when a person or scaling deploys one."""

from collections.abc import Mapping
from typing import Any

from remediator.cost.budgets import refusal
from remediator.cost.estimate import estimate, parts_of
from remediator.cost.repository import CostRepository
from remediator.cost.snapshot import read_outlooks
from remediator.errors import Refused
from remediator.store.transaction import Transaction


async def check_budgets(tx: Transaction, config: Mapping[str, Any], region: str) -> None:
    """Raise Refused (conflict) where a budget refuses a new bot of this configuration, in that AWS region.

    Only budgets that cover it and refuse are asked: mostly that is one statement.
    """
    template, environment = str(config["template"]), str(config["environment"])
    budgets = await CostRepository(tx).budgets()
    refusing = [budget for budget in budgets if budget.refuse and budget.covers(template, environment)]
    if not refusing:
        return
    prices = await CostRepository(tx).current_prices(region)
    usd_per_hour = estimate(parts_of(config), prices).total
    reason = refusal(await read_outlooks(tx, refusing), template, environment, usd_per_hour)
    if reason:
        raise Refused(
            "conflict",
            reason,
            field="botType",
            remedy="GET /recommendations says what could cost less; or raise the budget: PUT /budgets/…",
        )
