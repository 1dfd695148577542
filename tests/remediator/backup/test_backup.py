"""A backup, and the way back: every row on both databases, and what is sealed."""

import asyncio
import io
import os

import pyrage
import pytest
from sqlalchemy import (
    JSON,
)

from remediator.backup.archive import Archive
from remediator.backup.dump import take, take_sealed
from remediator.backup.encryption import EncryptionError, decrypt, recipients
from remediator.backup.restore import RESTORED
from remediator.store.audit import verify_chain
from remediator.store.schema import metadata
from remediator.store.store import Store
from tests.remediator.backup.databases import (
    MARKED,
    NOW,
    NewDatabase,
    archive_of,
    dump,
    restored,
    source,
    taken,
)


async def test_every_row_of_every_table_comes_back_on_either_database(
    new_database: NewDatabase, another_database: NewDatabase
) -> None:
    origin, target = await another_database(), await new_database()
    archive = await source(origin)
    before = await dump(origin)
    await restored(target, archive)
    after = await dump(target)
    assert set(archive.counts) == set(metadata.tables)
    assert all(archive.counts.values())
    for table in before.keys() - set(MARKED):
        assert after[table] == before[table], table
    assert after["audit"][:-1] == before["audit"]
    assert after["audit"][-1][3] == "state.restored"


async def test_a_restored_database_goes_on_counting_and_its_trail_goes_on(new_database: NewDatabase) -> None:
    archive, target = await source(await new_database()), await new_database()
    await restored(target, archive)
    store = await Store.open(target)
    async with store.write() as tx:
        await tx.audit("next")
        await tx.notify("", "next")
        assert (await tx.fact(RESTORED))["reconciledAt"] is None
    async with store.read() as tx:
        entries = await tx.audit_trail(bot=None, after=0, limit=100)
        head = await tx.fact("audit_head")
    await store.close()
    assert [entry.event for entry in entries][-2:] == ["state.restored", "next"]
    assert verify_chain(entries, head) == []


async def test_a_restored_database_can_be_backed_up_and_restored_again(sqlite: NewDatabase) -> None:
    first, second, third = [await sqlite() for _ in range(3)]
    await restored(second, await source(first))
    await restored(third, await taken(second))
    after_second, after_third = await dump(second), await dump(third)
    assert all(after_second[table] == after_third[table] for table in after_second.keys() - set(MARKED))


async def test_messages_that_were_waiting_are_not_sent_again(sqlite: NewDatabase) -> None:
    origin, target = await sqlite(), await sqlite()
    store = await Store.open(origin)
    async with store.write() as tx:
        await tx.notify("rec-1", "🚨 forge needs a person")
    await store.close()
    await restored(target, await taken(origin))
    store = await Store.open(target)
    async with store.read() as tx:
        assert await tx.unsent() == []
    await store.close()


async def test_a_backup_of_a_service_at_work_is_of_one_moment(new_database: NewDatabase) -> None:
    """The newest hash and the trail agree, though hundreds of rows are written meanwhile."""
    origin, target = await new_database(), await new_database()
    store = await Store.open(origin)
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            async with store.write() as tx:
                for _ in range(50):
                    await tx.audit("at work", detail="x" * 100)

    writing = asyncio.create_task(write())
    try:
        async with store.write() as tx:
            for _ in range(3000):  # some pages
                await tx.audit("before")
        sink = io.BytesIO()
        await take(store, sink, "0.1.0")
    finally:
        stop.set()
        await writing
        await store.close()
    archive = Archive.read(sink.getvalue())
    assert archive.counts["audit"] >= 3000
    done = await restored(target, archive)
    assert done.audit_faults == []


async def test_an_older_schema_is_migrated_up(new_database: NewDatabase) -> None:
    """The first one had no chained trail: its rows are chained on the way."""
    columns = ["id", "at", "actor", "event", "bot", "run_id", "detail"]
    rows = [[n, NOW + n, "ann", f"event{n}", "forge", "", {"n": n}] for n in range(1, 6)]
    target = await new_database()
    done = await restored(target, archive_of({"audit": (columns, rows)}, "0001"))
    assert done.audit_faults == []
    store = await Store.open(target)
    async with store.read() as tx:
        entries = await tx.audit_trail(bot=None, after=0, limit=100)
    await store.close()
    assert [entry.event for entry in entries] == [*(f"event{n}" for n in range(1, 6)), "state.restored"]


def test_no_column_of_json_may_be_without_a_value() -> None:
    """In an archive nothing tells JSON's null from the absence of a value."""
    nullable = [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, JSON) and column.nullable
    ]
    assert nullable == []


# sealing


async def test_what_is_sealed_for_a_key_is_opened_by_it_alone(sqlite: NewDatabase) -> None:
    origin = await sqlite()
    await source(origin)
    mine, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    store = await Store.open(origin, serving=False)
    out = io.BytesIO()
    counts = await take_sealed(store, out, "0.1.0", recipients([str(mine.to_public())]))
    await store.close()
    sealed = out.getvalue()
    assert b"forge" not in sealed
    assert Archive.read(decrypt(sealed, identities=[mine])).counts == counts
    for wrong, reason in (
        ({"identities": [other]}, "cannot be opened"),
        ({"passphrase": "word"}, "sealed with a key"),
    ):
        with pytest.raises(EncryptionError, match=reason):
            decrypt(sealed, **wrong)
    for damaged in (sealed[:-1], sealed[:-40] + b"x" + sealed[-39:], sealed[:100]):
        with pytest.raises(EncryptionError, match="damaged"):
            decrypt(damaged, identities=[mine])
    with pytest.raises(EncryptionError, match="no age file"):
        decrypt(b"PK", identities=[mine])


async def test_a_disk_that_is_full_while_sealing_is_told_as_that(sqlite: NewDatabase) -> None:
    origin = await sqlite()
    await source(origin, messages=5000)
    store = await Store.open(origin, serving=False)
    to = recipients([str(pyrage.x25519.Identity.generate().to_public())])
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)
    with full, pytest.raises(EncryptionError, match="No space left"):
        await take_sealed(store, full, "0.1.0", to)
    await store.close()
