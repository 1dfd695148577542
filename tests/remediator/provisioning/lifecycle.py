"""Instances that others launched, adoptions and retirements, as tests ask for them."""

from __future__ import annotations

import json
from typing import Any

import yaml

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import Answer, Api, World

DENIED: dict[str, Any] = {"code": "UnauthorizedOperation", "message": "You are not authorized."}


def run_by_hand(world: World, bot: str, **tags: str) -> str:
    """Launch an instance without us; return its id."""
    files = [{"path": "/etc/bot/bot.json", "content": json.dumps({"bot": bot, "port": 18790})}]
    tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
    request: Any = {"TagSpecifications": [{"ResourceType": "instance", "Tags": tagged}]} if tagged else {}
    answer = world.ec2.run_instances(
        ImageId="ami-0abc",
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
        UserData="#cloud-config\n" + yaml.safe_dump({"write_files": files}),
        **request,
    )
    return answer["Instances"][0]["InstanceId"]


async def until_up(world: World, instance_id: str) -> None:
    """Wait until the bot on the instance runs."""

    async def up() -> bool:
        machines = await world.cloud.bots()
        return any(machine.instance_id == instance_id and machine.pid for machine in machines)

    await wait_until(up, what=f"{instance_id} up")


def tags_of(world: World, id_: str) -> dict[str, str]:
    tags = world.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [id_]}])["Tags"]
    return {tag.get("Key", ""): tag.get("Value", "") for tag in tags}


def snapshots(world: World, bot: str) -> list[Any]:
    filters: Any = [{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}]
    return list(world.ec2.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"])


def volumes(world: World, bot: str) -> list[Any]:
    filters: Any = [{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}]
    return list(world.ec2.describe_volumes(Filters=filters)["Volumes"])


async def adopt(app: Api, bot: str, instance_id: str, **more: Any) -> Answer:
    """Ask for the adoption of an instance."""
    request = {"botName": bot, "botType": "support", "environment": "staging", "instanceId": instance_id}
    return await app.post("/bots", request | more)


async def retire(app: Api, bot: str, query: str = "") -> Any:
    """Retire the bot; return how the run ended."""
    answer = await app.call("DELETE", f"/bots/{bot}{query}")
    assert answer.status == 202, answer
    return await app.until_ended(f"/deploy/{answer.body['deploymentId']}")
