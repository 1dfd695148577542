"""PostgreSQL: any number of replicas, one writer at a time, and the server's clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from remediator.errors import first_line
from remediator.store.errors import StoreUnavailableError

WRITER: Final = 0x626F74  # key of the advisory lock, "bot"
MIGRATION: Final = WRITER + 1
# A replica that is frozen inside a transaction would keep every other from writing: the server ends it.
FROZEN_AFTER: Final = "5s"
READ_ONLY: Final = "25006"  # SQLSTATE: read_only_sql_transaction
STATEMENT_TIMEOUT: Final = 15.0  # seconds for one statement


def _drop_if_read_only(context: ExceptionContext) -> None:
    """Drop the pool's sessions where one cannot write: their server is no longer the primary."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


class Postgresql:
    """The database of any number of replicas."""

    alone: Final = False

    def __init__(self, url: URL, json: dict[str, Any]) -> None:
        settings = {"idle_in_transaction_session_timeout": FROZEN_AFTER, "application_name": "remediator"}
        self._engine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_pre_ping=True,
            connect_args={
                "command_timeout": STATEMENT_TIMEOUT,
                "timeout": STATEMENT_TIMEOUT,
                "server_settings": settings,
            },
            **json,
        )
        event.listen(self._engine.sync_engine, "handle_error", _drop_if_read_only)

    async def prepare(self, function: Callable[[Connection], None]) -> None:
        """Call the function on a connection, while no other replica that starts does."""

        def alone(connection: Connection) -> None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION})
            function(connection)

        async with self._engine.connect() as connection:
            await connection.run_sync(alone)

    @asynccontextmanager
    async def transaction(self, *, readonly: bool) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                if readonly:  # all that is read was so at one moment
                    yield await connection.execution_options(isolation_level="REPEATABLE READ")
                    return
                async with connection.begin():
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER})
                    yield connection
        except OSError as error:  # asyncpg raises what the socket did
            raise StoreUnavailableError(f"the database cannot be reached: {first_line(error)}") from error

    async def now(self, connection: AsyncConnection) -> float:
        """Return Unix seconds by the server's clock: replicas whose own clocks differ agree."""
        rows = await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(rows.scalar_one())

    async def close(self) -> None:
        await self._engine.dispose()
