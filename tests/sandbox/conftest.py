"""A cloud for a test module, clients for it, and bots that are gone after each test."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
import pytest_asyncio
import yaml
from botocore.config import Config
from mypy_boto3_ec2 import EC2Client
from mypy_boto3_ssm import SSMClient

from sandbox.cloud.client import Cloud, SandboxBot, run_cloud
from sandbox.process.waiting import wait_until

REGION = "us-west-1"
DOCUMENT = "BotOrchestrator-RestartBot"
NAMES = (f"bot-{number}" for number in itertools.count())


def clients(endpoint_url: str) -> tuple[EC2Client, SSMClient]:
    keys = {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}
    config = Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=20)
    options: Any = {"region_name": REGION, "endpoint_url": endpoint_url, "config": config, **keys}
    return boto3.client("ec2", **options), boto3.client("ssm", **options)


def user_data(bot: str) -> str:
    unit = {"bot": bot, "port": 18790, "health_path": "/health", "mesh_path": "/mesh", "config_sha": "c0ffee"}
    files = [{"path": "/etc/bot/bot.json", "content": json.dumps(unit)}]
    return "#cloud-config\n" + yaml.safe_dump({"write_files": files})


@dataclass
class Fleet:
    """A cloud and its clients, with what every test does to them."""

    cloud: Cloud
    ec2: EC2Client
    ssm: SSMClient
    launched: list[str] = field(default_factory=list)

    def request(self, bot: str, **changes: Any) -> dict[str, Any]:
        request = {"ImageId": "ami-0abc", "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        return {**request, "UserData": user_data(bot), **changes}

    def run(self, request: dict[str, Any]) -> str:
        """Call RunInstances, and return the instance's id."""
        instance_id = self.ec2.run_instances(**request)["Instances"][0]["InstanceId"]
        self.launched.append(instance_id)
        return instance_id

    def describe(self, instance_id: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id: str) -> str:
        name: str = self.describe(instance_id)["State"]["Name"]
        return name

    async def until_state(self, instance_id: str, state: str) -> None:
        async def reached() -> bool:
            return self.state(instance_id) == state

        await wait_until(reached, what=f"{instance_id} {state}")

    async def launch(self) -> SandboxBot:
        """Launch a bot of a name of its own, and wait until it answers."""
        name = next(NAMES)
        self.run(self.request(name))
        await self.until_well(name)
        return await self.bot(name)

    async def bot(self, name: str) -> SandboxBot:
        (match,) = [bot for bot in await self.cloud.bots() if bot.bot == name]
        return match

    async def get(self, bot: str, path: str = "/health", timeout: float = 10) -> tuple[int, Any]:
        """Return (status, JSON), or (0, the error's name) where nobody answers."""
        address = (await self.bot(bot)).address
        patience = aiohttp.ClientTimeout(total=timeout)
        try:
            async with (
                aiohttp.ClientSession(timeout=patience) as session,
                session.get(f"http://{address}{path}") as response,
            ):
                is_json = response.content_type == "application/json"
                return response.status, await (response.json() if is_json else response.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, type(error).__name__

    async def until_well(self, bot: str) -> Any:
        """Wait until it answers on both paths, and return what it tells."""

        async def well() -> Any:
            status, told = await self.get(bot, "/mesh")
            return told if status == 200 and (await self.get(bot))[0] == 200 else None

        return await wait_until(well, what=f"{bot} well")

    def send_restart(self, instance_id: str, comment: str = "") -> str:
        """Call SendCommand, and return the command's id."""
        sent = self.ssm.send_command(
            DocumentName=DOCUMENT, InstanceIds=[instance_id], Comment=comment, TimeoutSeconds=30
        )
        return sent["Command"]["CommandId"]

    async def restart(self, instance_id: str) -> Any:
        """Call SendCommand, and return the invocation once it has ended."""
        command_id = self.send_restart(instance_id)

        async def ended() -> Any:
            invocation = self.ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id)
            return invocation if invocation["Status"] in ("Success", "Failed") else None

        return await wait_until(ended, what="the command's end")

    async def actions(self, bot: str) -> list[str]:
        return [effect.action for effect in await self.cloud.effects(bot)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    state: Path = tmp_path_factory.mktemp("cloud")
    async with run_cloud(state, boot_seconds=0.05) as running:
        create_document(running)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def booting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """Run a cloud whose instances boot for minutes: whatever a test does with one, it is pending."""
    async with run_cloud(tmp_path_factory.mktemp("booting"), boot_seconds=600) as cloud:
        create_document(cloud)
        yield fleet_on(cloud)


def create_document(cloud: Cloud) -> None:
    step = {"action": "aws:runShellScript", "name": "restart"}
    script = {"inputs": {"runCommand": ["systemctl restart bot.service"]}}
    content = json.dumps({"schemaVersion": "2.2", "mainSteps": [step | script]})
    clients(cloud.endpoint_url)[1].create_document(Name=DOCUMENT, Content=content, DocumentType="Command")


def fleet_on(cloud: Cloud) -> Fleet:
    return Fleet(cloud, *clients(cloud.endpoint_url))


@pytest.fixture(name="fleet_on")
def fleet_on_fixture() -> Callable[[Cloud], Fleet]:
    return fleet_on


@pytest.fixture
async def fleet(cloud: Cloud) -> AsyncIterator[Fleet]:
    running = fleet_on(cloud)
    yield running
    if running.launched:
        running.ec2.terminate_instances(InstanceIds=running.launched)
