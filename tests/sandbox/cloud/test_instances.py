"""EC2 as the sandbox's cloud speaks it, asked by the real client."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

if TYPE_CHECKING:
    from tests.sandbox.conftest import Fleet


def error_code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


async def test_an_instance_is_pending_until_it_has_booted(fleet: Fleet, booting: Fleet) -> None:
    pending = booting.ec2.run_instances(**booting.request("slow"))["Instances"][0]
    assert pending["State"]["Name"] == "pending"
    assert booting.state(pending["InstanceId"]) == "pending"
    assert (await booting.bot("slow")).pid is None
    await fleet.until_state(fleet.run(fleet.request("quick")), "running")


async def test_an_instance_terminated_while_pending_never_runs(booting: Fleet) -> None:
    instance_id = booting.run(booting.request("short-lived"))
    booting.ec2.terminate_instances(InstanceIds=[instance_id])
    assert booting.state(instance_id) == "terminated"
    assert "short-lived" not in [bot.bot for bot in await booting.cloud.bots()]


async def test_the_address_of_the_bot_is_the_address_of_the_instance(fleet: Fleet) -> None:
    bot = await fleet.launch()
    described = fleet.describe(bot.instance_id)
    assert f"{described['PrivateIpAddress']}:18790" == bot.address
    assert described["PublicIpAddress"] == described["PrivateIpAddress"]
    assert described["NetworkInterfaces"][0]["PrivateIpAddress"] == described["PrivateIpAddress"]
    first, second = (int(part) for part in bot.address.split(".")[:2])
    assert first == 127
    assert second > 1


async def test_the_same_client_token_runs_one_instance(fleet: Fleet) -> None:
    request = fleet.request("twin", ClientToken="once")
    first, second = fleet.run(request), fleet.run(request)
    assert first == second
    assert await fleet.actions("twin") == ["run"]
    answer = fleet.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["once"]}])
    assert [i["InstanceId"] for r in answer["Reservations"] for i in r["Instances"]] == [first]
    none = fleet.ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["never"]}])
    assert none["Reservations"] == []


async def test_a_client_token_with_other_parameters_is_refused(fleet: Fleet) -> None:
    request = fleet.request("changeling", ClientToken="changed")
    fleet.run(request)
    with pytest.raises(ClientError) as error:
        fleet.ec2.run_instances(**{**request, "InstanceType": "t3.large"})
    assert error_code(error) == "IdempotentParameterMismatch"


async def test_a_client_token_of_a_terminated_instance_is_refused(fleet: Fleet) -> None:
    request = fleet.request("gone", ClientToken="gone")
    fleet.ec2.terminate_instances(InstanceIds=[fleet.run(request)])
    with pytest.raises(ClientError) as error:
        fleet.ec2.run_instances(**request)
    assert error_code(error) == "IdempotentInstanceTerminated"


async def test_a_terminated_instance_can_be_neither_rebooted_nor_stopped_nor_started(fleet: Fleet) -> None:
    bot = await fleet.launch()
    ids = [bot.instance_id]
    assert fleet.ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
    for call in (fleet.ec2.reboot_instances, fleet.ec2.stop_instances, fleet.ec2.start_instances):
        with pytest.raises(ClientError) as error:
            call(InstanceIds=ids)
        assert error_code(error) == "IncorrectInstanceState"
    assert fleet.ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
    assert fleet.state(bot.instance_id) == "terminated"
    assert await fleet.actions(bot.bot) == ["run", "terminate"]
    assert bot.bot not in [other.bot for other in await fleet.cloud.bots()]


async def test_a_pending_or_stopped_instance_cannot_be_rebooted(fleet: Fleet, booting: Fleet) -> None:
    pending = booting.run(booting.request("hasty"))
    stopped = (await fleet.launch()).instance_id
    fleet.ec2.stop_instances(InstanceIds=[stopped])
    await fleet.until_state(stopped, "stopped")
    for ec2, instance_id in ((booting.ec2, pending), (fleet.ec2, stopped)):
        with pytest.raises(ClientError) as error:
            ec2.reboot_instances(InstanceIds=[instance_id])
        assert error_code(error) == "IncorrectInstanceState"


async def test_an_unknown_instance_is_not_found(fleet: Fleet) -> None:
    for call in (fleet.ec2.reboot_instances, fleet.ec2.stop_instances, fleet.ec2.terminate_instances):
        with pytest.raises(ClientError) as error:
            call(InstanceIds=["i-00000000000000000"])
        assert error_code(error) == "InvalidInstanceID.NotFound"


async def test_stop_kills_the_bot_and_start_boots_it_again(fleet: Fleet) -> None:
    bot = await fleet.launch()
    fleet.ec2.stop_instances(InstanceIds=[bot.instance_id])
    await fleet.until_state(bot.instance_id, "stopped")
    assert (await fleet.bot(bot.bot)).pid is None
    fleet.ec2.start_instances(InstanceIds=[bot.instance_id])
    health = await fleet.until_well(bot.bot)
    assert health["boot_id"] != bot.boot_id
    assert (await fleet.bot(bot.bot)).address == bot.address
    assert await fleet.actions(bot.bot) == ["run", "stop", "start"]


@pytest.mark.parametrize(
    "user_data",
    [
        "",
        "#!/bin/sh\ntrue\n",
        b"\x1f\x8b\xff",
        "#cloud-config\nruncmd: [true]\n",
        "#cloud-config\n: [",
        "#cloud-config\n7",
        "#cloud-config\nwrite_files: [{path: /etc/bot/bot.json, content: '[]'}]",
        '#cloud-config\nwrite_files: [{path: /etc/bot/bot.json, content: \'{"port": "x"}\'}]',
    ],
)
async def test_an_instance_without_a_bot_boots_and_runs_none(fleet: Fleet, user_data: str | bytes) -> None:
    before = await fleet.cloud.bots()
    instance_id = fleet.run(fleet.request("none", UserData=user_data))
    await fleet.until_state(instance_id, "running")
    assert await fleet.cloud.bots() == before


async def test_a_unit_file_may_be_in_base64(fleet: Fleet) -> None:
    content = base64.b64encode(b'{"bot": "encoded", "port": 18790}').decode()
    files = f"[{{path: /etc/bot/bot.json, encoding: b64, content: {content}}}]"
    fleet.run(fleet.request("", UserData=f"#cloud-config\nwrite_files: {files}\n"))
    assert (await fleet.until_well("encoded"))["ok"] is True


async def test_tags_of_the_launch_are_found_by_filter(fleet: Fleet) -> None:
    tags = [{"Key": "bot-orchestrator:bot", "Value": "tagged"}]
    tagged = fleet.run(
        fleet.request("tagged", TagSpecifications=[{"ResourceType": "instance", "Tags": tags}])
    )
    answer = fleet.ec2.describe_instances(
        Filters=[{"Name": "tag:bot-orchestrator:bot", "Values": ["tagged"]}]
    )
    assert [i["InstanceId"] for r in answer["Reservations"] for i in r["Instances"]] == [tagged]


async def test_a_refused_call_does_nothing_and_says_the_code(fleet: Fleet) -> None:
    await fleet.cloud.break_api("RunInstances", "refuse", code="UnauthorizedOperation", message="not you")
    with pytest.raises(ClientError, match="not you") as error:
        fleet.ec2.run_instances(**fleet.request("refused"))
    assert error_code(error) == "UnauthorizedOperation"
    assert await fleet.actions("refused") == []
    fleet.run(fleet.request("refused"))
    assert await fleet.actions("refused") == ["run"]


async def test_a_server_error_has_the_status_of_one(fleet: Fleet) -> None:
    await fleet.cloud.break_api("DescribeInstances", "refuse", times=2)
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            fleet.ec2.describe_instances()
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    fleet.ec2.describe_instances()


async def test_a_lost_answer_was_done_and_the_token_finds_it(fleet: Fleet) -> None:
    request = fleet.request("unheard", ClientToken="unheard")
    await fleet.cloud.break_api("RunInstances", "lose_answer")
    with pytest.raises(ConnectionClosedError):
        fleet.ec2.run_instances(**request)
    assert await fleet.actions("unheard") == ["run"]
    fleet.run(request)
    assert await fleet.actions("unheard") == ["run"]


async def test_a_delayed_call_is_done_in_the_end(fleet: Fleet) -> None:
    await fleet.cloud.break_api("RunInstances", "delay", seconds=0.1)
    fleet.run(fleet.request("late"))
    assert await fleet.actions("late") == ["run"]


async def test_what_is_terminated_is_shown_until_it_is_forgotten(fleet: Fleet) -> None:
    gone, stays = await fleet.launch(), await fleet.launch()
    fleet.ec2.terminate_instances(InstanceIds=[gone.instance_id])
    await fleet.until_state(gone.instance_id, "terminated")
    await fleet.cloud.forget()
    fleet.launched.remove(gone.instance_id)
    reservations = fleet.ec2.describe_instances()["Reservations"]
    ids = [reservation["Instances"][0]["InstanceId"] for reservation in reservations]
    assert gone.instance_id not in ids
    assert stays.instance_id in ids
    assert (await fleet.actions(gone.bot), await fleet.actions(stays.bot)) == (["run", "terminate"], ["run"])
