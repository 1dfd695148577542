"""The state of this service, read from its database as of one moment, while it runs."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any, BinaryIO, Final

from sqlalchemy import Table, literal, select, tuple_

from remediator.backup.archive import Header, Writer
from remediator.backup.encryption import encrypt
from remediator.store.database import newest_schema
from remediator.store.schema import metadata
from remediator.store.store import Store
from remediator.store.transaction import Transaction

PAGE: Final = 1000  # rows


async def take(store: Store, sink: BinaryIO, release: str) -> dict[str, int]:
    """Write the archive of the whole state. Return the number of rows by table."""
    async with store.read() as tx:
        writer = Writer(sink, Header(newest_schema(), release, tx.now))
        for table in metadata.sorted_tables:
            writer.table(str(table.name), map(str, table.columns.keys()))
            async for rows in _pages(tx, table):
                await asyncio.to_thread(writer.rows, rows)
        await asyncio.to_thread(writer.end)
    return writer.counts


async def take_sealed(store: Store, out: BinaryIO, release: str, recipients: Sequence[Any]) -> dict[str, int]:
    """Write the archive encrypted: nothing of it is on disk in the clear, or as a whole in memory."""
    read_end, write_end = os.pipe()
    encryption = asyncio.create_task(asyncio.to_thread(_encrypt, read_end, out, recipients))
    try:
        with os.fdopen(write_end, "wb") as pipe:
            counts = await take(store, pipe, release)
    except BrokenPipeError:  # the encryption has failed, and raises why
        counts = {}
    finally:
        await asyncio.wait([encryption])
    encryption.result()
    return counts


def _encrypt(read_end: int, out: BinaryIO, recipients: Sequence[Any]) -> None:
    with os.fdopen(read_end, "rb") as source:
        encrypt(source, out, recipients)


async def _pages(tx: Transaction, table: Table) -> AsyncIterator[Sequence[Sequence[Any]]]:
    key = list(table.primary_key.columns)
    positions = [table.columns.keys().index(column.name) for column in key]
    after = select(table).order_by(*key).limit(PAGE)
    statement = after
    while rows := (await tx.execute(statement)).all():
        yield rows
        last_row = zip(positions, key, strict=True)
        last = (literal(rows[-1][position], column.type) for position, column in last_row)
        statement = after.where(tuple_(*key) > tuple_(*last))
