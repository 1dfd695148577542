"""Tasks and their ends, without a cloud: the runner is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from remediator.engine import engine as engine_module
from remediator.engine.engine import MAX_FAULTS, Engine
from remediator.metrics import Metrics
from remediator.model import RUN_PREFIXES, Bot, Ended, Run, RunKind
from remediator.notifications.notifier import Notifier
from remediator.store.errors import StoreUnavailableError
from remediator.store.lease import Lease, LeaseLostError
from remediator.store.store import Store

RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", 0.0, None)


def bot(name: str, **changes: Any) -> Bot:
    """Return a registered bot with these columns changed."""
    columns: dict[str, Any] = {"boot_id": None, "started_at": None}
    columns |= {"quarantined_at": None, "quarantine_reason": None}
    columns |= {"name": name, "template": "support", "environment": "staging", "state": "active"}
    columns |= {"address": "127.0.0.1:9", "health_path": "/health", "mesh_path": "/mesh"}
    columns |= {"instance_id": "i-1", "config": {}, "config_sha": "", "zone": ""}
    columns |= {"attempts_from": 0.0, "created_at": 0.0, "updated_at": 0.0}
    return Bot(**(columns | changes))


@dataclass
class Bench:
    """An engine whose runner comes to these outcomes one after the other, to the last of them for ever."""

    engine: Engine
    store: Store
    outcomes: list[Ended | Exception] = field(default_factory=list)
    calls: int = 0

    async def runner(self, _run: Run, _bot: Bot, _lease: Lease, _wake: asyncio.Event) -> Ended:
        """Return, or raise, the next outcome."""
        self.calls += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def drive(self, run: Run = RUN) -> Run:
        """Drive a run to its end. Return it as it is stored then."""
        async with self.store.write() as tx:
            begun = await tx.add_run(run)
        self.engine.drive(begun)
        self.engine.drive(begun)
        self.engine.wake(run.id)
        await self.engine.wait(run.id, 20)
        async with self.store.read() as tx:
            stored = await tx.run(run.id)
        assert stored is not None
        return stored

    async def bot(self, name: str) -> Bot:
        """Return the bot as it is stored."""
        async with self.store.read() as tx:
            stored = await tx.bot(name)
        assert stored is not None
        return stored


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(engine_module, "RETRY_AFTER", 0)
    store = await Store.open(f"sqlite:///{tmp_path / 'e.db'}")
    async with store.write() as tx:
        await tx.add_bot(bot("forge"))
    metrics = Metrics("test")
    async with aiohttp.ClientSession() as session:
        engine = Engine(store, {}, Notifier(store, metrics, session, None), metrics, "")
        bench = Bench(engine, store)
        engine.runners = dict.fromkeys(RUN_PREFIXES, bench.runner)
        yield bench
        await engine.stop()
    await store.close()


async def test_a_run_has_one_task_however_often_it_is_woken(bench: Bench) -> None:
    bench.outcomes = [Ended("unneeded", "well")]
    assert (await bench.drive()).status == "unneeded"
    bench.engine.wake(RUN.id)
    await bench.engine.wait(RUN.id, 5)
    assert bench.calls == 1, "nor is it taken up again when it has ended"


async def test_an_unknown_run_wakes_nothing(bench: Bench) -> None:
    bench.engine.wake("rec-nowhere")
    await bench.engine.wait("rec-nowhere", 5)
    await bench.engine.wait("rec-never-woken", 5)
    assert not bench.engine._tasks


async def test_a_broken_store_fails_no_run_however_long_it_lasts(bench: Bench) -> None:
    broken = StoreUnavailableError("database or disk is full")
    bench.outcomes = [*[broken] * (3 * MAX_FAULTS), Ended("recovered", "restart cured it")]
    assert (await bench.drive()).status == "recovered"


async def test_a_fault_of_our_own_that_stays_is_handed_to_a_person(bench: Bench) -> None:
    """It would hold the bot, and a place in the in-flight cap, for ever."""
    bench.outcomes = [TypeError("planted")]
    run = await bench.drive()
    assert (run.status, run.reason) == ("escalated", "a fault of this service (TypeError): its log says more")
    assert bench.calls == MAX_FAULTS
    assert (await bench.bot("forge")).quarantined_at is not None
    async with bench.store.read() as tx:
        (message,) = await tx.unsent()
    assert "forge needs a person" in message.text


@pytest.mark.parametrize("state", ["deploying", "active", "retiring"])
@pytest.mark.parametrize("kind", [kind for kind in RUN_PREFIXES if kind != "recover"])
async def test_every_kind_of_run_is_given_up_and_its_bot_left_as_it_stands(
    bench: Bench, kind: RunKind, state: Any
) -> None:
    """But for the instance that was not ours yet: its name is free again."""
    async with bench.store.write() as tx:
        await tx.change_bot("forge", state=state)
    bench.outcomes = [TypeError("planted")]
    run = await bench.drive(replace(RUN, kind=kind))
    assert run.status == "failed"
    assert run.reason.startswith("a fault of this service (TypeError): its log says more; ")
    assert bench.calls == MAX_FAULTS
    async with bench.store.read() as tx:
        left = await tx.bot("forge")
        (message,) = await tx.unsent()
        assert await tx.active_runs() == []
    assert run.reason in message.text
    if (kind, state) == ("adopt", "deploying"):
        assert left is None
    else:
        assert left is not None
        assert (left.state, left.quarantine_reason) == (state, run.reason)


@pytest.mark.parametrize("kind", RUN_PREFIXES)
async def test_a_broken_store_ends_no_run_of_any_kind_though_faults_of_ours_came_before(
    bench: Bench, kind: RunKind
) -> None:
    broken = StoreUnavailableError("database or disk is full")
    faults = [TypeError("planted")] * (MAX_FAULTS - 1)
    bench.outcomes = [*faults, *[broken] * MAX_FAULTS, Ended("cancelled", "")]
    assert (await bench.drive(replace(RUN, kind=kind))).status == "cancelled"


async def test_a_fault_of_our_own_that_passes_costs_nothing(bench: Bench) -> None:
    bench.outcomes = [*[TypeError("planted")] * (MAX_FAULTS - 1), Ended("recovered", "restart cured it")]
    assert (await bench.drive()).status == "recovered"


async def test_an_observer_is_told_of_every_failure_and_of_no_lost_lease(bench: Bench) -> None:
    failures: list[tuple[str, str]] = []

    class Observer:
        def failed(self, run_id: str, error: Exception) -> None:
            failures.append((run_id, str(error)))

    bench.engine.observer = Observer()
    broken = StoreUnavailableError("the disk is full")
    bench.outcomes = [broken, TypeError("planted"), Ended("recovered", "restart cured it")]
    assert (await bench.drive()).status == "recovered"
    assert failures == [(RUN.id, "the disk is full"), (RUN.id, "planted")]
    bench.outcomes = [LeaseLostError("rec-2")]
    async with bench.store.write() as tx:
        run = await tx.add_run(replace(RUN, id="rec-2"))
    bench.engine.drive(run)
    task = bench.engine._tasks[run.id].task
    assert task is not None
    async with asyncio.timeout(20):
        await task
    assert len(failures) == 2


@pytest.mark.parametrize(
    ("outcome", "stays"), [("recovered", False), ("unneeded", True), ("resolved", True), ("cancelled", True)]
)
async def test_a_quarantine_ends_with_a_recovery_and_with_nothing_else(
    bench: Bench, outcome: Any, stays: bool
) -> None:
    async with bench.store.write() as tx:
        await tx.change_bot("forge", quarantined_at=5.0, quarantine_reason="restart: …")
    bench.outcomes = [Ended(outcome, "")]
    await bench.drive()
    assert ((await bench.bot("forge")).quarantined_at is not None) == stays


async def test_a_run_of_a_bot_that_is_gone_is_cancelled(bench: Bench) -> None:
    bench.outcomes = [Ended("recovered", "")]
    async with bench.store.write() as tx:
        await tx.remove_bot("forge")
    assert (await bench.drive()).status == "cancelled"
    assert bench.calls == 0


async def test_every_unfinished_run_is_taken_up_at_the_start(bench: Bench) -> None:
    bench.outcomes = [Ended("unneeded", "")]
    async with bench.store.write() as tx:
        await tx.add_run(RUN)
        await tx.change_run(RUN.id, owner="a process that is dead")
    await bench.engine.start()
    await bench.engine.wait(RUN.id, 5)
    assert bench.calls == 1


async def test_whoever_waits_is_answered_when_the_service_stops(bench: Bench) -> None:
    never = asyncio.Event()

    async def run(_run: Run, _bot: Bot, _lease: Lease, _wake: asyncio.Event) -> Ended:
        await never.wait()
        return Ended("recovered", "")

    bench.engine.runners = {"recover": run}
    async with bench.store.write() as tx:
        begun = await tx.add_run(RUN)
    bench.engine.drive(begun)
    waiting = [asyncio.create_task(bench.engine.wait(RUN.id, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    bench.engine.begin_shutdown()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
        await bench.engine.wait(RUN.id, 60)
