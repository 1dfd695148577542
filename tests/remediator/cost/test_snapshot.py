"""What is known of costs at one moment, read from the store."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.cost.budgets import Budget
from remediator.cost.estimate import ModelSpend, Rate
from remediator.cost.metering import CostMeter
from remediator.cost.repository import CostRepository
from remediator.cost.snapshot import read_outlooks, take_snapshot
from remediator.store.store import Store
from tests.remediator.statements import counted_statements

NOW = 1_795_000_000.0  # 2026-11-18
SPEND = ModelSpend("a", "x/y", "2026-11", "support", "production", 1.5, 10, 2, 1000, 200, NOW - 900, NOW)
RATE = Rate("a", "support", "production", "instance", NOW - 7200, None, 0.5)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite:///{tmp_path / 'x.db'}", clock=lambda: NOW)
    yield store
    await store.close()


async def test_outlooks_alone_are_those_of_the_whole_snapshot_in_two_statements(store: Store) -> None:
    async with store.write() as tx:
        repository = CostRepository(tx)
        await repository.change_rates([], [RATE, replace(RATE, template="designer", usd_per_hour=0.25)])
        await repository.add_spend([SPEND, replace(SPEND, month="2026-10", bot="b")])
        for budget in (Budget("fleet", "all", 50), Budget("template", "support", 9, refuse=True)):
            await repository.put_budget(budget)
    meter = CostMeter(store, None, None, "us-west-1")  # type: ignore[arg-type]  # EC2 is not asked
    async with store.read() as tx:
        snapshot = await take_snapshot(tx, meter)
        with counted_statements() as statements:
            outlooks = await read_outlooks(tx, snapshot.budgets)
    assert len(statements) == 2, statements
    assert outlooks == snapshot.outlooks
    assert [outlook.spent for outlook in outlooks] == pytest.approx([2 * 0.75 + 1.5, 2 * 0.5 + 1.5])
