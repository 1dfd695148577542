"""A cloud for all these tests; a remediator over it, as a process or within this one; a client of its API."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
import pytest_asyncio
import structlog
from botocore.config import Config

from remediator.aws.ssm_commands import DOCUMENTS
from sandbox.cloud.client import Cloud, run_cloud
from sandbox.process.processes import Process, answers, free_port
from sandbox.stack.telegram import METHODS, Telegram, run_telegram
from tests.chaos.postgres import Postgres, run_postgres
from tests.remediator.api_client import TOKEN, Answer, Api, firing, resolved, webhook
from tests.remediator.service import (
    QUICK,
    REPOSITORY,
    Remediator,
    begin_database,
    credentials,
    environment,
    read_rows,
    serve,
    settings_for,
    write_rows,
)
from tests.remediator.world import MAKE_CLIENT, REGION, World, clients

__all__ = [
    "MAKE_CLIENT",
    "QUICK",
    "REGION",
    "REPOSITORY",
    "TOKEN",
    "Answer",
    "Api",
    "Remediator",
    "World",
    "clients",
    "credentials",
    "environment",
    "firing",
    "read_rows",
    "resolved",
    "serve",
    "settings_for",
    "webhook",
    "write_rows",
]  # what tests take from here

CLIENTS: dict[tuple[str, str, str], Any] = {}


@pytest.fixture(autouse=True)
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Log as the service does. structlog's own default draws a traceback with all locals, for a second."""
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.LogfmtRenderer(key_order=["level", "event"]),
    ]
    structlog.configure(processors=processors)


@pytest.fixture(autouse=True)
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share equal clients of boto3: one takes up to a second to make and holds no state of ours."""

    def client(session: boto3.session.Session, service: str, endpoint_url: str, config: Config) -> Any:
        key = (service, endpoint_url, str(vars(config)))
        if key not in CLIENTS:
            CLIENTS[key] = MAKE_CLIENT(session, service, endpoint_url=endpoint_url, config=config)
        return CLIENTS[key]

    monkeypatch.setattr(boto3.session.Session, "client", client)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with run_cloud(tmp_path_factory.mktemp("cloud"), boot_seconds=0.2) as cloud:
        ec2, ssm = clients(cloud.endpoint_url)
        for document in DOCUMENTS:  # else the first restart of all would be sent twice
            ssm.create_document(Name=document.name, Content=document.content, DocumentType="Command")
        yield World(cloud, ec2, ssm)


@pytest.fixture
async def world(one_world: World) -> AsyncIterator[World]:
    """Give the cloud that all tests share; what a test launched is gone after it."""
    yield one_world
    await one_world.cloud.heal()
    left = [bot.instance_id for bot in await one_world.cloud.bots()]
    if left:
        one_world.ec2.terminate_instances(InstanceIds=left)
    await one_world.cloud.forget()
    for address in one_world.ec2.describe_addresses()["Addresses"]:
        if "AssociationId" in address:
            one_world.ec2.disassociate_address(AssociationId=address["AssociationId"])
        one_world.ec2.release_address(AllocationId=address["AllocationId"])
    pages = one_world.ssm.get_paginator("describe_parameters").paginate()
    for name in [one["Name"] for page in pages for one in page["Parameters"]]:
        one_world.ssm.delete_parameter(Name=name)


@pytest.fixture
async def own_world(tmp_path: Path) -> AsyncIterator[World]:
    """Give a cloud of the test's own, whose API may stay broken."""
    async with run_cloud(tmp_path / "cloud", boot_seconds=0.2) as cloud:
        yield World(cloud, *clients(cloud.endpoint_url))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server() -> AsyncIterator[Postgres]:
    async with run_postgres() as server:
        yield server


@pytest.fixture
async def postgres(postgres_server: Postgres) -> AsyncIterator[Postgres]:
    """Yield the server that all tests share, and start it again where a test has stopped it."""
    yield postgres_server
    if not postgres_server.process.alive:
        await postgres_server.start()


@pytest.fixture
async def postgres_url(postgres: Postgres) -> str:
    """Return the URL of an empty database."""
    return postgres.url(await postgres.new_database())


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the token of each question how many updates wait that Telegram's stand-in answers."""
    tokens: list[str] = []
    answer = METHODS["getwebhookinfo"]

    def noted(telegram: Telegram, token: str, fields: dict[str, Any]) -> tuple[int, Any]:
        tokens.append(token)
        return answer(telegram, token, fields)

    monkeypatch.setitem(METHODS, "getwebhookinfo", noted)
    return tokens


@pytest.fixture
async def telegram() -> AsyncIterator[Telegram]:
    async with run_telegram() as catcher:
        yield catcher


@pytest.fixture
def run_app(tmp_path: Path, world: World) -> Callable[..., AbstractAsyncContextManager[Api]]:
    """Run the app over the cloud, with these settings changed, until the block ends. The database is kept."""

    def run(**changes: Any) -> AbstractAsyncContextManager[Api]:
        return serve(settings_for(tmp_path / "remediator.db", world.cloud, **changes))

    return run


@pytest.fixture
async def app(run_app: Callable[..., AbstractAsyncContextManager[Api]]) -> AsyncIterator[Api]:
    async with run_app() as api:
        yield api


@pytest.fixture
def run_remediator(
    tmp_path: Path,
) -> Callable[..., AbstractAsyncContextManager[Remediator]]:
    """Run `python -m remediator` over a cloud, with these settings changed, until the block ends."""

    @asynccontextmanager
    async def run(cloud: Cloud, **changes: Any) -> AsyncIterator[Remediator]:
        address = f"127.0.0.1:{free_port()}"
        database = tmp_path / "remediator.db"
        begin_database(database)
        wanted = {
            **QUICK,
            "listen": address,
            "token": TOKEN,
            "database_url": f"sqlite:///{database}",
            "aws_endpoint_url": cloud.endpoint_url,
            **changes,
        }
        process = Process(
            [sys.executable, "-W", "error", "-m", "remediator"],
            name="remediator",
            log=tmp_path / "remediator.log",
            cwd=REPOSITORY,
            env=environment(wanted),
            ready=answers(f"http://{address}/-/ready"),
            grace=20,
        )
        # A connection kept from the service's last life would break the first call of its next.
        fresh = aiohttp.TCPConnector(force_close=True)
        async with (
            process,
            aiohttp.ClientSession(connector=fresh, timeout=aiohttp.ClientTimeout(total=90)) as session,
        ):
            yield Remediator(process, Api(f"http://{address}", session), database)

    return run
