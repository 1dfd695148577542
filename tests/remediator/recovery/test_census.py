"""The fleet is counted by probes of our own; nothing listens at the bots' addresses."""

import asyncio
import errno
import time
from typing import Any

import pytest

from exporter.probing.probe import Session, open_session
from remediator.model import Bot
from remediator.monitoring.prober import Prober
from remediator.recovery.census import Census
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore


def bot(name: str, **changes: Any) -> Bot:
    facts: dict[str, Any] = {"boot_id": None, "started_at": None}
    facts |= {"quarantined_at": None, "quarantine_reason": None}
    facts |= {"name": name, "template": "support", "environment": "staging", "state": "active"}
    facts |= {"address": "127.0.0.1:9", "health_path": "/health", "mesh_path": "/mesh"}
    facts |= {"instance_id": "i-1", "config": {}, "config_sha": "", "zone": ""}
    facts |= {"attempts_from": 0.0, "created_at": 0.0, "updated_at": 0.0}
    return Bot(**(facts | changes))


async def registry(*bots: Bot) -> MemoryStore:
    """Return a store with these bots."""
    database = MemoryDatabase(time.time, alone=True)
    store = MemoryStore(database, replica="one", lease_seconds=30, clock=time.time, monotonic=time.monotonic)
    async with store.write() as tx:
        for registered in bots:
            await tx.add_bot(registered)
    return store


async def test_a_census_counts_the_ill_samples_the_large_and_is_shared_by_all_who_ask_at_once() -> None:
    async with open_session() as session:
        prober = Prober(session, timeout=1, interval=0.01, needed=1)

        async def census(sample: int, *bots: Bot) -> Census:
            return Census(await registry(*bots), prober, sample)

        async def counted(sample: int, *bots: Bot) -> tuple[int, int, int]:
            fleet = await (await census(sample, *bots)).take()
            return fleet.total, fleet.probed, fleet.unhealthy

        assert await counted(10) == (0, 0, 0)
        assert await counted(10, bot("forge"), bot("atlas", address="")) == (2, 2, 2)
        assert await counted(3, *[bot(f"b{n}") for n in range(9)]) == (9, 3, 3)
        shared = await census(10, bot("forge"))
        first, second = await asyncio.gather(shared.take(), shared.take())
        assert first is second is shared.latest


async def test_a_census_tells_the_quarantined_apart_from_the_share_of_ill_bots() -> None:
    bots = [bot("forge"), bot("atlas", quarantined_at=1.0), bot("new", state="deploying")]
    async with open_session() as session:
        prober = Prober(session, timeout=1, interval=0.01, needed=1)
        fleet = await Census(await registry(*bots), prober, 10).take()
    assert (fleet.total, fleet.unhealthy, fleet.set_aside) == (2, 1, 1)
    assert fleet.ratio == 1.0


async def test_what_could_not_be_looked_at_by_a_fault_of_ours_is_no_ill_bot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_descriptor(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(Session, "connect", no_descriptor)
    async with open_session() as session:
        prober = Prober(session, timeout=1, interval=0.01, needed=1)
        fleet = await Census(await registry(bot("forge"), bot("atlas")), prober, 10).take()
    assert (fleet.total, fleet.probed, fleet.unhealthy, fleet.unseen) == (2, 0, 0, True)
