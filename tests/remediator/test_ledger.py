"""The books, as they are kept: the same in SQLite and, in test_postgres, in PostgreSQL."""

from dataclasses import replace
from pathlib import Path

from remediator.budget import Budget
from remediator.cost import ModelSpend, Rate
from remediator.ledger import Ledger, StoredAdvice
from remediator.model_prices import Counters
from remediator.prices import shipped
from remediator.store import Store

SPEND = ModelSpend("a", "x/y", "2026-11", "support", "production", 1.5, 10, 2, 1000, 200, 5, 6)


async def keep_books(store: Store) -> None:
    """Every statement of the ledger, and what is to be read after it."""
    async with store.write() as tx:
        ledger = Ledger(tx)
        assert await ledger.prices("us-west-1") is None
        await ledger.keep_prices(replace(shipped("us-west-1"), as_of="2026-01-01"))
        await ledger.keep_prices(shipped("us-west-1"))
        await ledger.change_rates(
            [],
            [
                Rate("a", "support", "production", part, 1, None, usd)
                for part, usd in (("x", 0.5), ("y", None))
            ],
        )
        await ledger.add_spend([SPEND])
        await ledger.keep_marks({"a": Counters(1, 2, 3, 4)}, [])
        await ledger.put_budget(Budget("fleet", "all", 100))
        await ledger.replace_advice([StoredAdvice("a", "instance", "t3.small", 1, 2, {"evidence": ["z"]})])
    async with store.read() as tx:
        ledger = Ledger(tx)
        assert await ledger.prices("us-west-1") == shipped("us-west-1")
        rows = await ledger.open_rates()
        assert [(row.component, row.usd_per_hour) for row in rows] == [("x", 0.5), ("y", None)]
    async with store.write() as tx:
        ledger = Ledger(tx)
        await ledger.change_rates([rows[0].id], [])
        await ledger.add_spend(
            [replace(SPEND, until=9), replace(SPEND, model="x/z"), replace(SPEND, bot="b")]
        )
        await ledger.keep_marks({"a": Counters(5, 6, 7, 8), "b": Counters(1, 1, 1, 1)}, ["a"])
        await ledger.put_budget(Budget("fleet", "all", 50, refuse=True))
        now = tx.now
    async with store.read() as tx:
        ledger = Ledger(tx)
        assert [row.component for row in await ledger.open_rates()] == ["y"]
        assert [row.until for row in await ledger.rates(0)] == [now, None]
        assert [row.component for row in await ledger.rates(now + 1)] == ["y"]
        spends = {(one.bot, one.model): one for one in await ledger.model_spend("2026-11")}
        both = spends["a", "x/y"]
        assert (both.usd, both.requests, both.unpriced, both.since, both.until) == (3.0, 20, 4, 5, 9)
        assert await ledger.model_spend("2026-12") == []
        assert sorted(await ledger.model_totals()) == [
            ("a", "x/y", 3.0),
            ("a", "x/z", 1.5),
            ("b", "x/y", 1.5),
        ]
        assert await ledger.marks() == {"a": Counters(5, 6, 7, 8), "b": Counters(1, 1, 1, 1)}
        assert [(one.usd, one.refuse) for one in await ledger.budgets()] == [(50, True)]
        assert [one.target for one in await ledger.advice()] == ["t3.small"]
    async with store.write() as tx:
        ledger = Ledger(tx)
        assert await ledger.remove_budget("fleet", "all")
        assert not await ledger.remove_budget("fleet", "all")
        await ledger.replace_advice([])
        assert await ledger.advice() == []


async def test_the_books_are_read_as_they_were_kept(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    try:
        await keep_books(store)
    finally:
        await store.close()
