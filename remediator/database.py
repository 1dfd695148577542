"""The database itself: connections, locks, migrations. What is kept in it is `store.py`.

One writer at a time, on both databases. SQLite: one process, held by a file lock, and BEGIN IMMEDIATE.
PostgreSQL: any number of replicas, and an advisory lock that ends with its transaction. That makes every
limit exact without a word about isolation levels, and a few hundred short transactions a second are plenty.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from remediator.settings import SettingsError

WRITER: Final = 0x626F74  # key of the advisory lock, "bot"
MIGRATION: Final = WRITER + 1
# A replica that is frozen inside a transaction would keep every other from writing: the server ends it.
FROZEN_AFTER: Final = "5s"
PATIENCE: Final = 15.0  # seconds for one statement
REMEDY: Final = "use sqlite+aiosqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"


class DatabaseAwayError(SQLAlchemyError):
    """The server cannot be reached or is silent: asyncpg raises what the socket did, an OSError."""


class DatabaseLock:
    """SQLite serves one process. The lock is the operating system's: a killed holder leaves none behind."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(
                f"BOT_REMEDIATOR_DATABASE_URL: cannot open {self._path}: {error.strerror}; "
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


class Database:
    """Transactions on either database, and the clock they go by."""

    def __init__(self, engine: AsyncEngine, lock: DatabaseLock | None, clock: Callable[[], float]) -> None:
        self._engine, self._lock, self._clock = engine, lock, clock
        self._alone = engine.dialect.name == "sqlite"
        self._writer = asyncio.Lock()
        self._anchor: AsyncConnection | None = None

    @property
    def alone(self) -> bool:
        """Whether no other process can be at work on it."""
        return self._alone

    @classmethod
    async def open(cls, url: str, clock: Callable[[], float] = time.time, *, serving: bool = True) -> Self:
        """Lock, connect, migrate. SettingsError where the URL cannot be used. `clock` is SQLite's.

        Whoever is not serving only reads: a database as it is, beside the one that serves.
        """
        parsed = _parsed(url)
        lock: DatabaseLock | None = None
        if parsed.get_backend_name() == "sqlite":
            if serving:
                lock = DatabaseLock(Path(parsed.database or ""))
            elif not Path(parsed.database or "").exists():
                raise SettingsError(f"BOT_REMEDIATOR_DATABASE_URL: there is no {parsed.database}")
            # A connection of its own for each transaction: one whose task was cancelled in a statement may be
            # dead (its thread is stopped), and a pool would hand it on to somebody who then waits for ever.
            engine = create_async_engine(parsed, poolclass=NullPool)
            event.listen(engine.sync_engine, "connect", _configure)
            event.listen(engine.sync_engine, "begin", _begin)
        else:
            settings = {"idle_in_transaction_session_timeout": FROZEN_AFTER, "application_name": "remediator"}
            engine = create_async_engine(
                parsed,
                pool_pre_ping=True,
                connect_args={"command_timeout": PATIENCE, "timeout": PATIENCE, "server_settings": settings},
            )
        database = cls(engine, lock, clock)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_migrate if serving else _check)
            if lock is not None:  # SQLite tidies up its log whenever the last connection goes: keep one
                database._anchor = await engine.connect()
        except BaseException as error:
            await database.close()
            if isinstance(error, SQLAlchemyError | CommandError | OSError):
                raise SettingsError(
                    f"BOT_REMEDIATOR_DATABASE_URL: {_place(parsed)} cannot be used: {_short(error)}; "
                    "see that it is a database of this release or an older one, that this user may write "
                    "to it, and that its disk is not full"
                ) from None
            raise
        return database

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self._writer, _reached(), self._engine.begin() as connection:
            if not self.alone:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER})
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """All that is read in it was so at one moment."""
        async with _reached(), self._engine.connect() as connection:
            if not self.alone:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield await connection.execution_options(readonly=True)

    async def now(self, connection: AsyncConnection) -> float:
        """Unix seconds. PostgreSQL's own, so that replicas with other ideas of the time agree."""
        if self.alone:
            return self._clock()
        found = await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(found.scalar_one())

    async def close(self) -> None:
        if self._anchor is not None:
            await self._anchor.close()
        await self._engine.dispose()
        if self._lock is not None:
            self._lock.release()


@asynccontextmanager
async def _reached() -> AsyncIterator[None]:
    try:
        yield
    except OSError as error:
        raise DatabaseAwayError(f"the database cannot be reached: {_short(error)}") from error


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(f"BOT_REMEDIATOR_DATABASE_URL: is no database URL; {REMEDY}") from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+asyncpg"):
        return parsed.set(drivername="postgresql+asyncpg")
    if parsed.drivername in ("sqlite", "sqlite+aiosqlite") and parsed.database:
        return parsed.set(drivername="sqlite+aiosqlite")
    raise SettingsError(f"BOT_REMEDIATOR_DATABASE_URL: {parsed.drivername} is not supported; {REMEDY}")


def _place(url: URL) -> str:
    """Where it is, without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.database} on {url.host}:{url.port or 5432}"


def _short(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred; ours is in _begin
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    readonly = connection.get_execution_options().get("readonly", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")


def _check(connection: Connection) -> None:
    newest = ScriptDirectory(str(Path(__file__).parent / "migrations")).get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    if found != newest:
        raise CommandError(f"its schema is {found}, not {newest}: start the service once, to migrate it")


def _migrate(connection: Connection) -> None:
    """To the newest schema. Replicas that start together take turns."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
