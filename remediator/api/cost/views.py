"""Costs, budgets and advice as the API shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from remediator.cost.budgets import Outlook
from remediator.cost.estimate import HOURS_A_MONTH, ModelSpend, Rate, month_bounds, month_of, spent
from remediator.cost.model_advice import Quality, by_model
from remediator.cost.model_pricing import SOURCE
from remediator.cost.price_table import PriceTable
from remediator.cost.repository import StoredAdvice
from remediator.cost.snapshot import FLEET, CostSnapshot
from remediator.model import Bot
from remediator.timestamps import DAY, iso


def cost_view(snapshot: CostSnapshot, quality: Mapping[str, Quality] | None = None) -> dict[str, Any]:
    """Return `GET /cost`. Dollars; null is unknown, and what is unknown is in no sum."""
    fleet = snapshot.outlook(FLEET)
    return {
        **summary(snapshot),
        "prices": _source(snapshot.prices, snapshot.now),
        "modelPrices": {
            "source": SOURCE,
            "asOf": datetime.fromtimestamp(snapshot.now, UTC).date().isoformat(),
        },
        "unpricedRequests": fleet.unpriced_requests,
        "unknownHours": round(fleet.unknown_hours, 3),
        "bots": _bots(snapshot),
        "models": [asdict(row) for row in by_model(snapshot.month_spends, quality or {})],
        "unknown": snapshot.unknown(),
        "budgets": [budget_view(outlook) for outlook in snapshot.outlooks],
    }


def summary(snapshot: CostSnapshot) -> dict[str, Any]:
    """Return `/dashboard.cost`, and what `/recommendations` says of the fleet."""
    fleet = snapshot.outlook(FLEET)
    counted_since = min((rate.since for rate in snapshot.rates), default=None)
    recommended = [advice for advice in snapshot.advice if advice.target]
    savings = [max(0.0, advice.body["monthly_saving"] or 0.0) for advice in recommended]
    over = [outlook.budget for outlook in snapshot.outlooks if outlook.over]
    return {
        "timestamp": iso(snapshot.now),
        "month": month_of(snapshot.now),
        "countedSince": None if counted_since is None else iso(counted_since),
        "usdPerHour": _usd(fleet.usd_per_hour),
        "usdPerMonth": _usd(fleet.usd_per_hour * HOURS_A_MONTH),
        "spentUsd": _usd(fleet.spent),
        "projectedUsd": _usd(fleet.projected),
        "unknownCount": len(snapshot.unknown()),
        "pricesAsOf": snapshot.prices.as_of or None,
        "pricesSource": snapshot.prices.source,
        "recommendations": len(recommended),
        "monthlySavingUsd": _usd(sum(savings)),
        "overBudget": [f"{budget.scope} {budget.name}" for budget in over],
    }


def _bots(snapshot: CostSnapshot) -> list[dict[str, Any]]:
    rates: dict[str, list[Rate]] = {}
    models: dict[str, list[ModelSpend]] = {}
    for rate in snapshot.rates:
        rates.setdefault(rate.bot, []).append(rate)
    for spend in snapshot.month_spends:
        models.setdefault(spend.bot, []).append(spend)
    return [_bot(snapshot, bot, rates.get(bot.name, []), models.get(bot.name, [])) for bot in snapshot.bots]


def _bot(
    snapshot: CostSnapshot, bot: Bot, rates: Sequence[Rate], models: Sequence[ModelSpend]
) -> dict[str, Any]:
    estimate = snapshot.estimates.get(bot.name)
    infrastructure, unknown_hours = spent(rates, month_bounds(snapshot.now)[0], snapshot.now)
    components = {} if estimate is None else {name: _usd(usd) for name, usd in estimate.usd_per_hour.items()}
    return {
        "bot": bot.name,
        "template": bot.template,
        "environment": bot.environment,
        "usdPerHour": None if estimate is None else _usd(estimate.total),
        "components": components,
        "unknown": {} if estimate is None else dict(estimate.unknown),
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
        "ageDays": None if dated is None else max(0, int((now - dated) / DAY)),
    }


def budget_view(outlook: Outlook) -> dict[str, Any]:
    """Return a budget and how it stands, as `GET /budgets` lists it."""
    return {
        "scope": outlook.budget.scope,
        "name": outlook.budget.name,
        "usd": outlook.budget.usd,
        "refuse": outlook.budget.refuse,
        "reason": outlook.budget.reason,
        "by": outlook.budget.actor,
        "spentUsd": _usd(outlook.spent),
        "projectedUsd": _usd(outlook.projected),
        "usdPerHour": _usd(outlook.usd_per_hour),
        "over": outlook.over,
        "unknownHours": round(outlook.unknown_hours, 3),
        "unpricedRequests": outlook.unpriced_requests,
    }


def advice_view(advice: StoredAdvice, prices: PriceTable) -> dict[str, Any]:
    """Return a recommendation with all that acting on it takes."""
    body = advice.body
    call = {"overrides": body["overrides"], "reason": "recommended", "apply": True}
    return {
        "bot": advice.bot,
        "kind": advice.kind,
        "status": body["status"],
        "current": body["current"],
        "target": advice.target or None,
        "monthlySavingUsd": _usd(body["monthly_saving"]),
        "evidence": body["evidence"],
        "risk": body["risk"],
        "command": body["command"] or None,
        "call": {"method": "POST", "path": f"/bots/{advice.bot}/config", "body": call}
        if advice.target
        else None,
        "since": iso(advice.since),
        "at": iso(advice.at),
        "prices": {"source": SOURCE, "asOf": iso(advice.at)[:10]}
        if advice.kind == "model"
        else {"source": prices.source, "asOf": prices.as_of or None},
    }


def _usd(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
