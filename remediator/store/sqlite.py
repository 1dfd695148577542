"""SQLite, a thread a connection: one way there and back for each statement, and rows that are read there.

A statement that was begun is never given up, even where its caller is; the next one waits for it.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, CursorResult, Engine, Executable, create_engine, event
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
from sqlalchemy.pool import NullPool

from remediator.settings import SettingsError

READS_AT_ONCE: Final = 16  # each has a thread and a connection; none is begun within another
IDLE_CONNECTIONS: Final = 3  # that stay open for the next transactions
PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=5000",
    "cache_size=-512",  # KB, of each connection; the file itself is in the system's cache
)

T = TypeVar("T")


class FileLock:
    """SQLite serves one process. The lock is the operating system's: a killed holder leaves none behind."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(
                f"BOT_REMEDIATOR_DATABASE_URL: cannot open {path}: {error.strerror}; "
                "make its folder, writable by this user"
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode().strip() or "unknown"
            os.close(self._fd)
            raise SettingsError(
                f"BOT_REMEDIATOR_DATABASE_URL: {database} is in use by another remediator (pid {holder}); "
                "stop that one, or give this one a database of its own"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


class _ThreadedConnection:
    """A connection that is used in a thread of its own alone."""

    def __init__(self, engine: Engine) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._engine = engine
        self._connection: Connection | None = None

    async def run(self, function: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._with, function)

    def _with(self, function: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        return function(self._connection)

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]:
        def execute(connection: Connection) -> CursorResult[Any]:
            result = connection.execute(statement, parameters)
            if result.returns_rows:  # all of them, here: a cursor that is left open would hold up a commit
                rows = result.cursor.fetchall()
                result.cursor_strategy = FullyBufferedCursorFetchStrategy(result.cursor, initial_buffer=rows)
            return result

        return await self.run(execute)

    def close(self) -> None:
        """Close the connection once its statement is over. What was not committed is rolled back."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Sqlite:
    """The database of one process."""

    alone: Final = True

    def __init__(self, url: URL, clock: Callable[[], float], json: dict[str, Any], *, serving: bool) -> None:
        path = Path(url.database or "")
        self._clock = clock
        self._lock: FileLock | None = None
        if serving:
            self._lock = FileLock(path)
        elif not path.exists():
            raise SettingsError(f"BOT_REMEDIATOR_DATABASE_URL: there is no {path}")
        threads = {"check_same_thread": False}  # a result's rows are given out in another than they were read
        self._engine = create_engine(
            url.set(drivername="sqlite"), poolclass=NullPool, connect_args=threads, **json
        )
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._idle: list[_ThreadedConnection] = []
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._anchor = _ThreadedConnection(self._engine)

    async def prepare(self, function: Callable[[Connection], None]) -> None:
        """Call the function on the connection that stays: SQLite tidies up its log when the last one goes."""
        await self._anchor.run(function)

    @asynccontextmanager
    async def transaction(self, *, readonly: bool) -> AsyncIterator[_ThreadedConnection]:
        """Open a transaction. Readers queue: a thousand requests at once are no thousand threads."""
        queue = self._reads if readonly else nullcontext()
        async with queue, self._transaction(readonly=readonly) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, *, readonly: bool) -> AsyncIterator[_ThreadedConnection]:
        threaded = self._idle.pop() if self._idle else _ThreadedConnection(self._engine)
        try:
            await threaded.run(lambda connection: _open(connection, readonly=readonly))
            yield threaded
            await threaded.run(Connection.commit)
        except BaseException:
            threaded.close()
            raise
        if len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(threaded)
        else:
            threaded.close()

    async def now(self, _: object) -> float:
        return self._clock()

    async def close(self) -> None:
        for threaded in (*self._idle, self._anchor):
            threaded.close()
        self._idle.clear()
        if self._lock is not None:
            self._lock.release()


def _open(connection: Connection, *, readonly: bool) -> None:
    connection.execution_options(readonly=readonly)
    connection.begin()


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred; ours is in _begin
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    readonly = connection.get_execution_options().get("readonly", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")
