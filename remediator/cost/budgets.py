"""What may be spent in a month, and what will have been at its end. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remediator.cost.estimate import ModelSpend, Rate, month_bounds, month_of, spent
from remediator.timestamps import DAY

Scope = Literal["fleet", "template", "environment"]
REPRESENTATIVE: Final = 3 * DAY  # seconds of a month after which its own model spend foretells the rest


@dataclass(frozen=True, slots=True)
class Budget:
    """US dollars a month. `name` is that of the template or environment, `all` for the fleet."""

    scope: Scope
    name: str
    usd: float
    refuse: bool = False  # deploys that would take it over
    reason: str = ""
    actor: str = ""
    at: float = 0

    def covers(self, template: str, environment: str) -> bool:
        """Return whether bots of this template and environment are in it."""
        return self.scope == "fleet" or self.name == (template if self.scope == "template" else environment)


@dataclass(frozen=True, slots=True)
class Outlook:
    """US dollars. What is unknown is not in them; `unknown_hours` and `unpriced_requests` say how much is."""

    budget: Budget
    spent: float
    projected: float
    usd_per_hour: float  # at the moment, models included
    unknown_hours: float
    unpriced_requests: float
    hours_left: float

    @property
    def over(self) -> bool:
        """Return whether more than the budget will have been spent."""
        return self.projected > self.budget.usd


def outlook(budget: Budget, rates: Iterable[Rate], models: Iterable[ModelSpend], now: float) -> Outlook:
    """Return how the budget stands. `rates` and `models`: all of this month and the one before."""
    begins, ends = month_bounds(now)
    rates = [rate for rate in rates if budget.covers(rate.template, rate.environment)]
    models = [spend for spend in models if budget.covers(spend.template, spend.environment)]
    infrastructure, unknown_hours = spent(rates, begins, now)
    this_month = [spend for spend in models if spend.month == month_of(now)]
    hourly = sum(rate.usd_per_hour or 0.0 for rate in rates if rate.until is None)
    hourly += _model_rate(models, this_month, begins, now)
    total = infrastructure + sum(spend.usd for spend in this_month)
    left = (ends - now) / 3600
    return Outlook(
        budget=budget,
        spent=total,
        projected=total + hourly * left,
        usd_per_hour=hourly,
        unknown_hours=unknown_hours,
        unpriced_requests=sum(spend.unpriced for spend in this_month),
        hours_left=left,
    )


def _model_rate(
    spends: Sequence[ModelSpend], this_month: Sequence[ModelSpend], begins: float, now: float
) -> float:
    """Return dollars an hour: this month's so far; in its first days the last month's as well."""
    since = min((spend.since for spend in spends), default=now)
    if now - begins >= REPRESENTATIVE:
        since, spends = max(since, begins), this_month
    hours = (now - since) / 3600
    return sum(spend.usd for spend in spends) / hours if hours > 0 else 0.0


def refusal(outlooks: Iterable[Outlook], template: str, environment: str, usd_per_hour: float | None) -> str:
    """Return why a new bot that costs so much may not be deployed; empty where it may.

    A bot of unknown cost is refused only by a budget that is overrun without it.
    """
    for outlook in outlooks:
        budget = outlook.budget
        if not budget.refuse or not budget.covers(template, environment):
            continue
        projected = outlook.projected + (usd_per_hour or 0.0) * outlook.hours_left
        if projected > budget.usd:
            scope = "the fleet" if budget.scope == "fleet" else f"{budget.scope} {budget.name}"
            return (
                f"the month's budget of {scope} is ${budget.usd:.2f}; with this bot ${projected:.2f} would "
                f"be spent at its end (${outlook.spent:.2f} so far)"
            )
    return ""
