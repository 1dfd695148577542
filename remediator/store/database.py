"""The database itself: where it is, its schema, and transactions on it.

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
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from remediator.settings import SettingsError
from remediator.store.errors import driver_message, from_sqlalchemy
from remediator.store.sqlite import Sqlite

MIGRATIONS: Final = Path(__file__).parent / "migrations"
REMEDY: Final = "use sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"


class Connection(Protocol):
    """The connection of one transaction."""

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]: ...


class Backend(Protocol):
    """Either database. `alone`: no other process can be at work on it. `now`: Unix seconds by its clock."""

    @property
    def alone(self) -> bool: ...
    async def prepare(self, function: Callable[[SyncConnection], None]) -> None: ...
    def transaction(self, *, readonly: bool) -> AbstractAsyncContextManager[Any]: ...
    async def now(self, connection: Any) -> float: ...
    async def close(self) -> None: ...


class WrongSchemaError(Exception):
    """The database is of another release."""


class Database:
    """One writer at a time on either database, and the clock that its transactions go by."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._writer = asyncio.Lock()

    @property
    def alone(self) -> bool:
        """Return whether no other process can be at work on the database."""
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
        """Lock, connect, migrate. Raise SettingsError where the URL cannot be used. `clock` is SQLite's.

        Without `serving` the database is only read, as it is, beside the process that serves. `prepare` is
        done in place of the migration, in one transaction that it commits.
        """
        parsed = _parsed(url)
        database = cls(_backend(parsed, clock, serving=serving))
        try:
            await database._backend.prepare(prepare or (_migrate if serving else _check))
        except BaseException as error:
            await database.close()
            if isinstance(error, SQLAlchemyError | WrongSchemaError | OSError):
                raise SettingsError(
                    f"BOT_REMEDIATOR_DATABASE_URL: {_location(parsed)} cannot be used: "
                    f"{driver_message(error)}; "
                    "see that it is a database of this release or an older one, that this user may write "
                    "to it, and that its disk is not full"
                ) from None
            raise
        return database

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """Begin a transaction, alone of its kind; it is committed at the end. Raise StoreError."""
        async with self._writer, self._transaction(readonly=False) as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """Begin a transaction in which all that is read was so at one moment. Raise StoreError."""
        async with self._transaction(readonly=True) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, *, readonly: bool) -> AsyncIterator[Connection]:
        try:
            async with self._backend.transaction(readonly=readonly) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise from_sqlalchemy(error) from error

    async def now(self, connection: Connection) -> float:
        """Return Unix seconds by the database's clock."""
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
    from remediator.store.postgresql import Postgresql  # 8 MB that SQLite need not have

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


def sqlite_file(url: str) -> Path | None:
    """Return SQLite's file; None for PostgreSQL. Raise SettingsError where the URL cannot be used."""
    parsed = _parsed(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _location(url: URL) -> str:
    """Return where the database is, without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.database} on {url.host}:{url.port or 5432}"


def newest_schema() -> str:
    """Return the newest revision: the number that the newest migration's file begins with."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _schema(connection: SyncConnection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if revision is None else str(revision)


def _check(connection: SyncConnection) -> None:
    newest, revision = newest_schema(), _schema(connection)
    if revision != newest:
        raise WrongSchemaError(
            f"its schema is {revision}, not {newest}: start the service once, to migrate it"
        )


def _migrate(connection: SyncConnection) -> None:
    if _schema(connection) != newest_schema():
        upgrade(connection)
    connection.commit()


def upgrade(connection: SyncConnection, to: str = "head") -> None:
    """Migrate to that schema. Alembic, 10 MB of it, is loaded only where there is something to do."""
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
