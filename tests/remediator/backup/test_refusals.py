"""What a restore refuses, and leaves as it was."""

from typing import Any

import pytest
from sqlalchemy import (
    create_engine,
    text,
    update,
)

from remediator.backup.archive import Archive, ArchiveError
from remediator.backup.restore import RestoreError
from remediator.settings import SettingsError
from remediator.store.database import newest_schema
from remediator.store.schema import audit
from remediator.store.store import Store
from tests.remediator.backup.databases import (
    NewDatabase,
    archive_of,
    dump,
    restored,
    source,
    tables_in,
    taken,
)


async def test_a_database_that_holds_something_is_left_as_it_is(new_database: NewDatabase) -> None:
    origin, target = await new_database(), await new_database()
    archive = await source(origin)
    store = await Store.open(target)
    async with store.write() as tx:
        await tx.audit("mine")
    await store.close()
    before = await dump(target)
    with pytest.raises(RestoreError, match="not empty: audit has 1 rows; restore into an empty database"):
        await restored(target, archive)
    assert await dump(target) == before


async def test_a_service_that_was_started_on_it_by_mistake_does_not_matter(new_database: NewDatabase) -> None:
    """Its tables are there, and a fact or two."""
    target = await new_database()
    store = await Store.open(target)
    async with store.write() as tx:
        await tx.set_fact("turn:answers", {"replica": "a", "until": 1})
    await store.close()
    archive = await source(await new_database())
    await restored(target, archive)
    assert len((await dump(target))["bots"]) == archive.counts["bots"]


async def test_tables_of_somebody_else_are_left_alone(sqlite: NewDatabase) -> None:
    archive, target = await source(await sqlite()), await sqlite()
    engine = create_engine(target)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (id INTEGER)"))
    engine.dispose()
    with pytest.raises(RestoreError, match="tables that are not ours: theirs"):
        await restored(target, archive)


async def test_a_newer_schema_is_refused_with_the_release_that_knows_it(sqlite: NewDatabase) -> None:
    with pytest.raises(RestoreError, match=r"schema is 9999, .* release 0\.0\.9 or newer"):
        await restored(await sqlite(), archive_of({}, "9999"))


async def test_a_database_in_use_is_refused(new_database: NewDatabase) -> None:
    archive, target = await source(await new_database()), await new_database()
    serving = await Store.open(target)
    with pytest.raises((RestoreError, SettingsError), match=r"a remediator is connected|in use by another"):
        await restored(target, archive)
    await serving.close()


async def test_a_trail_that_was_tampered_with_is_refused_unless_that_is_accepted(sqlite: NewDatabase) -> None:
    origin, target = await sqlite(), await sqlite()
    await source(origin)
    engine = create_engine(origin)
    with engine.begin() as connection:
        connection.execute(update(audit).where(audit.c.id == 2).values(actor="nobody"))
    engine.dispose()
    archive = await taken(origin)
    with pytest.raises(RestoreError, match=r"row 2 .*--despite-trail"):
        await restored(target, archive)
    done = await restored(target, archive, ignore_audit_faults=True)
    assert len(done.audit_faults) == 1
    last = (await dump(target))["audit"][-1]
    assert last[6]["trail"] == done.audit_faults


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines[:-1], "its end is missing"),
        (lambda lines: [*lines[:2], *lines[3:]], "rows, not"),
        (lambda lines: [lines[0], lines[1], b'["too short"]', *lines[2:]], "too few or too many columns"),
        (lambda lines: [b"{}", *lines[1:]], "something else"),
        (lambda lines: [lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]], "this release reads 1"),
        (lambda lines: [lines[0], b"nonsense", *lines[1:]], "damaged"),
        (lambda _: [], "damaged"),
    ],
)
def test_an_archive_that_is_not_whole_is_refused(change: Any, reason: str) -> None:
    import gzip

    whole = archive_of({"facts": (["name", "value"], [["a", 1], ["b", 2]])}, newest_schema())
    lines = change(gzip.decompress(whole.data).splitlines())
    with pytest.raises(ArchiveError, match=reason):
        Archive.read(gzip.compress(b"".join(line + b"\n" for line in lines)))


async def test_a_table_of_other_columns_is_refused_and_nothing_is_left(sqlite: NewDatabase) -> None:
    target = await sqlite()
    with pytest.raises(ArchiveError, match="its table facts is not that of schema"):
        await restored(target, archive_of({"facts": (["name"], [["a"]])}, newest_schema()))
    assert tables_in(target) == set()
