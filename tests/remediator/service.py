"""A remediator within this process or as one of its own: its settings, and its database."""

from __future__ import annotations

import asyncio
import functools
import socket
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from sqlalchemy import create_engine

from remediator.app import create_app
from remediator.settings import Settings
from remediator.store.database import upgrade
from sandbox.cloud.client import Cloud
from sandbox.process.processes import Process
from sandbox.process.waiting import wait_until
from tests.remediator.api_client import TOKEN, Api
from tests.remediator.world import REGION

REPOSITORY = Path(__file__).parents[2]
QUICK: Mapping[str, Any] = {
    "ami": "ami-0abc1234",
    "aws_region": REGION,
    "aws_poll": 0.1,
    "probe_timeout": 0.7,
    "verify_probes": 2,
    "verify_interval": 0.05,
    "gate_interval": 0.2,
    "restart_timeout": 20,
    "reboot_timeout": 20,
    "redeploy_timeout": 30,
    "fleet_max_unhealthy_ratio": 1,
    "max_in_flight": 20,
    "stability_window": 0.05,
    "activation": 0.05,
    "soak_window": 0.05,
    "storm_cooldown": 0.3,
    "actions_burst": 100,
    "max_attempts": 100,
    "dependency_min": 1000,
    "telegram_api_url": "http://127.0.0.1:9",  # nobody: no test asks the real one
}
"""Nothing waits for longer than it has to; a tier that should not cure gets its own, shorter timeout."""


def credentials() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Api]:
    """Serve the app in this process, on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings), log_config=None, access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    try:

        async def up() -> bool:
            assert not serving.done(), "it did not start"
            return server.started

        await wait_until(up, what="the app", every=0.01)
        token = settings.token.get_secret_value() if settings.token else ""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90)) as session:
            yield Api(f"http://127.0.0.1:{listener.getsockname()[1]}", session, token)
    finally:
        server.should_exit = True
        await serving
        listener.close()


@functools.cache
def migrated() -> bytes:
    """Return the file of an empty database, as a service of this release that was started once leaves it.

    Made once: migrating a new one takes ten times as long as opening it. That is proved in
    tests/remediator/store, whose databases begin with nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        engine = create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            upgrade(connection)
        engine.dispose()
        return path.read_bytes()


def begin_database(database: Path) -> None:
    """Put an empty database of the newest schema there, if there is none."""
    if not database.exists() and database.parent.is_dir():
        database.write_bytes(migrated())


def settings_for(database: Path, cloud: Cloud | None = None, **changes: Any) -> Settings:
    endpoint = cloud.endpoint_url if cloud is not None else "http://127.0.0.1:9"
    begin_database(database)
    made = {
        **QUICK,
        "token": TOKEN,
        "database_url": f"sqlite:///{database}",
        "aws_endpoint_url": endpoint,
        **changes,
    }
    return Settings(**made)


@dataclass
class Remediator:
    """`python -m remediator`, which may be killed and started again."""

    process: Process
    api: Api
    database: Path

    async def start(self) -> None:
        await self.process.start()

    async def kill9(self) -> None:
        await asyncio.to_thread(self.process.kill9)

    async def stopped(self) -> bool:
        return not self.process.alive

    def log(self) -> str:
        """Return the log of all its lives."""
        return self.process.log.read_text()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Straight from its database, whether it lives or not."""
        return read_rows(self.database, query, values)

    async def until_step(self, run_id: str, name: str, *states: str) -> None:
        """Until that step of the run is on disk, in one of the states (any, if none are given)."""

        async def there() -> bool:
            found = self.rows("select state from steps where run_id = ? and name = ?", run_id, name)
            return bool(found) and (not states or found[0][0] in states)

        await wait_until(there, what=f"step {name} of {run_id} {'/'.join(states)}", every=0.003)


def read_rows(database: Path, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        return connection.execute(query, list(values)).fetchall()


async def write_rows(database: Path, statement: str, values: Sequence[object] = ()) -> None:
    """Write in a thread: a remediator may write from this loop, which must not wait for its lock."""

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            connection.execute(statement, list(values))

    await asyncio.to_thread(write)


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as the environment spells them: a float is a duration in seconds."""

    def spelled(value: object) -> str:
        return f"{round(value * 1000)}ms" if isinstance(value, float) else str(value)

    durations = {"restart_timeout", "reboot_timeout", "redeploy_timeout", "relapse_after"}
    return {
        f"BOT_REMEDIATOR_{name.upper()}": spelled(float(value) if name in durations else value)
        for name, value in settings.items()
    } | credentials()
