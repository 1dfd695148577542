"""The database itself: connections, the one-process lock, migrations. What is kept in it is `store.py`."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from remediator.settings import SettingsError


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
    """Transactions. A writer takes SQLite's write lock at once: a deferred begin would fail half way."""

    def __init__(self, engine: AsyncEngine, lock: DatabaseLock) -> None:
        self._engine, self._lock = engine, lock
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Lock, connect, migrate. SettingsError where the URL cannot be used."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise SettingsError(
                "BOT_REMEDIATOR_DATABASE_URL: is no database URL; use sqlite+aiosqlite:///PATH"
            ) from None
        if parsed.drivername != "sqlite+aiosqlite" or not parsed.database:
            raise SettingsError(
                f"BOT_REMEDIATOR_DATABASE_URL: {parsed.drivername} is not supported; "
                "use sqlite+aiosqlite:///PATH"
            )
        lock = DatabaseLock(Path(parsed.database))
        engine = create_async_engine(parsed)
        event.listen(engine.sync_engine, "connect", _configure)
        event.listen(engine.sync_engine, "begin", _begin)
        database = cls(engine, lock)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_migrate)
        except BaseException as error:
            await database.close()
            if isinstance(error, SQLAlchemyError | CommandError):
                raise SettingsError(
                    f"BOT_REMEDIATOR_DATABASE_URL: {parsed.database} cannot be used: "
                    f"{str(error).splitlines()[0]}; see that it is a database of this release or an older "
                    "one, writable by this user, on a disk that is not full"
                ) from None
            raise
        return database

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with self._writer, self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            yield await connection.execution_options(readonly=True)

    async def close(self) -> None:
        await self._engine.dispose()
        self._lock.release()


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred; ours is in _begin
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    readonly = connection.get_execution_options().get("readonly", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
