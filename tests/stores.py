"""The stores that tests run over, one at a time, and the clock that they go by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from remediator.store.store import Store
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore
from tests.remediator.service import begin_database


class Clock:
    """A clock that the test turns; `now` is in Unix seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def open_store(kind: Literal["memory", "sqlite"], folder: Path, clock: Clock) -> AsyncIterator[Store]:
    """Open a store of that kind; one on SQLite has its file in `folder`."""
    if kind == "memory":
        yield MemoryStore(
            MemoryDatabase(clock, alone=True), replica="a", lease_seconds=30, clock=clock, monotonic=clock
        )
        return
    begin_database(folder / "s.db")
    store = await Store.open(f"sqlite:///{folder / 's.db'}", clock)
    yield store
    await store.close()
