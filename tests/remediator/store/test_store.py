"""The database itself, as it is on disk."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from exporter.result import LONGEST_FACT
from remediator.model import Bot, Run
from remediator.settings import SettingsError
from remediator.store.database import MIGRATIONS, Database, newest_schema
from remediator.store.errors import ConflictError, StoreUnavailableError, UnstorableError
from remediator.store.lease import LeaseLostError
from remediator.store.schema import metadata
from remediator.store.sqlite import IDLE_CONNECTIONS, READS_AT_ONCE
from remediator.store.store import Store
from tests.remediator.conftest import REPOSITORY, read_rows, write_rows
from tests.stores import Clock, open_store

RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", 0.0, None)
BOT = Bot(
    "forge", "support", "staging", "active", "127.0.0.2:1", "/health", "/mesh", "i-1", {}, "sha", None, None,
    "", None, None, 0, 0, 0,
)  # fmt: skip


def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    async with open_store("sqlite", tmp_path, clock) as opened:
        yield opened


async def test_the_migrations_make_the_schema(tmp_path: Path) -> None:
    database = await Database.open(url(tmp_path / "s.db"))
    await database.close()
    engine = create_engine(f"sqlite:///{tmp_path / 's.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_newest_schema_is_known_without_alembic() -> None:
    assert newest_schema() == ScriptDirectory(str(MIGRATIONS)).get_current_head()


async def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        opened = await Store.open(url(tmp_path / "s.db"))
        async with opened.write() as tx:
            await tx.audit("test")
        await opened.close()
    assert read_rows(tmp_path / "s.db", "select count(*) from audit") == [(2,)]


@pytest.mark.parametrize("value", [1795364090.25, 7, 0, True, None, "7", "né", [1.5], {"at": 7}])
async def test_a_fact_is_read_as_it_was_written(store: Store, value: object) -> None:
    async with store.write() as tx:
        await tx.set_fact("fact", {"other": value})
        await tx.set_fact("fact", value)
    async with store.read() as tx:
        assert await tx.fact("fact") == value


async def test_every_connection_is_durable(tmp_path: Path) -> None:
    """WAL, synchronous=FULL (2), foreign keys on; as SQLite itself says, on several connections at once."""
    database = await Database.open(url(tmp_path / "s.db"))

    async def pragmas() -> list[object]:
        async with database.read() as connection:
            await asyncio.sleep(0)
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [(await connection.execute(text(f"PRAGMA {name}"))).scalar_one() for name in names]

    connections = await asyncio.gather(*(pragmas() for _ in range(5)))
    await database.close()
    assert connections == [["wal", 2, 1, 5000]] * 5


async def test_a_second_process_is_refused_by_the_pid_of_the_first(tmp_path: Path, store: Store) -> None:
    code = (
        "import asyncio, sys; from remediator.store.database import Database; "
        "asyncio.run(Database.open(sys.argv[1]))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, url(tmp_path / "s.db"), stderr=asyncio.subprocess.PIPE, cwd=REPOSITORY
    )
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert f"is in use by another remediator (pid {os.getpid()}); stop that one" in stderr.decode()


async def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    first = await Database.open(url(tmp_path / "s.db"))
    with pytest.raises(SettingsError, match="in use"):
        await Database.open(url(tmp_path / "s.db"))
    await first.close()
    await (await Database.open(url(tmp_path / "s.db"))).close()


@pytest.mark.parametrize(
    "wrong",
    ["", "nonsense", "postgresql://u:hunter2@127.0.0.1:1/y", "sqlite://", "mysql://u:hunter2@h/d"],
)
async def test_a_url_that_cannot_be_used_is_named(wrong: str) -> None:
    with pytest.raises(SettingsError, match="BOT_REMEDIATOR_DATABASE_URL") as caught:
        await Database.open(wrong)
    assert "hunter2" not in str(caught.value)


async def test_a_url_with_the_driver_that_was_named_once_is_taken(tmp_path: Path) -> None:
    await (await Database.open(f"sqlite+aiosqlite:///{tmp_path / 's.db'}")).close()
    assert read_rows(tmp_path / "s.db", "select count(*) from alembic_version") == [(1,)]


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot open .*nowhere.*make its folder"):
        await Database.open(url(tmp_path / "nowhere" / "s.db"))


async def test_a_database_of_a_newer_release_is_refused_and_not_touched(tmp_path: Path) -> None:
    await (await Database.open(url(tmp_path / "s.db"))).close()
    await write_rows(tmp_path / "s.db", "update alembic_version set version_num = '9999'")
    with pytest.raises(SettingsError, match=r"cannot be used: .*9999"):
        await Database.open(url(tmp_path / "s.db"))
    assert read_rows(tmp_path / "s.db", "select version_num from alembic_version") == [("9999",)]


async def test_one_active_run_a_bot_is_held_by_the_database(store: Store) -> None:
    async with store.write() as tx:
        await tx.add_run(RUN)
    with pytest.raises(ConflictError):
        async with store.write() as tx:
            await tx.add_run(replace(RUN, id="rec-2"))
    async with store.write() as tx:
        await tx.change_run("rec-1", finished_at=5.0)
        await tx.add_run(replace(RUN, id="rec-2"))
        await tx.add_run(replace(RUN, id="rec-3", bot="atlas"))
    async with store.read() as tx:
        assert {run.id for run in await tx.active_runs()} == {"rec-2", "rec-3"}


async def test_a_run_that_waits_is_ended_whoever_drives_it_and_one_at_work_is_not(store: Store) -> None:
    async with store.write() as tx:
        run = await tx.add_run(RUN)
    lease = store.lease(run)
    async with store.write() as tx:
        assert not await tx.end_waiting(run.id, "cancelled", "ann")
    async with store.write_as(lease) as tx:
        await tx.change_run(run.id, status="blocked")
    async with store.write() as tx:
        assert await tx.end_waiting(run.id, "cancelled", "ann")
        assert not await tx.end_waiting(run.id, "cancelled", "bob")
        await tx.add_run(replace(RUN, id="rec-2"))
    with pytest.raises(LeaseLostError):
        async with store.write_as(lease):
            pass


async def test_what_the_database_refuses_is_an_error_of_the_store_without_the_statement(
    store: Store, tmp_path: Path
) -> None:
    """In the statement that fails, so that it can be caught in the transaction; and at its end."""
    async with store.write() as tx:
        await tx.add_bot(BOT)
        with pytest.raises(ConflictError) as conflict:
            await tx.add_bot(BOT)
    assert str(conflict.value) == "UNIQUE constraint failed: bots.name"
    await write_rows(tmp_path / "s.db", "drop table facts")
    with pytest.raises(StoreUnavailableError, match=r"^no such table: facts$"):
        async with store.write() as tx:
            await tx.audit("written at the end, with its head among the facts")


@pytest.mark.parametrize("use", ["a number that is too large", "half a surrogate pair"])
async def test_what_no_column_takes_is_no_fault_of_the_store(store: Store, use: str) -> None:
    with pytest.raises(UnstorableError):
        async with store.write() as tx:
            await (tx.remove_hold(10**19) if use.startswith("a number") else tx.bot("\ud800"))


def test_what_a_bot_tells_of_its_start_fits_into_its_columns() -> None:
    columns = metadata.tables["bots"].columns
    for name in ("boot_id", "started_at", "config_sha"):
        assert columns[name].type.length == LONGEST_FACT  # type: ignore[attr-defined]


async def test_what_fails_half_way_leaves_nothing(store: Store) -> None:
    async def half() -> None:
        async with store.write() as tx:
            await tx.add_run(RUN)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await half()
    async with store.read() as tx:
        assert await tx.run("rec-1") is None


async def test_a_cancelled_writer_leaves_nothing_and_blocks_nobody(store: Store) -> None:
    """Wherever it is cancelled: waiting for its turn, in a statement, or before the commit."""

    async def write(number: int) -> None:
        async with store.write() as tx:
            await tx.audit(f"e{number}")
            await tx.audit(f"e{number}")

    for patience in range(40):
        tasks = [asyncio.create_task(write(number)) for number in range(4)]
        for _ in range(patience):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with store.read() as tx:
        events = [entry.event for entry in await tx.audit_trail(bot=None, after=0, limit=1000)]
    assert all(events.count(event) % 2 == 0 for event in set(events))
    assert events.count("e1") == events.count("e3") == 80


async def test_readers_see_a_writers_work_when_it_is_done_and_never_wait_for_it(store: Store) -> None:
    async with store.write() as tx:
        await tx.add_run(RUN)
        async with asyncio.timeout(5), store.read() as reader:
            assert await reader.run("rec-1") is None
    async with store.read() as reader:
        run = await reader.run("rec-1")
    assert run == replace(RUN, owner=store.replica, lease_until=1030.0, fence=1)


async def test_a_thousand_readers_are_no_thousand_threads(store: Store) -> None:
    most = 0

    async def read() -> None:
        nonlocal most
        async with store.read() as tx:
            await tx.bots()
            most = max(most, sum(thread.name.startswith("sqlite") for thread in threading.enumerate()))

    await asyncio.gather(*(read() for _ in range(1000)))
    assert most <= READS_AT_ONCE + IDLE_CONNECTIONS + 2, "the anchor's, and one that ends"


async def test_only_a_tier_in_the_middle_takes_a_place_in_the_cap(store: Store) -> None:
    states = {"a": "intended", "b": "acted", "c": "not_cured", "d": "failed", "e": "acted"}
    async with store.write() as tx:
        for bot, state in states.items():
            await tx.add_run(replace(RUN, id=f"rec-{bot}", bot=bot))
            await tx.add_step(f"rec-{bot}", "restart", {})
            await tx.change_step(f"rec-{bot}", "restart", state=state)
        await tx.add_step("rec-a", "reboot", {})  # one run counts once
        await tx.add_step("rec-c", "launch", {})  # no tier
        await tx.change_run("rec-e", finished_at=1.0)
        for name in states:
            await tx.add_bot(replace(BOT, name=name))
        others = await tx.in_flight(("restart", "reboot", "redeploy"), "rec-b")
        every = await tx.in_flight(("restart", "reboot", "redeploy"), "rec-z")
    assert [bot.name for bot in others] == ["a"]
    assert [bot.name for bot in every] == ["a", "b"]


async def test_the_trail_shows_the_newest_or_what_follows_oldest_first(store: Store) -> None:
    async with store.write() as tx:
        for number in range(10):
            await tx.audit(f"e{number}", bot="forge" if number < 3 else "atlas")
    async with store.read() as tx:
        newest = await tx.audit_trail(bot=None, after=None, limit=2)
        forge = await tx.audit_trail(bot="forge", after=None, limit=2)
        following = await tx.audit_trail(bot=None, after=2, limit=2)
    assert [entry.event for entry in newest] == ["e8", "e9"]
    assert [entry.event for entry in forge] == ["e1", "e2"]
    assert [entry.event for entry in following] == ["e2", "e3"]
