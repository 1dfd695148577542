"""A backup, and the way back: every row on both databases, refusals, and a crash at every statement."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage
import pytest
import pytest_asyncio
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)

from remediator.__main__ import main
from remediator.archive import Archive, ArchiveError, Header, Writer
from remediator.backup import take, take_sealed
from remediator.database import Database, newest_schema
from remediator.model import Run
from remediator.restore import RESTORED, Restore, RestoreError
from remediator.schema import audit, metadata, notifications
from remediator.seal import SealError, opened, recipients
from remediator.settings import SettingsError
from remediator.store import Store
from remediator.trail import faults
from sandbox.waiting import wait_until
from tests.chaos.postgres import Postgres, run_postgres
from tests.remediator.conftest import REPOSITORY, credentials, read_rows

NOW = 1_795_000_000.25
MARKED = ("facts", "audit", "notifications")  # what a restore itself writes to
RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", NOW, None)

NewDatabase = Callable[[], Awaitable[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Postgres]:
    async with run_postgres() as running:
        yield running


@pytest.fixture
def sqlite(tmp_path: Path) -> NewDatabase:
    numbers = iter(range(100))

    async def new() -> str:
        return f"sqlite+aiosqlite:///{tmp_path}/d{next(numbers)}.db"

    return new


@pytest.fixture
def postgres(server: Postgres) -> NewDatabase:
    async def new() -> str:
        return server.url(await server.new_database())

    return new


@pytest.fixture(params=["sqlite", "postgres"])
def another_database(request: pytest.FixtureRequest) -> NewDatabase:
    made: NewDatabase = request.getfixturevalue(request.param)
    return made


@pytest.fixture(params=["sqlite", "postgres"])
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    made: NewDatabase = request.getfixturevalue(request.param)
    return made


def value(column: Any, number: int) -> Any:
    """One of the column's kind, the same wherever two columns refer to each other."""
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
    """Rows in every table there is, whatever its columns; the trail as it is really written."""
    async with store.write() as tx:
        for table in metadata.sorted_tables:
            if table is not audit:
                made = [{c.name: value(c, n) for c in table.columns} for n in range(1, rows + 1)]
                await tx.execute(insert(table), made)
        for number in range(rows):
            await tx.audit(f"event{number}", bot="forge", share=0.1 * number, why="größer")


async def dump(url: str) -> dict[str, list[Any]]:
    """All that is in the database, table by table."""
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
    """Of a database that has something of everything, and where wanted so much that it takes a while."""
    store = await Store.open(url)
    await fill(store)
    if messages:
        async with store.write() as tx:
            one = {"at": NOW, "run_id": "", "text": "x" * 200, "tries": 1, "error": ""}
            await tx.execute(insert(notifications), [{**one, "id": 100 + n} for n in range(messages)])
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


# what comes back


async def test_every_row_of_every_table_comes_back_on_either_database(
    new_database: NewDatabase, another_database: NewDatabase
) -> None:
    here, there = await another_database(), await new_database()
    archive = await source(here)
    before = await dump(here)
    await restored(there, archive)
    after = await dump(there)
    assert set(archive.counts) == set(metadata.tables)
    assert all(archive.counts.values())
    for table in before.keys() - set(MARKED):
        assert after[table] == before[table], table
    assert after["audit"][:-1] == before["audit"]
    assert after["audit"][-1][3] == "state.restored"


async def test_a_restored_database_goes_on_counting_and_its_trail_goes_on(new_database: NewDatabase) -> None:
    archive, there = await source(await new_database()), await new_database()
    await restored(there, archive)
    store = await Store.open(there)
    async with store.write() as tx:
        await tx.audit("next")
        await tx.notify("", "next")
        assert (await tx.fact(RESTORED))["reconciledAt"] is None
    async with store.read() as tx:
        entries = await tx.audit_trail(bot=None, after=0, limit=100)
        head = await tx.fact("audit_head")
    await store.close()
    assert [entry.event for entry in entries][-2:] == ["state.restored", "next"]
    assert faults(entries, head) == []


async def test_a_restored_database_can_be_backed_up_and_restored_again(sqlite: NewDatabase) -> None:
    first, second, third = [await sqlite() for _ in range(3)]
    await restored(second, await source(first))
    await restored(third, await taken(second))
    one, other = await dump(second), await dump(third)
    assert all(one[table] == other[table] for table in one.keys() - set(MARKED))


async def test_messages_that_were_waiting_are_not_sent_again(sqlite: NewDatabase) -> None:
    here, there = await sqlite(), await sqlite()
    store = await Store.open(here)
    async with store.write() as tx:
        await tx.notify("rec-1", "🚨 forge needs a person")
    await store.close()
    await restored(there, await taken(here))
    store = await Store.open(there)
    async with store.read() as tx:
        assert await tx.unsent() == []
    await store.close()


async def test_a_backup_of_a_service_at_work_is_of_one_moment(new_database: NewDatabase) -> None:
    """The newest hash and the trail agree, though hundreds of rows are written meanwhile."""
    here, there = await new_database(), await new_database()
    store = await Store.open(here)
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
    done = await restored(there, archive)
    assert done.trail == []


async def test_an_older_schema_is_migrated_up(new_database: NewDatabase) -> None:
    """The first one had no chained trail: its rows are chained on the way."""
    columns = ["id", "at", "actor", "event", "bot", "run_id", "detail"]
    rows = [[n, NOW + n, "ann", f"event{n}", "forge", "", {"n": n}] for n in range(1, 6)]
    there = await new_database()
    done = await restored(there, archive_of({"audit": (columns, rows)}, "0001"))
    assert done.trail == []
    store = await Store.open(there)
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


# what is refused


async def test_a_database_that_holds_something_is_left_as_it_is(new_database: NewDatabase) -> None:
    here, there = await new_database(), await new_database()
    archive = await source(here)
    store = await Store.open(there)
    async with store.write() as tx:
        await tx.audit("mine")
    await store.close()
    before = await dump(there)
    with pytest.raises(RestoreError, match="not empty: audit has 1 rows; restore into an empty database"):
        await restored(there, archive)
    assert await dump(there) == before


async def test_a_service_that_was_started_on_it_by_mistake_does_not_matter(new_database: NewDatabase) -> None:
    """Its tables are there, and a fact or two."""
    there = await new_database()
    store = await Store.open(there)
    async with store.write() as tx:
        await tx.set_fact("turn:answers", {"replica": "a", "until": 1})
    await store.close()
    archive = await source(await new_database())
    await restored(there, archive)
    assert len((await dump(there))["bots"]) == archive.counts["bots"]


async def test_tables_of_somebody_else_are_left_alone(sqlite: NewDatabase) -> None:
    archive, there = await source(await sqlite()), await sqlite()
    engine = create_engine(there.replace("+aiosqlite", ""))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (id INTEGER)"))
    engine.dispose()
    with pytest.raises(RestoreError, match="tables that are not ours: theirs"):
        await restored(there, archive)


async def test_a_newer_schema_is_refused_with_the_release_that_knows_it(sqlite: NewDatabase) -> None:
    with pytest.raises(RestoreError, match=r"schema is 9999, .* release 0\.0\.9 or newer"):
        await restored(await sqlite(), archive_of({}, "9999"))


async def test_a_database_in_use_is_refused(new_database: NewDatabase) -> None:
    archive, there = await source(await new_database()), await new_database()
    serving = await Store.open(there)
    with pytest.raises((RestoreError, SettingsError), match=r"a remediator is connected|in use by another"):
        await restored(there, archive)
    await serving.close()


async def test_a_trail_that_was_tampered_with_is_refused_unless_that_is_accepted(sqlite: NewDatabase) -> None:
    here, there = await sqlite(), await sqlite()
    await source(here)
    engine = create_engine(here.replace("+aiosqlite", ""))
    with engine.begin() as connection:
        connection.execute(update(audit).where(audit.c.id == 2).values(actor="nobody"))
    engine.dispose()
    archive = await taken(here)
    with pytest.raises(RestoreError, match=r"row 2 .*--despite-trail"):
        await restored(there, archive)
    done = await restored(there, archive, despite_trail=True)
    assert len(done.trail) == 1
    last = (await dump(there))["audit"][-1]
    assert last[6]["trail"] == done.trail


@pytest.mark.parametrize(
    ("change", "why"),
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
def test_an_archive_that_is_not_whole_is_refused(change: Any, why: str) -> None:
    import gzip

    whole = archive_of({"facts": (["name", "value"], [["a", 1], ["b", 2]])}, newest_schema())
    lines = change(gzip.decompress(whole.data).splitlines())
    with pytest.raises(ArchiveError, match=why):
        Archive.read(gzip.compress(b"".join(line + b"\n" for line in lines)))


async def test_a_table_of_other_columns_is_refused_and_nothing_is_left(sqlite: NewDatabase) -> None:
    there = await sqlite()
    with pytest.raises(ArchiveError, match="its table facts is not that of schema"):
        await restored(there, archive_of({"facts": (["name"], [["a"]])}, newest_schema()))
    assert tables_in(there) == set()


# sealing


async def test_what_is_sealed_for_a_key_is_opened_by_it_alone(sqlite: NewDatabase) -> None:
    here = await sqlite()
    await source(here)
    mine, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    store = await Store.open(here, serving=False)
    out = io.BytesIO()
    counts = await take_sealed(store, out, "0.1.0", recipients([str(mine.to_public())]))
    await store.close()
    sealed = out.getvalue()
    assert b"forge" not in sealed
    assert Archive.read(opened(sealed, identities=[mine])).counts == counts
    for wrong, why in (
        ({"identities": [other]}, "cannot be opened"),
        ({"passphrase": "word"}, "sealed with a key"),
    ):
        with pytest.raises(SealError, match=why):
            opened(sealed, **wrong)
    for damaged in (sealed[:-1], sealed[:-40] + b"x" + sealed[-39:], sealed[:100]):
        with pytest.raises(SealError, match="damaged"):
            opened(damaged, identities=[mine])
    with pytest.raises(SealError, match="no age file"):
        opened(b"PK", identities=[mine])


async def test_a_disk_that_is_full_while_sealing_is_told_as_that(sqlite: NewDatabase) -> None:
    here = await sqlite()
    await source(here, messages=5000)
    store = await Store.open(here, serving=False)
    to = recipients([str(pyrage.x25519.Identity.generate().to_public())])
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)
    with full, pytest.raises(SealError, match="No space left"):
        await take_sealed(store, full, "0.1.0", to)
    await store.close()


# a crash at every point


class Crash(BaseException):
    """As SIGKILL: nothing of ours runs after it but what the database does by itself."""


@contextmanager
def crash_at(number: int, *, when: str = "before_cursor_execute") -> Iterator[list[int]]:
    """Die at that statement; counts them."""
    seen = [0]

    def count(*_: object) -> None:
        seen[0] += 1
        if seen[0] == number:
            raise Crash

    event.listen(Engine, when, count)
    try:
        yield seen
    finally:
        event.remove(Engine, when, count)


def tables_in(url: str) -> set[str]:
    path = url.removeprefix("sqlite+aiosqlite:///")
    return {name for (name,) in read_rows(Path(path), "SELECT name FROM sqlite_master WHERE type = 'table'")}


async def tables_of(url: str) -> set[str]:
    """Whichever database it is."""
    if url.startswith("sqlite"):
        return tables_in(url)
    found: set[str] = set()

    def look(connection: Connection) -> None:
        reflected = MetaData()
        reflected.reflect(connection)
        found.update(reflected.tables)

    await (await Database.open(url, prepare=look)).close()
    return found


async def test_a_crash_at_any_statement_leaves_nothing_and_the_next_try_everything(
    new_database: NewDatabase,
) -> None:
    archive = await source(await new_database())
    with crash_at(0) as seen:
        await restored(await new_database(), archive)
    statements = seen[0]
    assert statements > 50
    there = await new_database()
    every = 1 if there.startswith("sqlite") else statements // 4  # the same statements, at ten times the cost
    for number in [*range(1, statements, every), statements]:
        with crash_at(number), pytest.raises(Crash):
            await restored(there, archive)
        assert await tables_of(there) == set(), number
    with crash_at(1, when="commit"), pytest.raises(Crash):
        await restored(there, archive)
    assert await tables_of(there) == set()
    await restored(there, archive)
    assert len((await dump(there))["bots"]) == archive.counts["bots"]


# the real process


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.txt"
    identity = pyrage.x25519.Identity.generate()
    path.write_text(f"# public key: {identity.to_public()}\n{identity}\n")
    return path


def public(key: Path) -> str:
    return key.read_text().split()[3]


async def command(url: str, *arguments: str | Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "remediator",
        *map(str, arguments),
        env={"BOT_REMEDIATOR_DATABASE_URL": url, **credentials()},
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def said(process: asyncio.subprocess.Process) -> str:
    output, _ = await process.communicate()
    return output.decode()


async def test_kill_9_leaves_an_empty_or_a_whole_database(
    sqlite: NewDatabase, tmp_path: Path, key: Path
) -> None:
    """Once the first rows are in its log, once half of them, and once it has ended."""
    here, there = await sqlite(), await sqlite()
    archive = await source(here, messages=8000)
    file = tmp_path / "backup.age"
    store = await Store.open(here, serving=False)
    out = io.BytesIO()
    await take_sealed(store, out, "0.1.0", recipients([public(key)]))
    await store.close()
    file.write_bytes(out.getvalue())
    log = Path(there.removeprefix("sqlite+aiosqlite:///") + "-wal")
    for size in (1, 500_000):
        process = await command(there, "restore", file, "--identity-file", key)

        async def has_grown(size: int = size) -> bool:
            return log.exists() and log.stat().st_size >= size

        await wait_until(has_grown, 60, f"{size} bytes of log", every=0.002)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        found = tables_in(there)
        assert found == set() or len((await dump(there))["bots"]) == archive.counts["bots"]
        if found:
            return  # it was faster than we
    process = await command(there, "restore", file, "--identity-file", key)
    assert "Start the service" in await said(process)
    assert process.returncode == 0
    assert len((await dump(there))["bots"]) == archive.counts["bots"]


async def test_kill_9_on_postgresql_leaves_an_empty_or_a_whole_database(
    postgres: NewDatabase, server: Postgres, tmp_path: Path, key: Path
) -> None:
    here, there = await postgres(), await postgres()
    archive = await source(here, messages=8000)
    file = tmp_path / "backup.age"
    process = await command(here, "backup", file, "--recipient", public(key))
    assert "rows of 3 bots" in await said(process)
    process = await command(there, "restore", file, "--identity-file", key)
    at_work = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'INSERT INTO %'"

    async def inserting() -> bool:
        return bool(await server.rows("postgres", at_work, there.rpartition("/")[2]))

    await wait_until(inserting, 60, "the first rows", every=0.002)
    process.send_signal(signal.SIGKILL)
    await process.wait()

    async def let_go() -> bool:
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND application_name = 'remediator'"
        return not await server.rows("postgres", query, there.rpartition("/")[2])

    await wait_until(let_go, 60, "the server's end of it")
    assert await tables_of(there) == set()
    process = await command(there, "restore", file, "--identity-file", key, "--json")
    told = json.loads(await said(process))
    assert (process.returncode, told["rows"]) == (0, dict(archive.counts))


def run(url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setenv("BOT_REMEDIATOR_DATABASE_URL", url)
    return main([str(one) for one in arguments])


def test_a_passphrase_does_as_well_and_a_wrong_key_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = f"sqlite+aiosqlite:///{tmp_path}/here.db", f"sqlite+aiosqlite:///{tmp_path}/there.db"
    archive = asyncio.run(source(here))
    word, file = tmp_path / "word.txt", tmp_path / "backup.age"
    word.write_text("a long passphrase of many words\n")
    assert run(here, monkeypatch, "backup", file, "--passphrase-file", word) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr("sys.stdin", io.StringIO())
    wrong: list[tuple[list[str | Path], str]] = [
        ([], "nobody to ask; name a file with --passphrase-file"),
        (["--identity-file", word], "holds no age key"),
        (["--passphrase-file", tmp_path / "none"], "No such file"),
    ]
    for arguments, why in wrong:
        assert run(there, monkeypatch, "restore", file, *arguments) == 1
        assert why in capsys.readouterr().err
    assert run(there, monkeypatch, "restore", file, "--passphrase-file", word) == 0
    assert f"rows of {archive.counts['bots']} bots are back" in capsys.readouterr().out
