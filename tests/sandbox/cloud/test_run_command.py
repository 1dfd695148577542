"""Systems Manager as the sandbox's cloud speaks it: commands run, and say how they ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from remediator.aws.ssm_commands import PAIRING
from sandbox.process.waiting import wait_until

if TYPE_CHECKING:
    from tests.sandbox.conftest import Fleet


def error_code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


async def test_a_restart_that_works_is_a_success_with_code_0(fleet: Fleet) -> None:
    bot = await fleet.launch()
    ended = await fleet.restart(bot.instance_id)
    assert (ended["Status"], ended["ResponseCode"], ended["StandardErrorContent"]) == ("Success", 0, "")
    assert await fleet.actions(bot.bot) == ["run", "restart"]


async def test_a_restart_of_a_bot_that_cannot_start_fails(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.fault(bot.bot, "die", cured_by="reboot")
    ended = await fleet.restart(bot.instance_id)
    assert (ended["Status"], ended["ResponseCode"]) == ("Failed", 1)
    assert "Job for bot.service failed" in ended["StandardErrorContent"]


async def test_a_restart_where_there_is_no_bot_fails_with_code_5(fleet: Fleet) -> None:
    instance_id = fleet.run(fleet.request("", UserData=""))
    await fleet.until_state(instance_id, "running")
    ended = await fleet.restart(instance_id)
    assert (ended["Status"], ended["ResponseCode"]) == ("Failed", 5)


async def test_a_script_that_is_no_restart_is_not_found(fleet: Fleet) -> None:
    bot = await fleet.launch()
    step = {"action": "aws:runShellScript", "name": "rm", "inputs": {"runCommand": ["rm -rf /"]}}
    content = json.dumps({"schemaVersion": "2.2", "mainSteps": [step]})
    fleet.ssm.create_document(Name="Else", Content=content, DocumentType="Command")
    sent = fleet.ssm.send_command(DocumentName="Else", InstanceIds=[bot.instance_id])
    waiter = fleet.ssm.get_waiter("command_executed")
    with pytest.raises(Exception, match="Failed"):
        waiter.wait(
            CommandId=sent["Command"]["CommandId"],
            InstanceId=bot.instance_id,
            WaiterConfig={"Delay": 0, "MaxAttempts": 100},
        )


async def paired(fleet: Fleet, instance_id: str, **parameters: list[str]) -> dict[str, Any]:
    """Run the document of the remediator; return how it ended."""
    sent = fleet.ssm.send_command(
        DocumentName=PAIRING.name, InstanceIds=[instance_id], Parameters=parameters
    )["Command"]

    async def ended() -> dict[str, Any] | None:
        answer: Any = fleet.ssm.get_command_invocation(CommandId=sent["CommandId"], InstanceId=instance_id)
        return answer if answer["Status"] in ("Success", "Failed") else None

    return await wait_until(ended)


async def test_who_wrote_to_a_bot_is_listed_and_admitted_by_the_remediators_document(fleet: Fleet) -> None:
    bot = await fleet.launch()
    fleet.ssm.create_document(Name=PAIRING.name, Content=PAIRING.content, DocumentType="Command")
    code = await fleet.cloud.ask_to_pair(bot.bot, 123456789, "Jo")
    listed = json.loads((await paired(fleet, bot.instance_id))["StandardOutputContent"])
    assert [(entry["id"], entry["code"]) for entry in listed["requests"]] == [("123456789", code)]
    ended = await paired(fleet, bot.instance_id, code=[code])
    assert (ended["ResponseCode"], ended["StandardOutputContent"]) == (
        1,
        "Approved telegram sender 123456789.\n",
    )
    assert json.loads((await paired(fleet, bot.instance_id))["StandardOutputContent"])["requests"] == []
    ended = await paired(fleet, bot.instance_id, code=[code])
    assert "No pending pairing request" in ended["StandardErrorContent"]
    for parameters in ({"code": ["$(reboot)"]}, {"line": ["x"]}):
        with pytest.raises(ClientError) as error:
            await paired(fleet, bot.instance_id, **parameters)
        assert error_code(error) == "InvalidParameters"


async def test_a_command_is_found_again_by_instance_and_comment(fleet: Fleet) -> None:
    bot = await fleet.launch()
    first, second = (fleet.send_restart(bot.instance_id, comment) for comment in ("attempt-1", "attempt-2"))
    commands = fleet.ssm.list_commands(InstanceId=bot.instance_id)["Commands"]
    assert [(c["CommandId"], c["Comment"]) for c in commands] == [(second, "attempt-2"), (first, "attempt-1")]
    assert commands[0]["InstanceIds"] == [bot.instance_id]


async def test_an_unknown_document_is_an_invalid_document(fleet: Fleet) -> None:
    bot = await fleet.launch()
    with pytest.raises(ClientError) as error:
        fleet.ssm.send_command(DocumentName="Unwritten", InstanceIds=[bot.instance_id])
    assert error_code(error) == "InvalidDocument"


async def test_an_instance_that_is_unknown_stopped_or_gone_takes_no_command(fleet: Fleet) -> None:
    gone, stopped = (await fleet.launch()).instance_id, (await fleet.launch()).instance_id
    fleet.ec2.stop_instances(InstanceIds=[stopped])
    await fleet.until_state(stopped, "stopped")
    fleet.ec2.terminate_instances(InstanceIds=[gone])
    for instance_id in (stopped, gone, "i-00000000000000000"):
        with pytest.raises(ClientError) as error:
            fleet.send_restart(instance_id)
        assert error_code(error) == "InvalidInstanceId"


async def test_an_instance_that_has_not_booted_takes_no_command(booting: Fleet) -> None:
    pending = booting.run(booting.request("pending"))
    assert ping(booting, pending) is None
    with pytest.raises(ClientError) as error:
        booting.send_restart(pending)
    assert error_code(error) == "InvalidInstanceId"


async def test_an_unknown_invocation_does_not_exist(fleet: Fleet) -> None:
    with pytest.raises(ClientError) as error:
        fleet.ssm.get_command_invocation(
            CommandId="00000000-0000-0000-0000-000000000000", InstanceId="i-00000000000000000"
        )
    assert error_code(error) == "InvocationDoesNotExist"


async def test_the_agent_is_online_once_booted_and_lost_while_stopped(fleet: Fleet) -> None:
    instance_id = fleet.run(fleet.request("agent"))
    await fleet.until_state(instance_id, "running")
    await wait_until(lambda: online(fleet, instance_id))
    fleet.ec2.stop_instances(InstanceIds=[instance_id])
    await fleet.until_state(instance_id, "stopped")
    assert ping(fleet, instance_id) == "ConnectionLost"
    fleet.ec2.terminate_instances(InstanceIds=[instance_id])
    assert ping(fleet, instance_id) is None


async def online(fleet: Fleet, instance_id: str) -> bool:
    return ping(fleet, instance_id) == "Online"


def ping(fleet: Fleet, instance_id: str) -> str | None:
    reports = fleet.ssm.describe_instance_information(
        Filters=[{"Key": "InstanceIds", "Values": [instance_id]}]
    )["InstanceInformationList"]
    return reports[0]["PingStatus"] if reports else None


async def test_a_secret_is_kept_as_a_secure_string(fleet: Fleet) -> None:
    fleet.ssm.put_parameter(Name="/bots/forge/telegram", Type="SecureString", Value="1:secret")
    plain = fleet.ssm.get_parameter(Name="/bots/forge/telegram", WithDecryption=True)["Parameter"]
    assert (plain["Type"], plain["Value"]) == ("SecureString", "1:secret")
    assert fleet.ssm.get_parameter(Name="/bots/forge/telegram")["Parameter"]["Value"] != "1:secret"


async def test_the_public_parameter_of_ubuntu_names_an_image(fleet: Fleet) -> None:
    name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
    image = fleet.ssm.get_parameter(Name=name)["Parameter"]["Value"]
    assert fleet.ec2.describe_images(ImageIds=[image])["Images"]


async def test_a_lost_answer_to_a_restart_was_done_and_is_in_the_list(fleet: Fleet) -> None:
    bot = await fleet.launch()
    await fleet.cloud.break_api("SendCommand", "lose_answer")
    with pytest.raises(Exception, match="Connection was closed"):
        fleet.send_restart(bot.instance_id, "attempt-7")
    (command,) = fleet.ssm.list_commands(InstanceId=bot.instance_id)["Commands"]
    assert command["Comment"] == "attempt-7"
