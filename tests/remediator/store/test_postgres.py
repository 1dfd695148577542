"""The store on a real PostgreSQL: the schema, the lock, the clock, and what a server that is away means."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from remediator.model import Run
from remediator.settings import SettingsError
from remediator.store.database import Database
from remediator.store.errors import StoreError, StoreUnavailableError, UnstorableError
from remediator.store.lease import LeaseLostError
from remediator.store.schema import metadata
from remediator.store.store import SqlConnector, Store
from remediator.store.transaction import Transaction
from sandbox.process.waiting import wait_until
from tests.chaos.postgres import PASSWORD, Postgres
from tests.remediator.conftest import REPOSITORY, TOKEN, environment
from tests.remediator.cost.test_repository import check_repository

RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "", "", 0.0, None)


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
async def stores(url: str) -> AsyncIterator[tuple[Store, Store]]:
    """Open the stores of two replicas on one database."""
    first, second = [await Store.open(url, lease_seconds=30) for _ in range(2)]
    yield first, second
    await first.close()
    await second.close()


async def test_the_migrations_make_the_schema(url: str) -> None:
    await (await Database.open(url)).close()
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await engine.dispose()
    assert differences == []


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda tx: tx.bot("a\0b"), id="U+0000"),
        pytest.param(lambda tx: tx.remove_hold(10**19), id="no number of eight bytes"),
        pytest.param(lambda tx: tx.remove_hold(2**40), id="no number of four"),
        pytest.param(lambda tx: tx.set_fact("n" * 10_000, 1), id="a long text"),
        pytest.param(lambda tx: tx.bot("\ud800"), id="half a surrogate pair"),
    ],
)
async def test_what_no_column_takes_is_no_fault_of_the_store(
    url: str, use: Callable[[Transaction], Awaitable[object]]
) -> None:
    store = await Store.open(url)
    with pytest.raises(UnstorableError):
        async with store.write() as tx:
            await use(tx)
    async with store.write() as tx:
        assert await tx.bots() == []
    await store.close()


async def test_sessions_that_cannot_write_are_dropped(url: str) -> None:
    """As after a failover: the pool's sessions lead to a server that has become a standby."""
    database = await Database.open(url)
    store = Store(SqlConnector(database))
    async with database.write() as first, database.read() as second:
        for connection in (first, second):
            await connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        await second.execute(text("COMMIT"))
    faults = 0
    for _ in range(4):
        try:
            async with store.write() as tx:
                await tx.set_fact("x", 1)
        except StoreUnavailableError:
            faults += 1
            assert "read-only" in store.write_fault
    assert faults == 1
    assert store.write_fault == ""
    await store.close()


async def test_replicas_that_start_together_migrate_once(url: str) -> None:
    databases = await asyncio.gather(*(Database.open(url) for _ in range(4)))
    async with databases[0].read() as connection:
        versions = (await connection.execute(text("SELECT version_num FROM alembic_version"))).all()
    for database in databases:
        await database.close()
    assert len(versions) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda url: url.replace(PASSWORD, "wrong-word"), "password authentication failed"),
        (lambda url: url.replace("127.0.0.1", "no-such-host.invalid"), "Name or service not known"),
        (lambda url: url.rpartition("/")[0] + "/nothing", 'database "nothing" does not exist'),
        (lambda url: url.replace("postgresql:", "mysql:"), "mysql is not supported; use sqlite"),
    ],
)
async def test_a_wrong_url_is_refused_in_words_without_its_password(
    url: str, change: Callable[[str], str], reason: str
) -> None:
    wrong = change(url)
    with pytest.raises(SettingsError, match=r"^BOT_REMEDIATOR_DATABASE_URL: ") as refused:
        await Database.open(wrong)
    assert reason in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert "wrong-word" not in str(refused.value)


async def test_the_process_says_so_and_exits_with_two(url: str) -> None:
    settings = {"database_url": url.replace(PASSWORD, "wrong-word"), "token": TOKEN}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "remediator",
        env=environment(settings),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 2
    assert output.startswith(b"bot-remediator: BOT_REMEDIATOR_DATABASE_URL: "), output
    assert b"wrong-word" not in output
    assert b"Traceback" not in output


async def test_only_one_replica_writes_at_a_time(stores: tuple[Store, Store]) -> None:
    """Each reads, waits and writes what it read plus one: with two at once, some would be lost."""

    async def add(store: Store) -> None:
        for _ in range(10):
            async with store.write() as tx:
                before = await tx.fact("count") or 0
                await asyncio.sleep(0)
                await tx.set_fact("count", before + 1)

    await asyncio.gather(*(add(store) for store in stores * 2))
    async with stores[0].read() as tx:
        assert await tx.fact("count") == 40


async def test_a_reader_sees_one_moment(stores: tuple[Store, Store]) -> None:
    """The newest hash and the rows of the trail agree, whatever is written between the two looks."""
    writer, reader = stores
    async with writer.write() as tx:
        await tx.audit("first")
    async with reader.read() as tx:
        head = await tx.fact("audit_head")
        async with writer.write() as other:
            await other.audit("second")
        (entry,) = await tx.audit_trail(bot=None, after=0, limit=10)
    assert entry.hash == head


async def test_a_frozen_replica_in_a_transaction_keeps_the_others_out_for_seconds_alone(
    stores: tuple[Store, Store],
) -> None:
    """The server ends the idle transaction, and with it the lock."""
    frozen, other = stores
    inside, thawed = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        async with frozen.write() as tx:
            await tx.audit("half")
            inside.set()
            await thawed.wait()
            await tx.audit("other half")

    task = asyncio.create_task(freeze())
    await inside.wait()
    async with asyncio.timeout(14), other.write() as tx:
        await tx.audit("whole")
    thawed.set()
    with pytest.raises(StoreError):
        await task
    async with other.read() as tx:
        assert [entry.event for entry in await tx.audit_trail(bot=None, after=0, limit=9)] == ["whole"]


async def test_a_lease_that_ran_out_is_taken_once_and_its_old_holder_can_write_nothing(url: str) -> None:
    first, second, third = [await Store.open(url, lease_seconds=0.2) for _ in range(3)]
    async with first.write() as tx:
        lease = first.lease(await tx.add_run(RUN))

    async def claim(store: Store) -> list[Run]:
        async with store.write() as tx:
            return await tx.claim([], 10)

    async def claimed() -> list[Run]:
        return [run for runs in await asyncio.gather(claim(second), claim(third)) for run in runs]

    (taken,) = await wait_until(claimed, what="the lease's end", every=0.01)
    assert taken.fence == 2
    with pytest.raises(LeaseLostError):
        lease.check()
    with pytest.raises(LeaseLostError):
        async with first.write_as(lease) as tx:
            await tx.audit("never")
    async with second.read() as tx:
        assert await tx.audit_trail(bot=None, after=0, limit=9) == []
    for store in (first, second, third):
        await store.close()


async def test_replicas_go_by_the_databases_clock(url: str) -> None:
    """One whose own clock is an hour ahead takes nobody's run."""
    right = await Store.open(url, lease_seconds=30)
    wrong = Store(SqlConnector(await Database.open(url)), lease_seconds=30, clock=lambda: 4e9)
    async with right.write() as tx:
        await tx.add_run(replace(RUN, created_at=tx.now))
    async with wrong.write() as tx:
        assert await tx.claim([], 10) == []
        assert abs(wrong.clock() - tx.now) < 1
    await right.close()
    await wrong.close()


async def test_a_server_that_is_away_is_a_fault_of_the_store_and_back_again_all_is_well(
    postgres: Postgres, stores: tuple[Store, Store]
) -> None:
    """Also for what the pool still holds, and for one in the middle of a transaction."""
    store, _ = stores
    async with store.write() as tx:
        await tx.audit("before")

    async def cut_off() -> None:
        async with store.write() as tx:
            await tx.audit("during")
            await postgres.stop_at_once()
            await tx.audit("during")

    with pytest.raises(StoreError):
        await cut_off()
    for opened in (store.write, store.read):
        with pytest.raises(StoreError):
            async with opened():
                pytest.fail("no server")
    await postgres.start()
    async with store.write() as tx:
        await tx.audit("after")
        assert [entry.event for entry in await tx.audit_trail(bot=None, after=0, limit=9)] == [
            "before",
            "after",
        ]


async def test_the_books_are_read_as_they_were_kept(stores: tuple[Store, Store]) -> None:
    await check_repository(stores[0])
