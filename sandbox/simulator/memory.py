"""The store in memory: the same interface, one writer at a time, commit and rollback by copy."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from remediator.model import AuditEntry
from remediator.store import Store
from sandbox.simulator.tables import MemoryTransaction, Tables


@dataclass
class MemoryDatabase:
    """What outlives the replicas. `clock` is the database's own (Unix seconds)."""

    clock: Callable[[], float]
    alone: bool  # one replica at most, as with SQLite
    tables: Tables = field(default_factory=Tables)
    trail: list[AuditEntry] = field(default_factory=list)
    writer: asyncio.Lock = field(default_factory=asyncio.Lock)


class Hooks:
    """Where a simulation steps in; this one lets everything pass."""

    async def reach(self) -> None:
        """On the way to the database, or back from it."""

    async def before_commit(self, tx: MemoryTransaction) -> None:
        """All was written and nothing is kept yet."""

    def committed(self, tx: MemoryTransaction) -> None:
        """It is kept, whether or not the caller will hear of it."""


class MemoryStore(Store):
    """Leases and clocks are production's; only the tables are ours."""

    def __init__(
        self,
        database: MemoryDatabase,
        *,
        replica: str,
        lease_seconds: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        hooks: Hooks | None = None,
    ) -> None:
        self._memory, self._hooks = database, hooks or Hooks()
        self._clock, self.monotonic = clock, monotonic
        self.replica, self.lease_seconds = replica, lease_seconds
        self._offset = 0.0

    @property
    def alone(self) -> bool:
        return self._memory.alone

    def _begin(self) -> MemoryTransaction:
        memory = self._memory
        now = memory.clock()
        self._offset = now - self._clock()
        return MemoryTransaction(
            memory.tables, memory.trail, now, self.replica, self.lease_seconds, self.alone
        )

    @asynccontextmanager
    async def write(self) -> AsyncIterator[MemoryTransaction]:
        await self._hooks.reach()
        async with self._memory.writer:
            tx = self._begin()
            yield tx
            await self._hooks.before_commit(tx)
            self._memory.tables = tx.tables
            self._memory.trail.extend(tx.said)
            self._hooks.committed(tx)
        await self._hooks.reach()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[MemoryTransaction]:
        await self._hooks.reach()
        yield self._begin()

    async def close(self) -> None:
        pass
