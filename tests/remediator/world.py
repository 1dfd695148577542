"""A cloud in a box, and what tests ask of it directly."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import boto3
from mypy_boto3_ec2 import EC2Client
from mypy_boto3_ssm import SSMClient

from sandbox.cloud.client import Cloud
from sandbox.process.waiting import wait_until

REGION = "us-west-1"
NUMBERS = itertools.count()
MAKE_CLIENT: Any = boto3.session.Session.client


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
        """Return what was done to the bot's instances, in order."""
        return [effect.action for effect in await self.cloud.effects(bot)]

    async def live(self, bot: str) -> list[str]:
        """Return its instances that are not terminated."""
        return [one.instance_id for one in await self.cloud.bots() if one.bot == bot]

    async def instance(self, bot: str) -> str:
        (found,) = await self.live(bot)
        return found

    def deployments(self, bot: str) -> list[str]:
        """Return the tag that says which run launched each of its instances, live or not."""
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
