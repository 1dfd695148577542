"""People are told once that nothing is seen, and once that all is seen again, by all replicas together."""

from typing import Any, cast

import pytest

from remediator.metrics import Metrics
from remediator.recovery import Recovery
from remediator.settings import read_settings
from remediator.sight import blind_replicas
from sandbox.simulator.memory import MemoryDatabase, MemoryStore

SETTINGS = read_settings(gate_interval=15)
METRICS = Metrics("blindness")
AWAY = "Prometheus cannot be reached"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Replica:
    def __init__(self, name: str, database: MemoryDatabase, clock: Clock) -> None:
        self.store = MemoryStore(database, replica=name, lease_seconds=30, clock=clock, monotonic=clock)
        nothing = cast(Any, None)
        self.recovery = Recovery(self.store, nothing, nothing, METRICS, SETTINGS)

    async def looks(self, blind: str) -> None:
        async with self.store.write() as tx:
            await self.recovery._tell_of_blindness(tx, blind)

    async def told(self) -> list[str]:
        async with self.store.read() as tx:
            return ["blind" if "cannot trust" in one.text else "sees" for one in await tx.unsent()]


async def test_a_replica_that_sees_does_not_contradict_one_that_does_not(clock: Clock) -> None:
    database = MemoryDatabase(clock, alone=False)
    left, right = Replica("left", database, clock), Replica("right", database, clock)
    for _ in range(20):
        await left.looks(AWAY)
        await right.looks("")
        clock.now += 15
    assert await right.told() == ["blind"]
    await right.looks(AWAY)
    await left.looks("")
    assert await left.told() == ["blind"]
    await right.looks("")
    assert await left.told() == ["blind", "sees"]


async def test_a_replica_that_died_blind_does_not_keep_the_others_so(clock: Clock) -> None:
    database = MemoryDatabase(clock, alone=False)
    left, right = Replica("left", database, clock), Replica("right", database, clock)
    await left.looks(AWAY)
    clock.now += 600
    await right.looks("")
    assert await right.told() == ["blind", "sees"]


async def test_the_one_process_on_sqlite_is_the_same_after_a_restart(clock: Clock) -> None:
    database = MemoryDatabase(clock, alone=True)
    await Replica("before", database, clock).looks(AWAY)
    after = Replica("after", database, clock)
    await after.looks(AWAY)
    await after.looks("")
    assert await after.told() == ["blind", "sees"]


def test_what_is_said_again_is_written_down_only_now_and_then() -> None:
    first = blind_replicas({}, "a", AWAY, 1000, 100)
    assert blind_replicas(first, "a", AWAY, 1049, 100) == first
    assert blind_replicas(first, "a", AWAY, 1051, 100) == {"a": {"why": AWAY, "at": 1051}}
    assert blind_replicas(first, "a", "the exporter is down", 1001, 100)["a"]["why"] == "the exporter is down"
