"""Databases that are full, their archives, and what is in them afterwards."""

import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Float,
    Integer,
    MetaData,
    Table,
    insert,
    select,
)

from remediator.backup.archive import Archive, Header, Writer
from remediator.backup.dump import take
from remediator.backup.restore import Restore
from remediator.model import Run
from remediator.store.database import Database
from remediator.store.schema import audit, metadata, notifications
from remediator.store.store import Store
from tests.remediator.conftest import read_rows

NOW = 1_795_000_000.25
MARKED = ("facts", "audit", "notifications")  # what a restore itself writes to
RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", NOW, None)

NewDatabase = Callable[[], Awaitable[str]]


def value(column: Any, number: int) -> Any:
    """Return a value of the column's kind, the same wherever two columns refer to each other."""
    match column.type:
        case JSON():
            return {"list": [number, None, "größer"], "small": 1e-7, "nested": {"yes": True}}
        case Boolean():
            return number % 2 == 0
        case Float():
            return 1_790_000_000.123456 + number
        case Integer():
            return number
        case _:
            return f"v{number}"


async def fill(store: Store, rows: int = 3) -> None:
    """Put rows into every table, whatever its columns; the trail as it is really written."""
    async with store.write() as tx:
        for table in metadata.sorted_tables:
            if table is not audit:
                made = [{c.name: value(c, n) for c in table.columns} for n in range(1, rows + 1)]
                await tx.execute(insert(table), made)
        for number in range(rows):
            await tx.audit(f"event{number}", bot="forge", share=0.1 * number, why="größer")


async def dump(url: str) -> dict[str, list[Any]]:
    """Return all that is in the database, table by table."""
    store = await Store.open(url, serving=False)
    try:
        async with store.read() as tx:
            return {
                table.name: [tuple(row) for row in await tx.execute(_ordered(table))]
                for table in metadata.sorted_tables
            }
    finally:
        await store.close()


def _ordered(table: Table) -> Any:
    return select(table).order_by(*table.primary_key.columns)


async def taken(url: str) -> Archive:
    sink = io.BytesIO()
    store = await Store.open(url, serving=False)
    await take(store, sink, "0.1.0")
    await store.close()
    return Archive.read(sink.getvalue())


async def restored(url: str, archive: Archive, **how: Any) -> Restore:
    done = Restore(archive, NOW, **how)
    await (await Database.open(url, prepare=done)).close()
    return done


async def source(url: str, messages: int = 0) -> Archive:
    """Return the archive of a database that has rows in every table, and so many messages."""
    store = await Store.open(url)
    await fill(store)
    if messages:
        async with store.write() as tx:
            message = {"at": NOW, "run_id": "", "text": "x" * 200, "tries": 1, "error": ""}
            await tx.execute(insert(notifications), [{**message, "id": 100 + n} for n in range(messages)])
    await store.close()
    return await taken(url)


def archive_of(tables: dict[str, tuple[list[str], list[list[Any]]]], schema: str) -> Archive:
    sink = io.BytesIO()
    writer = Writer(sink, Header(schema, "0.0.9", NOW))
    for name, (columns, rows) in tables.items():
        writer.table(name, columns)
        writer.rows(rows)
    writer.end()
    return Archive.read(sink.getvalue())


def tables_in(url: str) -> set[str]:
    path = url.removeprefix("sqlite:///")
    return {name for (name,) in read_rows(Path(path), "SELECT name FROM sqlite_master WHERE type = 'table'")}


async def tables_of(url: str) -> set[str]:
    """Return the names of the tables that are in the database, of either kind."""
    if url.startswith("sqlite"):
        return tables_in(url)
    names: set[str] = set()

    def reflect(connection: Connection) -> None:
        reflected = MetaData()
        reflected.reflect(connection)
        names.update(reflected.tables)

    await (await Database.open(url, prepare=reflect)).close()
    return names
