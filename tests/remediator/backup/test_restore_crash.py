"""A restore that dies leaves nothing or everything: whatever it died at, and as a real process."""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path

import pyrage
import pytest

from remediator.__main__ import main
from remediator.backup.dump import take_sealed
from remediator.backup.encryption import recipients
from remediator.store.store import Store
from sandbox.process.waiting import wait_until
from tests.chaos.postgres import Postgres
from tests.remediator.backup.crashes import Crash, crash_at
from tests.remediator.backup.databases import NewDatabase, dump, restored, source, tables_in, tables_of
from tests.remediator.conftest import REPOSITORY, credentials


@pytest.mark.timeout(300)  # it restores once for each of them
async def test_a_crash_at_a_statement_leaves_nothing_and_the_next_try_everything(
    new_database: NewDatabase,
) -> None:
    archive = await source(await new_database())
    with crash_at(0) as statements_run:
        await restored(await new_database(), archive)
    statements = statements_run[0]
    assert statements > 50
    target = await new_database()
    step = statements // (24 if target.startswith("sqlite") else 4)  # PostgreSQL takes ten times as long
    for number in [*range(1, statements, step), statements]:
        with crash_at(number), pytest.raises(Crash):
            await restored(target, archive)
        assert await tables_of(target) == set(), number
    with crash_at(1, when="commit"), pytest.raises(Crash):
        await restored(target, archive)
    assert await tables_of(target) == set()
    await restored(target, archive)
    assert len((await dump(target))["bots"]) == archive.counts["bots"]


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
    origin, target = await sqlite(), await sqlite()
    archive = await source(origin, messages=8000)
    file = tmp_path / "backup.age"
    store = await Store.open(origin, serving=False)
    out = io.BytesIO()
    await take_sealed(store, out, "0.1.0", recipients([public(key)]))
    await store.close()
    file.write_bytes(out.getvalue())
    log = Path(target.removeprefix("sqlite:///") + "-wal")
    for size in (1, 500_000):
        process = await command(target, "restore", file, "--identity-file", key)

        async def has_grown(size: int = size) -> bool:
            return log.exists() and log.stat().st_size >= size

        await wait_until(has_grown, 60, f"{size} bytes of log", every=0.002)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        tables = tables_in(target)
        assert tables == set() or len((await dump(target))["bots"]) == archive.counts["bots"]
        if tables:
            return  # it was faster than we
    process = await command(target, "restore", file, "--identity-file", key)
    assert "Start the service" in await said(process)
    assert process.returncode == 0
    assert len((await dump(target))["bots"]) == archive.counts["bots"]


async def test_kill_9_on_postgresql_leaves_an_empty_or_a_whole_database(
    postgresql: NewDatabase, postgres: Postgres, tmp_path: Path, key: Path
) -> None:
    origin, target = await postgresql(), await postgresql()
    archive = await source(origin, messages=8000)
    file = tmp_path / "backup.age"
    process = await command(origin, "backup", file, "--recipient", public(key))
    assert "rows of 3 bots" in await said(process)
    process = await command(target, "restore", file, "--identity-file", key)
    at_work = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'INSERT INTO %'"

    async def inserting() -> bool:
        return bool(await postgres.rows("postgres", at_work, target.rpartition("/")[2]))

    await wait_until(inserting, 60, "the first rows", every=0.002)
    process.send_signal(signal.SIGKILL)
    await process.wait()

    async def let_go() -> bool:
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND application_name = 'remediator'"
        return not await postgres.rows("postgres", query, target.rpartition("/")[2])

    await wait_until(let_go, 60, "the server's end of it")
    assert await tables_of(target) == set()
    process = await command(target, "restore", file, "--identity-file", key, "--json")
    summary = json.loads(await said(process))
    assert (process.returncode, summary["rows"]) == (0, dict(archive.counts))


def run(url: str, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command in this process. Return its exit code."""
    monkeypatch.setenv("BOT_REMEDIATOR_DATABASE_URL", url)
    return main([str(argument) for argument in arguments])


def test_a_passphrase_does_as_well_and_a_wrong_key_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, target = f"sqlite:///{tmp_path}/here.db", f"sqlite:///{tmp_path}/there.db"
    archive = asyncio.run(source(origin))
    word, file = tmp_path / "word.txt", tmp_path / "backup.age"
    word.write_text("a long passphrase of many words\n")
    assert run(origin, monkeypatch, "backup", file, "--passphrase-file", word) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr("sys.stdin", io.StringIO())
    wrong: list[tuple[list[str | Path], str]] = [
        ([], "nobody to ask; name a file with --passphrase-file"),
        (["--identity-file", word], "holds no age key"),
        (["--passphrase-file", tmp_path / "none"], "No such file"),
    ]
    for arguments, reason in wrong:
        assert run(target, monkeypatch, "restore", file, *arguments) == 1
        assert reason in capsys.readouterr().err
    assert run(target, monkeypatch, "restore", file, "--passphrase-file", word) == 0
    assert f"rows of {archive.counts['bots']} bots are back" in capsys.readouterr().out
