"""What costs, budgets and advice keep in the store: the statements, over a transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from remediator.budget import Budget
from remediator.cost import ModelSpend, Rate
from remediator.model_prices import Counters
from remediator.prices import PriceTable, table
from remediator.schema import advice, budgets, model_spend, prices, rates, usage_marks
from remediator.transaction import Transaction

_SPEND_KEY = ("bot", "model", "month", "template", "environment")
_SPEND_SUMS = ("usd", "requests", "unpriced", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class StoredAdvice:
    """What is advised, and since when."""

    bot: str
    kind: str
    target: str
    since: float
    at: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ledger:
    tx: Transaction

    # prices

    async def prices(self, region: str) -> PriceTable | None:
        """As last fetched; None where they never were."""
        row = (await self.tx.execute(select(prices).where(prices.c.region == region))).first()
        return None if row is None else table(row.region, row.as_of, row.source, row.items)

    async def fetched_at(self, region: str) -> float | None:
        found = await self.tx.execute(select(prices.c.fetched_at).where(prices.c.region == region))
        return found.scalar_one_or_none()

    async def keep_prices(self, fetched: PriceTable) -> None:
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
        """Those that held at some time since then."""
        held = or_(rates.c.until.is_(None), rates.c.until > since)
        return await self.tx.all(Rate, select(rates).where(held).order_by(rates.c.id))

    async def open_rates(self) -> list[Rate]:
        return await self.tx.all(Rate, select(rates).where(rates.c.until.is_(None)).order_by(rates.c.id))

    async def change_rates(self, close: Sequence[int], add: Iterable[Rate]) -> None:
        rows = [{key: value for key, value in asdict(rate).items() if key != "id"} for rate in add]
        if close:
            ended = update(rates).where(rates.c.id == bindparam("of")).values(until=self.tx.now)
            await self.tx.execute(ended, [{"of": row} for row in close])
        if rows:
            await self.tx.execute(insert(rates), rows)

    # what models cost

    async def marks(self) -> dict[str, Counters]:
        """How far each bot's usage was counted."""
        return {
            row.bot: Counters(row.at, row.requests, row.input_tokens, row.output_tokens)
            for row in await self.tx.execute(select(usage_marks))
        }

    async def keep_marks(self, marks: Mapping[str, Counters], known: Iterable[str]) -> None:
        """`known`: the bots that have a mark already."""
        before = set(known)
        rows = {bot: asdict(mark) for bot, mark in marks.items()}
        if old := [{"of": bot, **row} for bot, row in rows.items() if bot in before]:
            changed = update(usage_marks).where(usage_marks.c.bot == bindparam("of"))
            names = ("at", "requests", "input_tokens", "output_tokens")
            await self.tx.execute(
                changed.values({name: bindparam(f"new_{name}") for name in names}), _new(old)
            )
        if new := [{"bot": bot, **row} for bot, row in rows.items() if bot not in before]:
            await self.tx.execute(insert(usage_marks), new)

    async def model_spend(self, since_month: str = "") -> list[ModelSpend]:
        """From that month on."""
        asked = select(model_spend).where(model_spend.c.month >= since_month)
        return await self.tx.all(ModelSpend, asked.order_by(*(model_spend.c[name] for name in _SPEND_KEY)))

    async def model_totals(self) -> list[tuple[str, str, float]]:
        """(bot, model, dollars) since counting began."""
        asked = select(model_spend.c.bot, model_spend.c.model, func.sum(model_spend.c.usd).label("usd"))
        found = await self.tx.execute(asked.group_by(model_spend.c.bot, model_spend.c.model))
        return [(row.bot, row.model, row.usd) for row in found]

    async def add_spend(self, spends: Sequence[ModelSpend]) -> None:
        """Onto what was spent before, by bot, model, month, template and environment."""
        if not spends:
            return
        there = {tuple(getattr(one, name) for name in _SPEND_KEY) for one in await self.model_spend()}
        keyed = [(tuple(getattr(one, name) for name in _SPEND_KEY), asdict(one)) for one in spends]
        if old := [row for key, row in keyed if key in there]:
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
        if new := [row for key, row in keyed if key not in there]:
            await self.tx.execute(insert(model_spend), new)

    # budgets

    async def budgets(self) -> list[Budget]:
        return await self.tx.all(Budget, select(budgets).order_by(budgets.c.scope, budgets.c.name))

    async def put_budget(self, budget: Budget) -> None:
        await self.remove_budget(budget.scope, budget.name)
        await self.tx.execute(insert(budgets).values(asdict(budget)))

    async def remove_budget(self, scope: str, name: str) -> bool:
        of = (budgets.c.scope == scope) & (budgets.c.name == name)
        return (await self.tx.execute(delete(budgets).where(of))).rowcount == 1

    # advice

    async def advice(self) -> list[StoredAdvice]:
        return await self.tx.all(StoredAdvice, select(advice).order_by(advice.c.bot, advice.c.kind))

    async def replace_advice(self, every: Sequence[StoredAdvice]) -> None:
        await self.tx.execute(delete(advice))
        if every:
            await self.tx.execute(insert(advice), [asdict(one) for one in every])


def _new(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{("of" if key == "of" else f"new_{key}"): value for key, value in row.items()} for row in rows]
