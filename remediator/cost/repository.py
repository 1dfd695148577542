"""The tables of prices, rates, model spend, budgets and advice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from remediator.cost.budgets import Budget
from remediator.cost.estimate import ModelSpend, Rate
from remediator.cost.model_pricing import Counters
from remediator.cost.price_table import PriceTable, shipped, table
from remediator.store.schema import advice, budgets, model_spend, prices, rates, usage_marks
from remediator.store.transaction import Transaction

_SPEND_KEY = ("bot", "model", "month", "template", "environment")
_SPEND_SUMS = ("usd", "requests", "unpriced", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class StoredAdvice:
    """Advice as it is stored: made at `at`, with the same target since `since` (Unix seconds)."""

    bot: str
    kind: str
    target: str
    since: float
    at: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CostRepository:
    """The statements about costs, in one transaction."""

    tx: Transaction

    # prices

    async def prices(self, region: str) -> PriceTable | None:
        """Return the prices as last fetched; None where they never were."""
        row = (await self.tx.execute(select(prices).where(prices.c.region == region))).first()
        return None if row is None else table(row.region, row.as_of, row.source, row.items)

    async def current_prices(self, region: str) -> PriceTable:
        """Return the last good prices, or those that came with this version."""
        return await self.prices(region) or shipped(region)

    async def fetched_at(self, region: str) -> float | None:
        """Return when the region's prices were last fetched (Unix seconds); None if never."""
        rows = await self.tx.execute(select(prices.c.fetched_at).where(prices.c.region == region))
        return rows.scalar_one_or_none()

    async def keep_prices(self, fetched: PriceTable) -> None:
        """Replace the region's prices by those fetched now."""
        await self.tx.execute(delete(prices).where(prices.c.region == fetched.region))
        await self.tx.execute(
            insert(prices).values(
                region=fetched.region,
                as_of=fetched.as_of,
                source=fetched.source,
                fetched_at=self.tx.now,
                items=fetched.as_items(),
            )
        )

    # what components cost

    async def rates(self, since: float) -> list[Rate]:
        """Return the rates that were in force at some time since then (Unix seconds)."""
        in_force = or_(rates.c.until.is_(None), rates.c.until > since)
        return await self.tx.all(Rate, select(rates).where(in_force).order_by(rates.c.id))

    async def open_rates(self) -> list[Rate]:
        """Return the rates that are in force now."""
        return await self.tx.all(Rate, select(rates).where(rates.c.until.is_(None)).order_by(rates.c.id))

    async def change_rates(self, close: Sequence[int], add: Iterable[Rate]) -> None:
        """End the rates with these ids now, and add others."""
        rows = [{key: value for key, value in asdict(rate).items() if key != "id"} for rate in add]
        if close:
            ended = update(rates).where(rates.c.id == bindparam("of")).values(until=self.tx.now)
            await self.tx.execute(ended, [{"of": rate_id} for rate_id in close])
        if rows:
            await self.tx.execute(insert(rates), rows)

    # what models cost

    async def marks(self) -> dict[str, Counters]:
        """Return up to which counters each bot's usage was counted."""
        return {
            row.bot: Counters(row.at, row.requests, row.input_tokens, row.output_tokens)
            for row in await self.tx.execute(select(usage_marks))
        }

    async def keep_marks(self, marks: Mapping[str, Counters], marked: Iterable[str]) -> None:
        """Store up to where each bot's usage is counted now. `marked`: the bots that have a mark already."""
        before = set(marked)
        if old := {bot: asdict(mark) for bot, mark in marks.items() if bot in before}:
            names = ("at", "requests", "input_tokens", "output_tokens")
            changed = update(usage_marks).where(usage_marks.c.bot == bindparam("of"))
            changed = changed.values({name: bindparam(f"new_{name}") for name in names})
            rows = [{"of": bot} | {f"new_{name}": row[name] for name in names} for bot, row in old.items()]
            await self.tx.execute(changed, rows)
        if new := [{"bot": bot, **asdict(mark)} for bot, mark in marks.items() if bot not in before]:
            await self.tx.execute(insert(usage_marks), new)

    async def model_spend(self, since_month: str = "") -> list[ModelSpend]:
        """Return what models have cost, from that month on."""
        spends = select(model_spend).where(model_spend.c.month >= since_month)
        return await self.tx.all(ModelSpend, spends.order_by(*(model_spend.c[name] for name in _SPEND_KEY)))

    async def model_totals(self) -> list[tuple[str, str, float]]:
        """Return (bot, model, dollars) since counting began."""
        sums = select(model_spend.c.bot, model_spend.c.model, func.sum(model_spend.c.usd).label("usd"))
        rows = await self.tx.execute(sums.group_by(model_spend.c.bot, model_spend.c.model))
        return [(row.bot, row.model, row.usd) for row in rows]

    async def add_spend(self, spends: Sequence[ModelSpend]) -> None:
        """Add to what was spent before, by bot, model, month, template and environment."""
        if not spends:
            return
        before = {_key(spend) for spend in await self.model_spend()}
        if old := [asdict(spend) for spend in spends if _key(spend) in before]:
            match = [model_spend.c[name] == bindparam(f"of_{name}") for name in _SPEND_KEY]
            sums = {name: model_spend.c[name] + bindparam(f"more_{name}") for name in _SPEND_SUMS}
            changed = update(model_spend).where(*match).values(**sums, until=bindparam("new_until"))
            await self.tx.execute(
                changed,
                [
                    {f"of_{name}": row[name] for name in _SPEND_KEY}
                    | {f"more_{name}": row[name] for name in _SPEND_SUMS}
                    | {"new_until": row["until"]}
                    for row in old
                ],
            )
        if new := [asdict(spend) for spend in spends if _key(spend) not in before]:
            await self.tx.execute(insert(model_spend), new)

    # budgets

    async def budgets(self) -> list[Budget]:
        """Return all budgets, by scope and name."""
        return await self.tx.all(Budget, select(budgets).order_by(budgets.c.scope, budgets.c.name))

    async def put_budget(self, budget: Budget) -> None:
        """Set the budget in place of the one of the same scope and name."""
        await self.remove_budget(budget.scope, budget.name)
        await self.tx.execute(insert(budgets).values(asdict(budget)))

    async def remove_budget(self, scope: str, name: str) -> bool:
        """Remove the budget; return whether there was one."""
        of = (budgets.c.scope == scope) & (budgets.c.name == name)
        return (await self.tx.execute(delete(budgets).where(of))).rowcount == 1

    # advice

    async def advice(self) -> list[StoredAdvice]:
        """Return the advice on all bots, by bot and kind."""
        return await self.tx.all(StoredAdvice, select(advice).order_by(advice.c.bot, advice.c.kind))

    async def replace_advice(self, rows: Sequence[StoredAdvice]) -> None:
        """Store these in place of all advice that there was."""
        await self.tx.execute(delete(advice))
        if rows:
            await self.tx.execute(insert(advice), [asdict(row) for row in rows])


def _key(spend: ModelSpend) -> tuple[str, ...]:
    return tuple(getattr(spend, name) for name in _SPEND_KEY)
