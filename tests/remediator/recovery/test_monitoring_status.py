"""All replicas together tell people once that alerts cannot be trusted, and once that they can again."""

import pytest

from remediator.recovery.monitoring_status import MonitoringStatus, blind_replicas
from remediator.settings import read_settings
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore
from tests.stores import Clock

SETTINGS = read_settings(gate_interval=15)
AWAY = "Prometheus cannot be reached"


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Replica:
    """The monitoring status of one replica, and its store."""

    def __init__(self, name: str, database: MemoryDatabase, clock: Clock) -> None:
        self.store = MemoryStore(database, replica=name, lease_seconds=30, clock=clock, monotonic=clock)
        self.monitoring = MonitoringStatus.from_settings(SETTINGS, self.store, None)

    async def report(self, problem: str) -> None:
        """Record the problem as a run at its gates would; "" for none."""
        async with self.store.write() as tx:
            await self.monitoring.record(tx, problem)

    async def messages(self) -> list[str]:
        """Return what people were told, in order."""
        async with self.store.read() as tx:
            notifications = await tx.unsent()
        return ["lost" if "cannot trust" in message.text else "restored" for message in notifications]


async def test_a_replica_that_sees_does_not_contradict_one_that_does_not(clock: Clock) -> None:
    database = MemoryDatabase(clock, alone=False)
    left, right = Replica("left", database, clock), Replica("right", database, clock)
    for _ in range(20):
        await left.report(AWAY)
        await right.report("")
        clock.now += 15
    assert await right.messages() == ["lost"]
    await right.report(AWAY)
    await left.report("")
    assert await left.messages() == ["lost"]
    await right.report("")
    assert await left.messages() == ["lost", "restored"]


async def test_a_replica_that_died_blind_does_not_keep_the_others_so(clock: Clock) -> None:
    database = MemoryDatabase(clock, alone=False)
    left, right = Replica("left", database, clock), Replica("right", database, clock)
    await left.report(AWAY)
    clock.now += 600
    await right.report("")
    assert await right.messages() == ["lost", "restored"]


async def test_the_one_process_on_sqlite_is_the_same_after_a_restart(clock: Clock) -> None:
    database = MemoryDatabase(clock, alone=True)
    await Replica("before", database, clock).report(AWAY)
    after = Replica("after", database, clock)
    await after.report(AWAY)
    await after.report("")
    assert await after.messages() == ["lost", "restored"]


def test_what_is_said_again_is_written_down_only_now_and_then() -> None:
    first = blind_replicas({}, "a", AWAY, 1000, 100)
    assert blind_replicas(first, "a", AWAY, 1049, 100) == first
    assert blind_replicas(first, "a", AWAY, 1051, 100) == {"a": {"why": AWAY, "at": 1051}}
    assert blind_replicas(first, "a", "the exporter is down", 1001, 100)["a"]["why"] == "the exporter is down"
