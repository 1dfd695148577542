"""The HTTP calls about money: what bots cost, what to change, what may be spent."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.budget import Budget, Scope, refusal
from remediator.cost import estimate, parts_of
from remediator.cost_report import Books, advice_view, budget_view, open_books, summary, view
from remediator.errors import RequestError
from remediator.handlers import Handlers, actor_of, unknown
from remediator.ledger import Ledger
from remediator.operation import ANY, Operation
from remediator.requests import BudgetRequest, read_body
from remediator.services import Services
from remediator.transaction import Transaction
from templates import ENVIRONMENTS

SCOPES: Final = ("fleet", "template", "environment")


@dataclass(frozen=True, slots=True)
class Costs(Handlers):
    async def cost(self, _: Request) -> Response:
        """What each bot costs, and what was and will be spent this month; null is unknown."""
        return JSONResponse(view(await self._books(), self.services.counsel.quality))

    async def recommendations(self, request: Request) -> Response:
        """What to change: evidence, saving, risk and the command; with `?all=true` what fits, too."""
        books = await self._books()
        every = request.query_params.get("all") == "true"
        bot = request.query_params.get("bot")
        shown = [one for one in books.advice if bot in (None, one.bot)]
        return JSONResponse(
            {
                **{key: summary(books)[key] for key in ("timestamp", "recommendations", "monthlySavingUsd")},
                "recommended": [advice_view(one, books.prices) for one in shown if one.target],
                "insufficientData": [
                    {"bot": one.bot, "kind": one.kind}
                    for one in shown
                    if one.body["status"] == "insufficient data"
                ],
                "tooLarge": sorted({one.bot for one in shown if one.body["status"] == "too large"}),
                **(
                    {"others": [advice_view(one, books.prices) for one in shown if not one.target]}
                    if every
                    else {}
                ),
            }
        )

    async def list_budgets(self, _: Request) -> Response:
        """Monthly budgets, what was spent of each, and what will have been at the month's end."""
        books = await self._books()
        return JSONResponse([budget_view(one) for one in books.outlooks])

    async def put_budget(self, request: Request) -> Response:
        """Set what may be spent in a month; with `refuse`, deploys that would take it over are refused."""
        scope, name = self._which(request)
        asked = await read_body(request, BudgetRequest)
        if not math.isfinite(asked.usd):
            raise RequestError(422, "must be a number of US dollars", field="usd", remedy="correct it")
        who = asked.by or actor_of(request)
        async with self.services.store.write() as tx:
            budget = Budget(scope, name, asked.usd, asked.refuse, asked.reason, who[:255], tx.now)
            await Ledger(tx).put_budget(budget)
            said = {key: asdict(budget)[key] for key in ("scope", "name", "usd", "refuse", "reason")}
            await tx.audit("budget.set", actor=who, **said)
            books = await open_books(tx, self.services.accounts)
        return JSONResponse(budget_view(books.outlook(budget)))

    async def remove_budget(self, request: Request) -> Response:
        """Spend without a limit again."""
        scope, name = request.path_params["scope"], request.path_params["name"]
        async with self.services.store.write() as tx:
            if not await Ledger(tx).remove_budget(scope, name):
                raise unknown("name", f"{scope}/{name}", "GET /budgets lists them")
            await tx.audit("budget.removed", actor=actor_of(request), scope=scope, name=name)
        return JSONResponse({"scope": scope, "name": name})

    def _which(self, request: Request) -> tuple[Scope, str]:
        scope, name = request.path_params["scope"], request.path_params["name"]
        if scope not in SCOPES:
            raise RequestError(422, f"is {scope[:80]!r}", field="scope", remedy=f"use {', '.join(SCOPES)}")
        every: dict[str, list[str]] = {
            "fleet": ["all"],
            "template": self.services.templates.names,
            "environment": list(ENVIRONMENTS),
        }
        known = every[scope]
        if name not in known:
            raise RequestError(
                422, f"there is no {scope} {name[:80]!r}", field="name", remedy=f"use {', '.join(known)}"
            )
        return cast("Scope", scope), name

    async def _books(self) -> Books:
        async with self.services.store.read() as tx:
            return await open_books(tx, self.services.accounts)


async def check_budgets(services: Services, tx: Transaction, config: Mapping[str, Any]) -> None:
    """RequestError 409 where a budget refuses a new bot of this configuration."""
    if not any(budget.refuse for budget in await Ledger(tx).budgets()):
        return
    books = await open_books(tx, services.accounts)
    usd_per_hour = estimate(parts_of(config), books.prices).total
    why = refusal(books.outlooks, str(config["template"]), str(config["environment"]), usd_per_hour)
    if why:
        raise RequestError(
            409,
            why,
            field="botType",
            remedy="GET /recommendations says what could cost less; or raise the budget: PUT /budgets/…",
        )


_WRONG: Final = {422: ("No such scope or name, or no such sum.", ANY)}
OPERATIONS: Final = (
    Operation("GET", "/cost", "cost", {200: ("Costs; null is unknown.", ANY)}),
    Operation(
        "GET",
        "/recommendations",
        "recommendations",
        {200: ("What to change, and what is not known well enough.", ANY)},
        query={"all": "`true`: with those that say to change nothing.", "bot": "Only this bot's."},
    ),
    Operation("GET", "/budgets", "list_budgets", {200: ("Budgets and their outlook.", list[dict[str, Any]])}),
    Operation(
        "PUT",
        "/budgets/{scope}/{name}",
        "put_budget",
        {200: ("It holds.", ANY), **_WRONG},
        body=BudgetRequest,
    ),
    Operation(
        "DELETE",
        "/budgets/{scope}/{name}",
        "remove_budget",
        {200: ("It is gone.", ANY), 404: ("There is none.", ANY)},
    ),
)
