"""Elastic IPs that reach a bot, and what stopping and snapshots are like: asked by the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from botocore.exceptions import ClientError

from sandbox.process.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.cloud.client import SandboxBot
    from tests.sandbox.conftest import Fleet

RESET = ("ServerDisconnectedError", "ClientOSError", "ClientConnectorError")  # as the kernel has it timed


@pytest.fixture
async def elastic(fleet: Fleet) -> AsyncIterator[dict[str, Any]]:
    """Allocate an Elastic IP, and release it again."""
    made: Any = fleet.ec2.allocate_address(Domain="vpc")
    yield made
    for address in fleet.ec2.describe_addresses(AllocationIds=[made["AllocationId"]])["Addresses"]:
        if "AssociationId" in address:
            fleet.ec2.disassociate_address(AssociationId=address["AssociationId"])
    fleet.ec2.release_address(AllocationId=made["AllocationId"])


async def boot_id_at(address: str) -> str:
    """Return the boot_id of the bot that is reached there, or the name of the error."""
    patience = aiohttp.ClientTimeout(total=5)
    try:
        async with (
            aiohttp.ClientSession(timeout=patience) as session,
            session.get(f"http://{address}:18790/mesh") as response,
        ):
            boot_id: str = (await response.json())["boot_id"]
            return boot_id
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


def give(fleet: Fleet, elastic: dict[str, Any], bot: SandboxBot) -> None:
    fleet.ec2.associate_address(AllocationId=elastic["AllocationId"], InstanceId=bot.instance_id)


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


async def test_an_elastic_ip_reaches_the_instance_and_moves_to_another(
    fleet: Fleet, elastic: dict[str, Any]
) -> None:
    blue, green = await fleet.launch(), await fleet.launch()
    assert await boot_id_at(elastic["PublicIp"]) == "ClientConnectorError"
    for bot, other in ((blue, green), (green, blue)):
        give(fleet, elastic, bot)
        assert await boot_id_at(elastic["PublicIp"]) == bot.boot_id
        assert fleet.describe(bot.instance_id)["PublicIpAddress"] == elastic["PublicIp"]
        assert fleet.describe(bot.instance_id)["PrivateIpAddress"] == bot.address.partition(":")[0]
        assert f"{fleet.describe(other.instance_id)['PublicIpAddress']}:18790" == other.address
    (address,) = fleet.ec2.describe_addresses(AllocationIds=[elastic["AllocationId"]])["Addresses"]
    assert (address.get("InstanceId"), address.get("PublicIp")) == (green.instance_id, elastic["PublicIp"])


async def test_a_connection_through_an_elastic_ip_is_cut_when_it_moves(
    fleet: Fleet, elastic: dict[str, Any]
) -> None:
    blue, green = await fleet.launch(), await fleet.launch()
    give(fleet, elastic, blue)
    url = f"http://{elastic['PublicIp']}:18790/mesh"
    async with aiohttp.ClientSession() as session:  # keeps its connection alive
        for bot in (blue, green):
            async with session.get(url) as response:
                assert (await response.json())["boot_id"] == bot.boot_id
            give(fleet, elastic, green)


async def test_it_does_not_move_where_that_is_not_allowed(fleet: Fleet, elastic: dict[str, Any]) -> None:
    blue, green = await fleet.launch(), await fleet.launch()
    give(fleet, elastic, blue)
    with pytest.raises(ClientError) as error:
        fleet.ec2.associate_address(
            AllocationId=elastic["AllocationId"], InstanceId=green.instance_id, AllowReassociation=False
        )
    assert code(error) == "Resource.AlreadyAssociated"
    assert await boot_id_at(elastic["PublicIp"]) == blue.boot_id


async def test_a_bot_that_is_dead_is_not_reached_and_one_that_hangs_does_not_answer(
    fleet: Fleet, elastic: dict[str, Any]
) -> None:
    bot = await fleet.launch()
    give(fleet, elastic, bot)
    await fleet.cloud.fault(bot.bot, "die")
    assert await boot_id_at(elastic["PublicIp"]) in RESET
    await fleet.cloud.heal(bot.bot)
    await fleet.until_well(bot.bot)
    assert await boot_id_at(elastic["PublicIp"]) == bot.boot_id


async def test_a_stopped_instance_keeps_its_address_and_a_terminated_one_loses_it(
    fleet: Fleet, elastic: dict[str, Any]
) -> None:
    bot = await fleet.launch()
    give(fleet, elastic, bot)
    fleet.ec2.stop_instances(InstanceIds=[bot.instance_id])
    await fleet.until_state(bot.instance_id, "stopped")
    assert await boot_id_at(elastic["PublicIp"]) in RESET
    assert fleet.describe(bot.instance_id)["PublicIpAddress"] == elastic["PublicIp"]
    fleet.ec2.start_instances(InstanceIds=[bot.instance_id])
    told = await fleet.until_well(bot.bot)
    assert await boot_id_at(elastic["PublicIp"]) == told["boot_id"] != bot.boot_id
    fleet.ec2.terminate_instances(InstanceIds=[bot.instance_id])
    assert await boot_id_at(elastic["PublicIp"]) == "ClientConnectorError"
    (address,) = fleet.ec2.describe_addresses(AllocationIds=[elastic["AllocationId"]])["Addresses"]
    assert not address.get("InstanceId")


async def test_an_address_in_use_is_not_released_and_a_pending_instance_gets_none(
    fleet: Fleet, booting: Fleet, elastic: dict[str, Any]
) -> None:
    give(fleet, elastic, await fleet.launch())
    with pytest.raises(ClientError) as error:
        fleet.ec2.release_address(AllocationId=elastic["AllocationId"])
    assert code(error) == "InvalidIPAddress.InUse"
    pending = booting.run(booting.request("early"))
    other = booting.ec2.allocate_address(Domain="vpc")["AllocationId"]
    with pytest.raises(ClientError) as error:
        booting.ec2.associate_address(AllocationId=other, InstanceId=pending)
    assert code(error) == "InvalidInstanceID"
    booting.ec2.release_address(AllocationId=other)


async def test_an_instance_has_one_elastic_ip_and_then_its_own_address_again(
    fleet: Fleet, elastic: dict[str, Any]
) -> None:
    bot = await fleet.launch()
    give(fleet, elastic, bot)
    second = fleet.ec2.allocate_address(Domain="vpc")
    association = fleet.ec2.associate_address(AllocationId=second["AllocationId"], InstanceId=bot.instance_id)
    assert await boot_id_at(second["PublicIp"]) == bot.boot_id
    assert await boot_id_at(elastic["PublicIp"]) == "ClientConnectorError"
    fleet.ec2.disassociate_address(AssociationId=association["AssociationId"])
    assert f"{fleet.describe(bot.instance_id)['PublicIpAddress']}:18790" == bot.address
    fleet.ec2.release_address(AllocationId=second["AllocationId"])


async def test_a_bot_lives_until_its_instance_is_stopped(fleet: Fleet) -> None:
    """To be sure that the bot is gone one has to wait for `stopped`: `stopping` is not enough."""
    bot = await fleet.launch()
    answer = fleet.ec2.stop_instances(InstanceIds=[bot.instance_id])["StoppingInstances"][0]
    assert answer["CurrentState"]["Name"] == "stopping"
    await fleet.until_state(bot.instance_id, "stopped")
    assert (await fleet.bot(bot.bot)).pid is None
    again = fleet.ec2.stop_instances(InstanceIds=[bot.instance_id])["StoppingInstances"][0]
    assert again["InstanceId"] == bot.instance_id
    assert await fleet.actions(bot.bot) == ["run", "stop"]


async def test_a_snapshot_is_pending_and_then_completed_and_found_by_its_tag(
    fleet: Fleet, booting: Fleet
) -> None:
    async def completed() -> bool:
        (snapshot,) = fleet.ec2.describe_snapshots(Filters=[{"Name": "tag:run", "Values": ["ret-1"]}])[
            "Snapshots"
        ]
        return snapshot["SnapshotId"] == made["SnapshotId"] and snapshot["State"] == "completed"

    tags: Any = [{"ResourceType": "snapshot", "Tags": [{"Key": "run", "Value": "ret-1"}]}]
    bot = await fleet.launch()
    volume = fleet.describe(bot.instance_id)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    made = fleet.ec2.create_snapshot(VolumeId=volume, TagSpecifications=tags)
    await wait_until(completed, what="the snapshot")
    slow = booting.run(booting.request("slow-disk"))
    volume = booting.describe(slow)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert booting.ec2.create_snapshot(VolumeId=volume)["State"] == "pending"
