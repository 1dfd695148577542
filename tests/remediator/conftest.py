"""A cloud for all these tests; a remediator over it, as a process or within this one; a client of its API."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
import pytest_asyncio
import structlog
import uvicorn
from botocore.config import Config
from mypy_boto3_ec2 import EC2Client
from mypy_boto3_ssm import SSMClient

from remediator.app import create_app
from remediator.ec2 import RESTART_CONTENT, RESTART_DOCUMENT
from remediator.settings import Settings
from sandbox.cloud import Cloud, run_cloud
from sandbox.processes import Process, answers, free_port
from sandbox.telegram import Telegram, run_telegram
from sandbox.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
REGION = "us-west-1"
TOKEN = "api-token-1f7c"
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
}
"""Nothing waits for longer than it has to; a tier that should not cure gets its own, shorter timeout."""

NUMBERS = itertools.count()
CLIENTS: dict[tuple[str, str, str], Any] = {}
MAKE_CLIENT: Any = boto3.session.Session.client


@pytest.fixture(autouse=True)
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """As the service writes them. structlog's own default draws a traceback with all locals, for a second."""
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.LogfmtRenderer(key_order=["level", "event"]),
    ]
    structlog.configure(processors=processors)


@pytest.fixture(autouse=True)
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of boto3 takes up to a second to make and holds no state of ours: equal ones are shared."""

    def client(session: boto3.session.Session, service: str, endpoint_url: str, config: Config) -> Any:
        key = (service, endpoint_url, str(vars(config)))
        if key not in CLIENTS:
            CLIENTS[key] = MAKE_CLIENT(session, service, endpoint_url=endpoint_url, config=config)
        return CLIENTS[key]

    monkeypatch.setattr(boto3.session.Session, "client", client)


def credentials() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def field(self) -> str:
        """The field that a refusal names."""
        name: str = self.body["error"].get("field", "")
        return name


@dataclass
class Api:
    """The remediator's API, by a real client."""

    url: str
    session: aiohttp.ClientSession
    token: str = TOKEN

    async def call(self, method: str, path: str, payload: object = None, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        if payload is not None:
            options["json"] = payload
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            is_json = response.content_type == "application/json"
            body = await response.json() if is_json else await response.text()
            return Answer(response.status, body, response.headers)

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def post(self, path: str, payload: object) -> Answer:
        return await self.call("POST", path, payload)

    # what nearly every test does

    async def begin_deploy(self, bot: str, token: str = "42:telegram", kind: str = "support") -> Answer:
        wish = {"botName": bot, "botType": kind, "telegramToken": token, "environment": "staging"}
        return await self.post("/deploy", wish)

    async def deployed(self, *bots: str, kind: str = "support") -> None:
        """Deploy them, side by side, and wait until they are."""

        async def one(bot: str) -> None:
            answer = await self.begin_deploy(bot, kind=kind)
            assert answer.status == 202, answer
            ended = await self.until_ended(f"/deploy/{answer.body['deploymentId']}")
            assert ended["status"] == "deployed", ended

        await asyncio.gather(*map(one, bots))

    async def recover(self, bot: str, method: str = "restart", wait: float = 60) -> Any:
        """Ask for a recovery and wait for its end."""
        answer = await self.post(f"/recover/{bot}?wait={wait}", {"method": method})
        assert answer.status in (200, 202), answer
        return answer.body

    async def alert(self, *members: Mapping[str, Any], **rest: Any) -> list[str]:
        """POST /alerts; the ids of the recoveries that it concerned."""
        answer = await self.post("/alerts", webhook(*members, **rest))
        assert answer.status == 200, answer
        ids: list[str] = answer.body["recoveries"]
        return ids

    async def until_ended(self, path: str, timeout: float = 60) -> Any:
        async def ended() -> Any:
            view = await self.get(path)
            return view if view["finishedAt"] else None

        return await wait_until(ended, timeout, f"{path} ended")

    async def until_status(self, path: str, status: str, timeout: float = 30) -> Any:
        async def reached() -> Any:
            view = await self.get(path)
            return view if view["status"] == status else None

        return await wait_until(reached, timeout, f"{path} {status}")

    async def recoveries(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/dashboard"))["state"]["recoveries"]
        return found

    async def metric(self, sample: str) -> float | None:
        """The value of one sample, as `name{label="value"}`."""
        for line in (await self.get("/metrics")).splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return None


def firing(
    bot: str, *, name: str = "BotDown", starts_at: str = "2026-11-22T10:00:00.123456789Z", **labels: str
) -> dict[str, Any]:
    """A member of a payload, as Alertmanager sends it."""
    return {
        "status": "firing",
        "labels": {"alertname": name, "bot": bot, "remediation": "auto", "severity": "critical", **labels},
        "annotations": {"summary": f"{bot} is down"},
        "startsAt": starts_at,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": f"{bot}-{name}"[:64],
    }


def resolved(member: Mapping[str, Any]) -> dict[str, Any]:
    return {**member, "status": "resolved", "endsAt": "2026-11-22T10:05:00Z"}


def webhook(*members: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """Alertmanager's payload, version 4."""
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing" if any(one.get("status") == "firing" for one in members) else "resolved",
        "receiver": "remediator",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "alerts": list(members),
        **rest,
    }


@dataclass
class World:
    """A cloud, and what tests ask of it directly."""

    cloud: Cloud
    ec2: EC2Client
    ssm: SSMClient

    def names(self, count: int) -> list[str]:
        """New names for bots: the cloud is shared."""
        return [f"bot-{next(NUMBERS)}" for _ in range(count)]

    def name(self) -> str:
        return self.names(1)[0]

    async def actions(self, bot: str) -> list[str]:
        """What was done to the bot's instances, in order."""
        return [effect.action for effect in await self.cloud.effects(bot)]

    async def live(self, bot: str) -> list[str]:
        """Its instances that are not terminated."""
        return [one.instance_id for one in await self.cloud.bots() if one.bot == bot]

    async def instance(self, bot: str) -> str:
        (found,) = await self.live(bot)
        return found

    def deployments(self, bot: str) -> list[str]:
        """The tag that says which run launched each of its instances, live or not."""
        found = self.ec2.describe_instances(Filters=[{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}])
        return [
            tag["Value"]
            for group in found["Reservations"]
            for instance in group["Instances"]
            for tag in instance["Tags"]
            if tag["Key"] == "bot-orchestrator:deployment"
        ]

    def has_token(self, bot: str) -> bool:
        found = self.ssm.get_parameters(Names=[f"/bots/{bot}/telegram-token"])
        return bool(found["Parameters"])

    async def until_did(self, bot: str, action: str) -> None:
        async def did() -> bool:
            return action in await self.actions(bot)

        await wait_until(did, what=f"{action} of {bot}", every=0.01)


def clients(endpoint_url: str) -> tuple[EC2Client, SSMClient]:
    session = boto3.session.Session("sandbox", "sandbox", region_name=REGION)
    ec2: EC2Client = MAKE_CLIENT(session, "ec2", endpoint_url=endpoint_url)
    ssm: SSMClient = MAKE_CLIENT(session, "ssm", endpoint_url=endpoint_url)
    return ec2, ssm


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with run_cloud(tmp_path_factory.mktemp("cloud"), boot_seconds=0.2) as cloud:
        ec2, ssm = clients(cloud.endpoint_url)
        # else the first restart of all would be sent twice
        ssm.create_document(Name=RESTART_DOCUMENT, Content=RESTART_CONTENT, DocumentType="Command")
        yield World(cloud, ec2, ssm)


@pytest.fixture
async def world(one_world: World) -> AsyncIterator[World]:
    """The cloud that all tests share; what a test launched is gone after it."""
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
    """A cloud of the test's own, whose API may stay broken."""
    async with run_cloud(tmp_path / "cloud", boot_seconds=0.2) as cloud:
        yield World(cloud, *clients(cloud.endpoint_url))


@pytest.fixture
async def telegram() -> AsyncIterator[Telegram]:
    async with run_telegram() as catcher:
        yield catcher


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Api]:
    """The app in this process, on a free port."""
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


def settings_for(database: Path, cloud: Cloud | None = None, **changes: Any) -> Settings:
    endpoint = cloud.endpoint_url if cloud is not None else "http://127.0.0.1:9"
    made = {
        **QUICK,
        "token": TOKEN,
        "database_url": f"sqlite+aiosqlite:///{database}",
        "aws_endpoint_url": endpoint,
        **changes,
    }
    return Settings(**made)


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
        """Of all its lives."""
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
    """In a thread: a remediator may write from this loop, which must not wait for its lock."""

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


@pytest.fixture
def run_remediator(
    tmp_path: Path,
) -> Callable[..., AbstractAsyncContextManager[Remediator]]:
    """Run `python -m remediator` over a cloud, with these settings changed, until the block ends."""

    @asynccontextmanager
    async def run(cloud: Cloud, **changes: Any) -> AsyncIterator[Remediator]:
        address = f"127.0.0.1:{free_port()}"
        database = tmp_path / "remediator.db"
        wanted = {
            **QUICK,
            "listen": address,
            "token": TOKEN,
            "database_url": f"sqlite+aiosqlite:///{database}",
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
