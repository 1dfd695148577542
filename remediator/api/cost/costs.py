"""The calls about money: what bots cost, what to change, what may be spent."""

import math
from dataclasses import asdict
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api.body import read_body
from remediator.api.cost.views import advice_view, budget_view, cost_view, summary
from remediator.api.lookup import actor_of, not_found, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import BudgetRequest
from remediator.cost.budgets import Budget, Scope
from remediator.cost.repository import CostRepository
from remediator.cost.snapshot import CostSnapshot, take_snapshot
from remediator.errors import Refused
from remediator.runtime import Runtime
from templates import ENVIRONMENTS, Templates

SCOPES: Final = ("fleet", "template", "environment")


async def cost(request: Request) -> Response:
    """Return what each bot costs, and what was and will be spent this month; null is unknown."""
    runtime = runtime_of(request)
    return JSONResponse(cost_view(await _snapshot(runtime), runtime.cost_worker.recommender.quality))


async def recommendations(request: Request) -> Response:
    """Return what to change: evidence, saving, risk and the command; with `?all=true` what fits, too."""
    snapshot = await _snapshot(runtime_of(request))
    bot = request.query_params.get("bot")
    every = [advice for advice in snapshot.advice if bot in (None, advice.bot)]
    totals = summary(snapshot)
    answer = {
        **{key: totals[key] for key in ("timestamp", "recommendations", "monthlySavingUsd")},
        "recommended": [advice_view(advice, snapshot.prices) for advice in every if advice.target],
        "insufficientData": [
            {"bot": advice.bot, "kind": advice.kind}
            for advice in every
            if advice.body["status"] == "insufficient data"
        ],
        "tooLarge": sorted({advice.bot for advice in every if advice.body["status"] == "too large"}),
    }
    if request.query_params.get("all") == "true":
        answer["others"] = [advice_view(advice, snapshot.prices) for advice in every if not advice.target]
    return JSONResponse(answer)


async def list_budgets(request: Request) -> Response:
    """Return monthly budgets, what was spent of each, and what will have been at the month's end."""
    snapshot = await _snapshot(runtime_of(request))
    return JSONResponse([budget_view(outlook) for outlook in snapshot.outlooks])


async def put_budget(request: Request) -> Response:
    """Set what may be spent in a month; with `refuse`, deploys that would take it over are refused."""
    runtime = runtime_of(request)
    scope, name = _scope_of(request, runtime.templates)
    body = await read_body(request, BudgetRequest)
    if not math.isfinite(body.usd):
        raise Refused("invalid", "must be a number of US dollars", field="usd", remedy="correct it")
    actor = actor_of(request, body.by)
    async with runtime.store.write() as tx:
        budget = Budget(scope, name, body.usd, body.refuse, body.reason, actor[:255], tx.now)
        await CostRepository(tx).put_budget(budget)
        facts = {key: asdict(budget)[key] for key in ("scope", "name", "usd", "refuse", "reason")}
        await tx.audit("budget.set", actor=actor, **facts)
        snapshot = await take_snapshot(tx, runtime.cost_worker.meter)
    return JSONResponse(budget_view(snapshot.outlook(budget)))


async def remove_budget(request: Request) -> Response:
    """Spend without a limit again."""
    scope, name = request.path_params["scope"], request.path_params["name"]
    async with runtime_of(request).store.write() as tx:
        if not await CostRepository(tx).remove_budget(scope, name):
            raise not_found("name", f"{scope}/{name}", "GET /budgets lists them")
        await tx.audit("budget.removed", actor=actor_of(request), scope=scope, name=name)
    return JSONResponse({"scope": scope, "name": name})


def _scope_of(request: Request, templates: Templates) -> tuple[Scope, str]:
    """Return the scope and the name in it; raise Refused (invalid) where there is no such thing."""
    scope, name = request.path_params["scope"], request.path_params["name"]
    if scope not in SCOPES:
        remedy = f"use {', '.join(SCOPES)}"
        raise Refused("invalid", f"is {scope[:80]!r}", field="scope", remedy=remedy)
    names: dict[str, list[str]] = {
        "fleet": ["all"],
        "template": templates.names,
        "environment": list(ENVIRONMENTS),
    }
    if name not in names[scope]:
        remedy = f"use {', '.join(names[scope])}"
        raise Refused("invalid", f"there is no {scope} {name[:80]!r}", field="name", remedy=remedy)
    return cast("Scope", scope), name


async def _snapshot(runtime: Runtime) -> CostSnapshot:
    async with runtime.store.read() as tx:
        return await take_snapshot(tx, runtime.cost_worker.meter)


_REFUSALS: Final = {422: ("No such scope or name, or no such sum.", ANY)}
OPERATIONS: Final = (
    Operation("GET", "/cost", cost, {200: ("Costs; null is unknown.", ANY)}),
    Operation(
        "GET",
        "/recommendations",
        recommendations,
        {200: ("What to change, and what is not known well enough.", ANY)},
        query={"all": "`true`: with those that say to change nothing.", "bot": "Only this bot's."},
    ),
    Operation("GET", "/budgets", list_budgets, {200: ("Budgets and their outlook.", list[dict[str, Any]])}),
    Operation(
        "PUT",
        "/budgets/{scope}/{name}",
        put_budget,
        {200: ("It holds.", ANY), **_REFUSALS},
        body=BudgetRequest,
    ),
    Operation(
        "DELETE",
        "/budgets/{scope}/{name}",
        remove_budget,
        {200: ("It is gone.", ANY), 404: ("There is none.", ANY)},
    ),
)
