"""What is known of costs at the moment, read from the store, and as people and Prometheus see it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from remediator import metrics
from remediator.accounts import Accounts
from remediator.budget import Budget, Outlook, outlook
from remediator.cost import HOURS_A_MONTH, Estimate, ModelSpend, Rate, month_bounds, month_of, spent
from remediator.efficiency import Quality, by_model
from remediator.ledger import Ledger, StoredAdvice
from remediator.model import Bot
from remediator.model_prices import SOURCE
from remediator.prices import PriceTable
from remediator.transaction import Transaction
from remediator.usage import GIB, Shape
from remediator.views import iso

FLEET = Budget("fleet", "all", 0)


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that a look at costs needs, at one moment."""

    now: float
    prices: PriceTable
    bots: Sequence[Bot]
    estimates: Mapping[str, Estimate]
    rates: Sequence[Rate]  # of this month and the one before
    spends: Sequence[ModelSpend]  # the same
    budgets: Sequence[Budget]
    advice: Sequence[StoredAdvice]
    totals: Sequence[tuple[str, str, float]]  # bot, model, dollars
    shapes: Mapping[str, Shape | None] = field(default_factory=dict)  # of instances as last seen, by bot

    def outlook(self, budget: Budget) -> Outlook:
        return outlook(budget, self.rates, self.spends, self.now)

    @property
    def outlooks(self) -> list[Outlook]:
        return [self.outlook(budget) for budget in self.budgets]

    @property
    def ours(self) -> list[ModelSpend]:
        """This month's."""
        return [spend for spend in self.spends if spend.month == month_of(self.now)]

    def unknown(self) -> list[dict[str, str]]:
        """Each part of a bot of which the price is unknown, and why."""
        parts = [
            {"bot": bot, "component": component, "why": why}
            for bot, one in self.estimates.items()
            for component, why in one.unknown.items()
        ]
        return parts + [
            {"bot": one.bot, "component": "model", "why": f"no price of {one.model} in {SOURCE}"}
            for one in self.ours
            if one.unpriced
        ]


async def open_books(tx: Transaction, accounts: Accounts) -> Books:
    ledger = Ledger(tx)
    before = month_bounds(month_bounds(tx.now)[0] - 1)[0]
    prices, bots = await accounts.prices(tx), await tx.bots()
    return Books(
        now=tx.now,
        prices=prices,
        bots=bots,
        estimates={bot.name: accounts.estimate(bot, prices) for bot in bots if bot.instance_id},
        rates=await ledger.rates(before),
        spends=await ledger.model_spend(month_of(before)),
        budgets=await ledger.budgets(),
        advice=await ledger.advice(),
        totals=await ledger.model_totals(),
        shapes={bot.name: accounts.shape(bot) for bot in bots},
    )


def samples(books: Books) -> dict[metrics.Series, metrics.Samples]:
    """For a scrape. What is unknown has no sample in a sum, and one that says so."""
    dated = books.prices.dated
    outlooks = books.outlooks
    sized = [
        ((bot.name, bot.instance_id), shape) for bot in books.bots if (shape := books.shapes.get(bot.name))
    ]
    return {
        metrics.COST: [
            ((bot, component), usd)
            for bot, one in books.estimates.items()
            for component, usd in one.usd_per_hour.items()
            if usd is not None
        ],
        metrics.COST_UNKNOWN: [
            (labels, 1.0) for labels in {(one["bot"], one["component"]) for one in books.unknown()}
        ],
        metrics.MODEL_COST: [((bot, model), usd) for bot, model, usd in books.totals],
        metrics.PRICES_DATE: [] if dated is None else [((books.prices.source,), dated)],
        metrics.BUDGET: [(_key(one), one.budget.usd) for one in outlooks],
        metrics.BUDGET_SPENT: [(_key(one), one.spent) for one in outlooks],
        metrics.BUDGET_PROJECTED: [(_key(one), one.projected) for one in outlooks],
        metrics.SAVING: [
            ((one.bot, one.kind), float(one.body["monthly_saving"]))
            for one in books.advice
            if one.target and one.body["monthly_saving"] is not None
        ],
        metrics.INSTANCE_VCPUS: [(labels, shape.vcpus) for labels, shape in sized],
        metrics.INSTANCE_MEMORY: [(labels, shape.usable_gib * GIB) for labels, shape in sized],
    }


def _key(one: Outlook) -> tuple[str, str]:
    return one.budget.scope, one.budget.name


# as JSON


def view(books: Books, quality: Mapping[str, Quality] | None = None) -> dict[str, Any]:
    """`GET /cost`. Dollars; null is unknown, and what is unknown is in no sum."""
    fleet = books.outlook(FLEET)
    return {
        **summary(books),
        "prices": _source(books.prices, books.now),
        "modelPrices": {"source": SOURCE, "asOf": datetime.fromtimestamp(books.now, UTC).date().isoformat()},
        "unpricedRequests": fleet.unpriced_requests,
        "unknownHours": round(fleet.unknown_hours, 3),
        "bots": _bots(books),
        "models": [asdict(row) for row in by_model(books.ours, quality or {})],
        "unknown": books.unknown(),
        "budgets": [budget_view(one) for one in books.outlooks],
    }


def summary(books: Books) -> dict[str, Any]:
    """`/dashboard.cost`."""
    fleet = books.outlook(FLEET)
    counted = min((rate.since for rate in books.rates), default=None)
    recommended = [one for one in books.advice if one.target]
    return {
        "timestamp": iso(books.now),
        "month": month_of(books.now),
        "countedSince": None if counted is None else iso(counted),
        "usdPerHour": _usd(fleet.usd_per_hour),
        "usdPerMonth": _usd(fleet.usd_per_hour * HOURS_A_MONTH),
        "spentUsd": _usd(fleet.spent),
        "projectedUsd": _usd(fleet.projected),
        "unknownCount": len(books.unknown()),
        "pricesAsOf": books.prices.as_of or None,
        "pricesSource": books.prices.source,
        "recommendations": len(recommended),
        "monthlySavingUsd": _usd(sum(max(0.0, one.body["monthly_saving"] or 0.0) for one in recommended)),
        "overBudget": [f"{one.budget.scope} {one.budget.name}" for one in books.outlooks if one.over],
    }


def _bots(books: Books) -> list[dict[str, Any]]:
    rates: dict[str, list[Rate]] = {}
    models: dict[str, list[ModelSpend]] = {}
    for rate in books.rates:
        rates.setdefault(rate.bot, []).append(rate)
    for spend in books.ours:
        models.setdefault(spend.bot, []).append(spend)
    return [_bot(books, bot, rates.get(bot.name, []), models.get(bot.name, [])) for bot in books.bots]


def _bot(books: Books, bot: Bot, rates: Sequence[Rate], models: Sequence[ModelSpend]) -> dict[str, Any]:
    one = books.estimates.get(bot.name)
    infrastructure, unknown_hours = spent(rates, month_bounds(books.now)[0], books.now)
    components = {} if one is None else {name: _usd(usd) for name, usd in one.usd_per_hour.items()}
    return {
        "bot": bot.name,
        "template": bot.template,
        "environment": bot.environment,
        "usdPerHour": None if one is None else _usd(one.total),
        "components": components,
        "unknown": {} if one is None else dict(one.unknown),
        "spentUsd": _usd(infrastructure + sum(spend.usd for spend in models)),
        "unknownHours": round(unknown_hours, 3),
        "models": [_model(spend) for spend in models],
    }


def _model(spend: ModelSpend) -> dict[str, Any]:
    unknown = spend.unpriced >= spend.requests > 0
    return {
        "model": spend.model,
        "usd": None if unknown else _usd(spend.usd),
        "usdPerRequest": _usd(spend.usd_per_request),
        "requests": spend.requests,
        "unpricedRequests": spend.unpriced,
        "inputTokens": spend.input_tokens,
        "outputTokens": spend.output_tokens,
        "since": iso(spend.since),
        "until": iso(spend.until),
    }


def _source(prices: PriceTable, now: float) -> dict[str, Any]:
    dated = prices.dated
    return {
        "region": prices.region,
        "source": prices.source,
        "asOf": prices.as_of or None,
        "ageDays": None if dated is None else max(0, int((now - dated) / 86400)),
    }


def budget_view(one: Outlook) -> dict[str, Any]:
    return {
        "scope": one.budget.scope,
        "name": one.budget.name,
        "usd": one.budget.usd,
        "refuse": one.budget.refuse,
        "reason": one.budget.reason,
        "by": one.budget.actor,
        "spentUsd": _usd(one.spent),
        "projectedUsd": _usd(one.projected),
        "usdPerHour": _usd(one.usd_per_hour),
        "over": one.over,
        "unknownHours": round(one.unknown_hours, 3),
        "unpricedRequests": one.unpriced_requests,
    }


def advice_view(one: StoredAdvice, prices: PriceTable) -> dict[str, Any]:
    """A recommendation as an engineer would act on it."""
    body = one.body
    call = {"overrides": body["overrides"], "reason": "recommended", "apply": True}
    return {
        "bot": one.bot,
        "kind": one.kind,
        "status": body["status"],
        "current": body["current"],
        "target": one.target or None,
        "monthlySavingUsd": _usd(body["monthly_saving"]),
        "evidence": body["evidence"],
        "risk": body["risk"],
        "command": body["command"] or None,
        "call": {"method": "POST", "path": f"/bots/{one.bot}/config", "body": call} if one.target else None,
        "since": iso(one.since),
        "at": iso(one.at),
        "prices": {"source": SOURCE, "asOf": iso(one.at)[:10]}
        if one.kind == "model"
        else {"source": prices.source, "asOf": prices.as_of or None},
    }


def _usd(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
