"""`python -m remediator audit verify`, and the trail across the migration to its first chained release."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from remediator.__main__ import main
from remediator.store.audit import verify_chain
from remediator.store.database import MIGRATIONS, Database
from remediator.store.store import Store
from tests.remediator.conftest import Remediator, World, firing

ROWS = 6


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a database with some entries, one of them in another script; name it in the environment."""
    path = tmp_path / "remediator.db"
    monkeypatch.setenv("BOT_REMEDIATOR_DATABASE_URL", f"sqlite:///{path}")

    async def write() -> None:
        store = await Store.open(f"sqlite:///{path}")
        for number in range(ROWS // 2):  # two a transaction
            async with store.write() as tx:
                await tx.audit(
                    f"e{2 * number + 1}", bot="forge", actor="ann", share=0.1 * number, why="größer"
                )
                await tx.audit(f"e{2 * number + 2}", bot="forge", nested={"b": [1, None], "a": True})
        await store.close()

    asyncio.run(write())
    return path


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement
        connection.commit()


def verify(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["audit", "verify"])
    output = capsys.readouterr()
    return code, output.out + output.err


def test_a_trail_as_it_was_written_exits_with_zero(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(capsys) == (0, f"{ROWS} rows, each as it was written\n")


ALTERED = "it was altered, or a row before it is missing or moved"
CUT = "the newest rows are missing: the trail does not end where it did"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "'bob'"),
        ("at", "at + 0.001"),
        ("event", "'e9'"),
        ("bot", "'atlas'"),
        ("run_id", "'rec-9'"),
        ("detail", "'{}'"),
        ("hash", "''"),
    ],
)
def test_an_altered_row_is_named(
    database: Path, capsys: pytest.CaptureFixture[str], column: str, value: str
) -> None:
    change(database, f"update audit set {column} = {value} where id = 3")
    code, output = verify(capsys)
    assert code == 1
    assert output.startswith("row 3 (")
    assert ALTERED in output


def test_a_removed_row_is_found(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(database, "delete from audit where id = 3")
    assert verify(capsys) == (1, f"row 4 (e4): {ALTERED}\n")


def test_a_removed_first_row_is_found(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(database, "delete from audit where id = 1")
    assert verify(capsys) == (1, f"row 2 (e2): {ALTERED}\n")


def test_reordered_rows_are_found(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(
        database, *(f"update audit set id = {to} where id = {of}" for of, to in ((3, 99), (4, 3), (99, 4)))
    )
    code, output = verify(capsys)
    assert code == 1
    assert [line[:10] for line in output.splitlines()] == ["row 3 (e4)", "row 4 (e3)", "row 5 (e5)"]


def test_a_cut_tail_is_found(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(database, f"delete from audit where id > {ROWS - 2}")
    assert verify(capsys) == (1, f"{CUT}\n")


def test_an_emptied_trail_is_found(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(database, "delete from audit")
    assert verify(capsys) == (1, f"{CUT}\n")


def test_where_there_is_no_database_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.db"
    monkeypatch.setenv("BOT_REMEDIATOR_DATABASE_URL", f"sqlite:///{missing}")
    assert verify(capsys) == (
        2,
        f"bot-remediator: BOT_REMEDIATOR_DATABASE_URL: there is no {missing}\n",
    )
    assert not missing.exists()


async def test_it_is_verified_while_the_service_runs(
    run_remediator: Callable[..., AbstractAsyncContextManager[Remediator]],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with run_remediator(world.cloud) as service:
        monkeypatch.setenv("BOT_REMEDIATOR_DATABASE_URL", f"sqlite:///{service.database}")
        await service.api.alert(firing("nobody"))
        code, output = await asyncio.to_thread(verify, capsys)
    assert (code, output) == (0, "1 rows, each as it was written\n")


# the release before


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'old.db'}"
    on_postgresql: str = request.getfixturevalue("postgres_url")
    return on_postgresql


BOT = (
    "insert into bots values ('forge', 'support', 'staging', 'active', '127.0.0.2:1', '/health', '/mesh',"
    " 'i-1', '{}', 'sha', 'b-1', null, 7.5, 'broken', 1, 2)"
)
RUN = (
    "insert into runs values"
    " ('rec-1', 'recover', 'forge', 'alert', '', 'running', 'ill', 'restart', 5.25, null)"
)
STEP = (
    "insert into steps (run_id, name, state, request, result, detail, intended_at)"
    " values ('rec-1', 'restart', 'intended', '{\"instance_id\": \"i-1\"}', '{}', '', 6.5)"
)


def old_release(connection: Connection) -> None:
    """Make a database of the first release, which was stopped in the middle of a restart."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    for statement in (BOT, RUN, STEP):
        connection.exec_driver_sql(statement)
    row = (
        "insert into audit (at, actor, event, bot, run_id, detail)"
        " values (:at, 'ann', :event, 'forge', '', :detail)"
    )
    details: list[dict[str, Any]] = [{}, {"why": "größer", "n": [1, 0.1, None]}, {"b": 1, "a": True}]
    for number, detail in enumerate(details):
        values = {"at": 1795353467.8746 + number / 3, "event": f"e{number}", "detail": json.dumps(detail)}
        connection.execute(text(row), values)
    connection.commit()


async def test_the_migration_chains_the_old_rows_and_keeps_what_was_under_way(url: str) -> None:
    database = await Database.open(url, prepare=old_release)
    await database.close()
    store = await Store.open(url, lease_seconds=30)
    async with store.write() as tx:
        (run,) = await tx.active_runs()
        assert (run.id, run.tier, run.created_at, run.owner, run.fence) == ("rec-1", "restart", 5.25, None, 0)
        (step,) = await tx.steps("rec-1")
        assert (step.state, step.request) == ("intended", {"instance_id": "i-1"})
        bot = await tx.bot("forge")
        assert bot is not None
        assert (bot.quarantined_at, bot.zone, bot.attempts_from) == (7.5, "", 0)
        (claimed,) = await tx.claim([], 10)
        assert (claimed.id, claimed.fence) == ("rec-1", 1)
        await tx.audit("new")
    async with store.read() as tx:
        trail = await tx.audit_trail(bot=None, after=0, limit=100)
        head = await tx.fact("audit_head")
    await store.close()
    assert [entry.event for entry in trail] == ["e0", "e1", "e2", "new"]
    assert verify_chain(trail, head) == []
    assert verify_chain(trail[1:], head)
    assert verify_chain(trail[:-1], head)
