"""The state of this service, out of its database, as of one moment and while it runs."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, BinaryIO, Final

from sqlalchemy import Table, literal, select, tuple_

from remediator.archive import Header, Writer
from remediator.database import newest_schema
from remediator.schema import metadata
from remediator.seal import seal
from remediator.store import Store
from remediator.transaction import Transaction

PAGE: Final = 1000  # rows


async def take(store: Store, sink: BinaryIO, release: str) -> dict[str, int]:
    """Write the archive; rows by table."""
    async with store.read() as tx:
        writer = Writer(sink, Header(newest_schema(), release, tx.now))
        for table in metadata.sorted_tables:
            writer.table(str(table.name), map(str, table.columns.keys()))
            async for rows in _pages(tx, table):
                await asyncio.to_thread(writer.rows, rows)
        await asyncio.to_thread(writer.end)
    return writer.counts


async def take_sealed(store: Store, out: BinaryIO, release: str, recipients: Sequence[Any]) -> dict[str, int]:
    """The same, sealed on its way: nothing of it is on disk in the clear, or as a whole in memory."""
    read_end, write_end = os.pipe()
    sealing = asyncio.create_task(asyncio.to_thread(_seal, read_end, out, recipients))
    try:
        with os.fdopen(write_end, "wb") as pipe:
            counts = await take(store, pipe, release)
    except BrokenPipeError:  # the sealing has failed: its fault is the one to tell
        counts = {}
    finally:
        await asyncio.wait([sealing])
    sealing.result()
    return counts


def _seal(read_end: int, out: BinaryIO, recipients: Sequence[Any]) -> None:
    with os.fdopen(read_end, "rb") as source:
        seal(source, out, recipients)


async def _pages(tx: Transaction, table: Table) -> AsyncIterator[Sequence[Sequence[Any]]]:
    key = list(table.primary_key.columns)
    places = [table.columns.keys().index(column.name) for column in key]
    after = select(table).order_by(*key).limit(PAGE)
    statement = after
    while rows := (await tx.execute(statement)).all():
        yield rows
        last = (literal(rows[-1][place], column.type) for place, column in zip(places, key, strict=True))
        statement = after.where(tuple_(*key) > tuple_(*last))
