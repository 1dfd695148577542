"""The database itself: where it is, and its schema. What is kept in it is `store.py`.

One writer at a time, on both databases. SQLite: one process, held by a file lock, and BEGIN IMMEDIATE.
PostgreSQL: any number of replicas, and an advisory lock that ends with its transaction. That makes every
limit exact without a word about isolation levels, and a few hundred short transactions a second are plenty.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self

import orjson
from sqlalchemy import URL, CursorResult, Executable, inspect, make_url, text
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from remediator.errors import first_line
from remediator.settings import SettingsError
from remediator.sqlite import Sqlite

MIGRATIONS: Final = Path(__file__).parent / "migrations"
REMEDY: Final = "use sqlite+aiosqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"


class Connection(Protocol):
    """One transaction's."""

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]: ...


class Backend(Protocol):
    """Either database. `alone`: no other process can be at work on it. `now`: Unix seconds, by its clock."""

    @property
    def alone(self) -> bool: ...
    async def prepare(self, function: Callable[[SyncConnection], None]) -> None: ...
    def transaction(self, *, readonly: bool) -> AbstractAsyncContextManager[Any]: ...
    async def now(self, connection: Any) -> float: ...
    async def close(self) -> None: ...


class WrongSchemaError(Exception):
    """The database is of another release."""


class Database:
    """Transactions on either database, and the clock they go by."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._writer = asyncio.Lock()

    @property
    def alone(self) -> bool:
        """Whether no other process can be at work on it."""
        return self._backend.alone

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Callable[[], float] = time.time,
        *,
        serving: bool = True,
        prepare: Callable[[SyncConnection], None] | None = None,
    ) -> Self:
        """Lock, connect, migrate. SettingsError where the URL cannot be used. `clock` is SQLite's.

        Whoever is not serving only reads: a database as it is, beside the one that serves. `prepare` is done
        in place of the migration, in one transaction that it commits.
        """
        parsed = _parsed(url)
        database = cls(_backend(parsed, clock, serving=serving))
        try:
            await database._backend.prepare(prepare or (_migrate if serving else _check))
        except BaseException as error:
            await database.close()
            if isinstance(error, SQLAlchemyError | WrongSchemaError | OSError):
                raise SettingsError(
                    f"BOT_REMEDIATOR_DATABASE_URL: {_place(parsed)} cannot be used: {_short(error)}; "
                    "see that it is a database of this release or an older one, that this user may write "
                    "to it, and that its disk is not full"
                ) from None
            raise
        return database

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        async with self._writer, self._backend.transaction(readonly=False) as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """All that is read in it was so at one moment."""
        async with self._backend.transaction(readonly=True) as connection:
            yield connection

    async def now(self, connection: Connection) -> float:
        """Unix seconds."""
        return await self._backend.now(connection)

    async def close(self) -> None:
        await self._backend.close()


def _backend(url: URL, clock: Callable[[], float], *, serving: bool) -> Backend:
    def dumps(value: object) -> str:
        return orjson.dumps(value).decode()

    def loads(value: str | bytes | float) -> object:
        # SQLite gives JSON columns a numeric affinity: a document that is a number comes back as one.
        return orjson.loads(value) if isinstance(value, str | bytes) else value

    json = {"json_serializer": dumps, "json_deserializer": loads}
    if url.get_backend_name() == "sqlite":
        return Sqlite(url, clock, json, serving=serving)
    from remediator.postgresql import Postgresql  # 8 MB that SQLite need not have

    return Postgresql(url, json)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(f"BOT_REMEDIATOR_DATABASE_URL: is no database URL; {REMEDY}") from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+asyncpg"):
        return parsed
    if parsed.drivername in ("sqlite", "sqlite+aiosqlite") and parsed.database:
        return parsed
    raise SettingsError(f"BOT_REMEDIATOR_DATABASE_URL: {parsed.drivername} is not supported; {REMEDY}")


def _place(url: URL) -> str:
    """Where it is, without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.database} on {url.host}:{url.port or 5432}"


def _short(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return first_line(cause)


def newest_schema() -> str:
    """The number that the newest migration's file begins with is its revision."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _schema(connection: SyncConnection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


def _check(connection: SyncConnection) -> None:
    newest, found = newest_schema(), _schema(connection)
    if found != newest:
        raise WrongSchemaError(f"its schema is {found}, not {newest}: start the service once, to migrate it")


def _migrate(connection: SyncConnection) -> None:
    if _schema(connection) != newest_schema():
        upgrade(connection)
    connection.commit()


def upgrade(connection: SyncConnection, to: str = "head") -> None:
    """To that schema. Alembic, 10 MB of it, is loaded only where there is something to do."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise WrongSchemaError(str(error)) from None
