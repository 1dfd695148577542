"""The tables of costs: read as they were written, in SQLite and, in test_postgres, in PostgreSQL."""

from dataclasses import replace
from pathlib import Path

from remediator.cost.budgets import Budget
from remediator.cost.estimate import ModelSpend, Rate
from remediator.cost.model_pricing import Counters
from remediator.cost.price_table import shipped
from remediator.cost.repository import CostRepository, StoredAdvice
from remediator.store.store import Store

SPEND = ModelSpend("a", "x/y", "2026-11", "support", "production", 1.5, 10, 2, 1000, 200, 5, 6)


async def check_repository(store: Store) -> None:
    """Execute every statement of the repository, and check what is read after it."""
    await _write(store)
    async with store.read() as tx:
        repository = CostRepository(tx)
        assert await repository.prices("us-west-1") == shipped("us-west-1")
        rows = await repository.open_rates()
        assert [(row.component, row.usd_per_hour) for row in rows] == [("x", 0.5), ("y", None)]
    await _check(store, await _change(store, rows[0].id))
    async with store.write() as tx:
        repository = CostRepository(tx)
        assert await repository.remove_budget("fleet", "all")
        assert not await repository.remove_budget("fleet", "all")
        await repository.replace_advice([])
        assert await repository.advice() == []


async def _write(store: Store) -> None:
    async with store.write() as tx:
        repository = CostRepository(tx)
        assert await repository.prices("us-west-1") is None
        await repository.keep_prices(replace(shipped("us-west-1"), as_of="2026-01-01"))
        await repository.keep_prices(shipped("us-west-1"))
        await repository.change_rates(
            [],
            [
                Rate("a", "support", "production", part, 1, None, usd)
                for part, usd in (("x", 0.5), ("y", None))
            ],
        )
        await repository.add_spend([SPEND])
        await repository.keep_marks({"a": Counters(1, 2, 3, 4)}, [])
        await repository.put_budget(Budget("fleet", "all", 100))
        await repository.replace_advice(
            [StoredAdvice("a", "instance", "t3.small", 1, 2, {"evidence": ["z"]})]
        )


async def _change(store: Store, rate_id: int) -> float:
    """Change rows of every table; return when (Unix seconds)."""
    async with store.write() as tx:
        repository = CostRepository(tx)
        await repository.change_rates([rate_id], [])
        await repository.add_spend(
            [replace(SPEND, until=9), replace(SPEND, model="x/z"), replace(SPEND, bot="b")]
        )
        await repository.keep_marks({"a": Counters(5, 6, 7, 8), "b": Counters(1, 1, 1, 1)}, ["a"])
        await repository.put_budget(Budget("fleet", "all", 50, refuse=True))
        return tx.now


async def _check(store: Store, now: float) -> None:
    async with store.read() as tx:
        repository = CostRepository(tx)
        assert [row.component for row in await repository.open_rates()] == ["y"]
        assert [row.until for row in await repository.rates(0)] == [now, None]
        assert [row.component for row in await repository.rates(now + 1)] == ["y"]
        spends = {(spend.bot, spend.model): spend for spend in await repository.model_spend("2026-11")}
        both = spends["a", "x/y"]
        assert (both.usd, both.requests, both.unpriced, both.since, both.until) == (3.0, 20, 4, 5, 9)
        assert await repository.model_spend("2026-12") == []
        assert sorted(await repository.model_totals()) == [
            ("a", "x/y", 3.0),
            ("a", "x/z", 1.5),
            ("b", "x/y", 1.5),
        ]
        assert await repository.marks() == {"a": Counters(5, 6, 7, 8), "b": Counters(1, 1, 1, 1)}
        assert [(budget.usd, budget.refuse) for budget in await repository.budgets()] == [(50, True)]
        assert [advice.target for advice in await repository.advice()] == ["t3.small"]


async def test_costs_are_read_as_they_were_written(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path / 'x.db'}")
    try:
        await check_repository(store)
    finally:
        await store.close()
