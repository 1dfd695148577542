"""Tasks and their ends, without a cloud: the runner is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy.exc import OperationalError

from exporter.probe import open_session
from remediator import engine as engine_module
from remediator.engine import MOST_STUMBLES, Engine
from remediator.lease import Lease
from remediator.metrics import Metrics
from remediator.model import Bot, Ended, Run
from remediator.notify import Notifier
from remediator.prober import Prober, Registry
from remediator.store import Store

RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", 0.0, None)


def bot(name: str, **changes: Any) -> Bot:
    facts: dict[str, Any] = {"boot_id": None, "started_at": None}
    facts |= {"quarantined_at": None, "quarantine_reason": None}
    facts |= {"name": name, "template": "support", "environment": "staging", "state": "active"}
    facts |= {"address": "127.0.0.1:9", "health_path": "/health", "mesh_path": "/mesh"}
    facts |= {"instance_id": "i-1", "config": {}, "config_sha": "", "zone": ""}
    facts |= {"attempts_from": 0.0, "created_at": 0.0, "updated_at": 0.0}
    return Bot(**(facts | changes))


@dataclass
class Bench:
    engine: Engine
    store: Store
    plays: list[Ended | Exception] = field(default_factory=list)
    """What the runner comes to, one after the other; the last of them for ever."""
    played: int = 0

    async def play(self, _run: Run, _bot: Bot, _lease: Lease, _wake: asyncio.Event) -> Ended:
        self.played += 1
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        if isinstance(play, Exception):
            raise play
        return play

    async def ended(self, run: Run = RUN) -> Run:
        async with self.store.write() as tx:
            begun = await tx.add_run(run)
        self.engine.drive(begun)
        self.engine.drive(begun)
        self.engine.wake(run.id)
        await self.engine.wait(run.id, 20)
        async with self.store.read() as tx:
            found = await tx.run(run.id)
        assert found is not None
        return found

    async def bot(self, name: str) -> Bot:
        async with self.store.read() as tx:
            found = await tx.bot(name)
        assert found is not None
        return found


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(engine_module, "STUMBLE_PAUSE", 0)
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'e.db'}")
    async with store.write() as tx:
        await tx.add_bot(bot("forge"))
    metrics = Metrics("test")
    async with aiohttp.ClientSession() as session:
        engine = Engine(store, {}, Notifier(store, metrics, session, None), metrics, "")
        made = Bench(engine, store)
        engine.runners = {"recover": made.play, "deploy": made.play}
        yield made
        await engine.stop()
    await store.close()


async def test_a_run_has_one_task_however_often_it_is_woken(bench: Bench) -> None:
    bench.plays = [Ended("unneeded", "well")]
    assert (await bench.ended()).status == "unneeded"
    bench.engine.wake(RUN.id)
    await bench.engine.wait(RUN.id, 5)
    assert bench.played == 1, "nor is it taken up again when it has ended"


async def test_an_unknown_run_wakes_nothing(bench: Bench) -> None:
    bench.engine.wake("rec-nowhere")
    await bench.engine.wait("rec-nowhere", 5)
    await bench.engine.wait("rec-never-woken", 5)
    assert not bench.engine._tasks


async def test_a_broken_store_fails_no_run_however_long_it_lasts(bench: Bench) -> None:
    broken = OperationalError("", {}, Exception("database or disk is full"))
    bench.plays = [*[broken] * (3 * MOST_STUMBLES), Ended("recovered", "restart cured it")]
    assert (await bench.ended()).status == "recovered"


async def test_a_fault_of_our_own_that_stays_is_handed_to_a_person(bench: Bench) -> None:
    """It would hold the bot, and a place in the in-flight cap, for ever."""
    bench.plays = [TypeError("planted")]
    run = await bench.ended()
    assert (run.status, run.reason) == ("escalated", "a fault of this service: its log says more")
    assert bench.played == MOST_STUMBLES
    assert (await bench.bot("forge")).quarantined_at is not None
    async with bench.store.read() as tx:
        (message,) = await tx.unsent()
    assert "forge needs a person" in message.text


async def test_a_fault_of_our_own_that_passes_costs_nothing(bench: Bench) -> None:
    bench.plays = [*[TypeError("planted")] * (MOST_STUMBLES - 1), Ended("recovered", "restart cured it")]
    assert (await bench.ended()).status == "recovered"


@pytest.mark.parametrize(
    ("outcome", "stays"), [("recovered", False), ("unneeded", True), ("resolved", True), ("cancelled", True)]
)
async def test_a_quarantine_ends_with_a_recovery_and_with_nothing_else(
    bench: Bench, outcome: Any, stays: bool
) -> None:
    async with bench.store.write() as tx:
        await tx.change_bot("forge", quarantined_at=5.0, quarantine_reason="restart: …")
    bench.plays = [Ended(outcome, "")]
    await bench.ended()
    assert ((await bench.bot("forge")).quarantined_at is not None) == stays


async def test_a_run_of_a_bot_that_is_gone_is_cancelled(bench: Bench) -> None:
    bench.plays = [Ended("recovered", "")]
    async with bench.store.write() as tx:
        await tx.remove_bot("forge")
    assert (await bench.ended()).status == "cancelled"
    assert bench.played == 0


async def test_every_unfinished_run_is_taken_up_at_the_start(bench: Bench) -> None:
    bench.plays = [Ended("unneeded", "")]
    async with bench.store.write() as tx:
        await tx.add_run(RUN)
        await tx.change_run(RUN.id, owner="a process that is dead")
    await bench.engine.start()
    await bench.engine.wait(RUN.id, 5)
    assert bench.played == 1


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
    bench.engine.let_go()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
        await bench.engine.wait(RUN.id, 60)


def registry(bots: Sequence[Bot]) -> Registry:
    async def drawn(most: int) -> tuple[int, Sequence[Bot]]:
        return len(bots), bots[:most]

    return drawn


async def test_a_census_counts_the_ill_samples_the_large_and_is_shared_by_all_who_ask_at_once() -> None:
    async with open_session() as session:

        def prober(sample: int = 10) -> Prober:
            return Prober(session, timeout=1, interval=0.01, needed=1, sample=sample)

        async def counted(sample: int, *bots: Bot) -> tuple[int, int, int]:
            fleet = await prober(sample).census(registry(bots))
            return fleet.total, fleet.probed, fleet.unhealthy

        assert await counted(10) == (0, 0, 0)
        assert await counted(10, bot("forge"), bot("atlas", address="")) == (2, 2, 2)
        assert await counted(3, *[bot(f"b{n}") for n in range(9)]) == (9, 3, 3)
        one = prober()
        seen = await asyncio.gather(
            one.census(registry([bot("forge")])), one.census(registry([bot("forge"), bot("atlas")]))
        )
        assert seen[0] is seen[1]
