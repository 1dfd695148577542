"""Opens transactions, and tells the time that all replicas share."""

import math
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from secrets import token_hex
from socket import gethostname
from typing import Protocol, Self

from remediator.errors import first_line
from remediator.model import Run
from remediator.store.database import Connection, Database
from remediator.store.errors import StoreUnavailableError
from remediator.store.lease import Lease, Replica
from remediator.store.sql_transaction import SqlTransaction
from remediator.store.transaction import Transaction


class Connector(Protocol):
    """What the store opens its transactions on: a database, or a simulation's memory.

    `alone`: no other process can be at work on it.
    """

    @property
    def alone(self) -> bool: ...
    def write(self, replica: Replica) -> AbstractAsyncContextManager[Transaction]: ...
    def read(self, replica: Replica) -> AbstractAsyncContextManager[Transaction]: ...
    async def close(self) -> None: ...


class SqlConnector:
    """Opens transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def alone(self) -> bool:
        return self._database.alone

    @asynccontextmanager
    async def write(self, replica: Replica) -> AsyncIterator[Transaction]:
        async with self._database.write() as connection:
            tx = await self._transaction(connection, replica)
            yield tx
            await tx.flush()

    @asynccontextmanager
    async def read(self, replica: Replica) -> AsyncIterator[Transaction]:
        async with self._database.read() as connection:
            yield await self._transaction(connection, replica)

    async def _transaction(self, connection: Connection, replica: Replica) -> SqlTransaction:
        return SqlTransaction(connection, await self._database.now(connection), replica)

    async def close(self) -> None:
        await self._database.close()


class Store:
    """Opens transactions for one replica. The clocks are arguments, so that a test owns the time.

    `replica` names this process among those on the same database.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        replica: str = "",
        lease_seconds: float = 30,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connector, self._clock, self.monotonic = connector, clock, monotonic
        name = replica or f"{gethostname()}-{os.getpid()}-{token_hex(3)}"
        self._replica = Replica(name, lease_seconds, connector.alone)
        self._offset = 0.0  # of the database's clock from ours, at the newest transaction
        self.write_fault = ""  # why the newest transaction that writes could not; empty if it could

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Callable[[], float] = time.time,
        *,
        lease_seconds: float = 30,
        serving: bool = True,
    ) -> Self:
        """Open the database at the URL. `clock` is SQLite's; PostgreSQL has its own."""
        database = await Database.open(url, clock, serving=serving)
        return cls(SqlConnector(database), lease_seconds=lease_seconds, clock=clock)

    @property
    def alone(self) -> bool:
        """Return whether no other process can be at work on the database."""
        return self._replica.alone

    @property
    def replica(self) -> str:
        return self._replica.name

    @property
    def lease_seconds(self) -> float:
        return self._replica.lease_seconds

    def clock(self) -> float:
        """Return Unix seconds by the database's clock, which all replicas share."""
        return self._clock() + self._offset

    def lease(self, run: Run) -> Lease:
        """Return the lease of a run that this replica has begun or claimed; it may have been frozen since."""
        left = (run.lease_until or 0) - self.clock() - self.lease_seconds
        return Lease(run.id, run.fence, self.held_until(self.monotonic() + left), self.monotonic)

    def held_until(self, renewed_at: float) -> float:
        """Return until when a lease that was renewed then holds, by the monotonic clock.

        A third of it is left for what happens between the last check of a lease and the effect.
        """
        return math.inf if self.alone else renewed_at + self.lease_seconds * 2 / 3

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """Open a transaction that writes. It is committed at the end, unless an error leaves it."""
        try:
            async with self._connector.write(self._replica) as tx:
                self._offset = tx.now - self._clock()
                yield tx
        except StoreUnavailableError as error:
            self.write_fault = first_line(error)
            raise
        self.write_fault = ""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """Open a transaction that only reads."""
        async with self._connector.read(self._replica) as tx:
            self._offset = tx.now - self._clock()
            yield tx

    @asynccontextmanager
    async def write_as(self, lease: Lease) -> AsyncIterator[Transaction]:
        """Open a transaction that is kept only if the run is still ours; else raise LeaseLostError."""
        began = self.monotonic()
        async with self.write() as tx:
            await tx.renew_or_raise(lease)
            yield tx
        lease.held_until = self.held_until(began)

    async def close(self) -> None:
        await self._connector.close()
