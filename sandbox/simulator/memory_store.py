"""A database in memory: one writer at a time, commit and rollback by copy."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from remediator.model import AuditEntry
from remediator.store.lease import Replica
from remediator.store.store import Store
from sandbox.simulator.memory_tables import Tables
from sandbox.simulator.memory_transaction import MemoryTransaction


@dataclass
class MemoryDatabase:
    """What outlives the replicas. `clock` is the database's own (Unix seconds)."""

    clock: Callable[[], float]
    alone: bool  # one replica at most, as with SQLite
    tables: Tables = field(default_factory=Tables)
    trail: list[AuditEntry] = field(default_factory=list)
    writer: asyncio.Lock = field(default_factory=asyncio.Lock)

    def commit(self, tx: MemoryTransaction) -> None:
        """Put what the transaction has written in place of what was there."""
        self.tables = tx.tables
        self.trail.extend(tx.entries)


class Hooks:
    """Where a simulation steps in; these let everything pass."""

    async def reach(self) -> None:
        """Be on the way to the database, or back from it."""

    async def before_commit(self, tx: MemoryTransaction) -> None:
        """Step in where all was written and nothing is kept yet."""

    def committed(self, tx: MemoryTransaction) -> None:
        """Step in where it is kept, whether or not the caller will hear of it."""


class MemoryConnector:
    """Opens a replica's transactions on the memory that all replicas share."""

    def __init__(self, database: MemoryDatabase, hooks: Hooks) -> None:
        self._database, self._hooks = database, hooks

    @property
    def alone(self) -> bool:
        return self._database.alone

    def _begin(self, replica: Replica) -> MemoryTransaction:
        database = self._database
        return MemoryTransaction(database.tables, database.trail, database.clock(), replica)

    @asynccontextmanager
    async def write(self, replica: Replica) -> AsyncIterator[MemoryTransaction]:
        """Begin a transaction, alone of its kind, and commit it by putting its tables in place."""
        await self._hooks.reach()
        async with self._database.writer:
            tx = self._begin(replica)
            yield tx
            await self._hooks.before_commit(tx)
            self._database.commit(tx)
            self._hooks.committed(tx)
        await self._hooks.reach()

    @asynccontextmanager
    async def read(self, replica: Replica) -> AsyncIterator[MemoryTransaction]:
        """Begin a transaction on the tables as they are now."""
        await self._hooks.reach()
        yield self._begin(replica)

    async def close(self) -> None:
        """Do nothing: the memory outlives every replica."""


class MemoryStore(Store):
    """Production's store over a memory database."""

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
        super().__init__(
            MemoryConnector(database, hooks or Hooks()),
            replica=replica,
            lease_seconds=lease_seconds,
            clock=clock,
            monotonic=monotonic,
        )
