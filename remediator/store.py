"""Opens transactions on the database, and tells the time that all replicas share."""

import math
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from socket import gethostname
from typing import Self

from remediator.database import Connection, Database
from remediator.lease import Lease
from remediator.model import Run
from remediator.transaction import Transaction


class Store:
    """Opens transactions. The clocks are arguments, so that a test owns the time.

    `replica` names this process among those on the same database.
    """

    def __init__(
        self,
        database: Database,
        *,
        replica: str = "",
        lease_seconds: float = 30,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._clock, self.monotonic = database, clock, monotonic
        self.replica = replica or f"{gethostname()}-{os.getpid()}-{token_hex(3)}"
        self.lease_seconds = lease_seconds
        self._offset = 0.0  # of the database's clock from ours, as last seen

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Callable[[], float] = time.time,
        *,
        lease_seconds: float = 30,
        serving: bool = True,
    ) -> Self:
        """`clock` is SQLite's; PostgreSQL has its own."""
        database = await Database.open(url, clock, serving=serving)
        return cls(database, lease_seconds=lease_seconds, clock=clock)

    @property
    def alone(self) -> bool:
        """Whether no other process can be at work on the database."""
        return self._database.alone

    def clock(self) -> float:
        """Unix seconds by the database's clock, which all replicas share."""
        return self._clock() + self._offset

    def lease(self, run: Run) -> Lease:
        """For a run that this replica has begun or claimed; it may have been frozen since."""
        left = (run.lease_until or 0) - self.clock() - self.lease_seconds
        return Lease(run.id, run.fence, self.held_until(self.monotonic() + left), self.monotonic)

    def held_until(self, asked_at: float) -> float:
        """A third is kept in hand for what happens between the last look at a lease and the effect."""
        return math.inf if self.alone else asked_at + self.lease_seconds * 2 / 3

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        async with self._database.write() as connection:
            tx = await self._transaction(connection)
            yield tx
            await tx.flush()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        async with self._database.read() as connection:
            yield await self._transaction(connection)

    @asynccontextmanager
    async def hold(self, lease: Lease) -> AsyncIterator[Transaction]:
        """A transaction that is kept only if the run is still ours; LeaseLostError if it is not."""
        began = self.monotonic()
        async with self.write() as tx:
            await tx.prove(lease)
            yield tx
        lease.held_until = self.held_until(began)

    async def _transaction(self, connection: Connection) -> Transaction:
        now = await self._database.now(connection)
        self._offset = now - self._clock()
        return Transaction(connection, now, self.replica, self.lease_seconds, self.alone)

    async def close(self) -> None:
        await self._database.close()
