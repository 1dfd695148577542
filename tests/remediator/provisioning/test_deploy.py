"""Deployments over a cloud: what is launched, where the token goes, and what is left when it fails."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from mypy_boto3_ec2.type_defs import InstanceTypeDef

from remediator.aws.user_data import unpack
from sandbox.cloud.client import CloudError
from sandbox.process.waiting import wait_until
from sandbox.stack.telegram import Telegram
from tests.remediator.conftest import Api, Remediator, World

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]
PLANTED = "8142:AAF-planted-token"


def described(world: World, instance_id: str) -> InstanceTypeDef:
    return world.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


async def test_a_deployment_from_the_request_to_the_registry(app: Api, world: World) -> None:
    bot = world.name()
    answer = await app.begin_deploy(bot, kind="tool-builder")
    assert answer.status == 202
    assert (answer.body["botName"], answer.body["botType"], answer.body["status"]) == (
        bot,
        "tool-builder",
        "running",
    )
    path = f"/deploy/{answer.body['deploymentId']}"
    assert answer.headers["Location"] == path
    deployment = await app.until_ended(path)
    assert deployment["status"] == "deployed"
    assert [(step["name"], step["status"]) for step in deployment["steps"]] == [
        (name, "done") for name in ("token", "image", "launch", "running", "healthy", "registered")
    ]
    assert all(step["startedAt"] <= step["finishedAt"] for step in deployment["steps"])

    instance_id = await world.instance(bot)
    instance = described(world, instance_id)
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    (registered,) = await app.get("/sd")
    assert registered["labels"] == {
        "bot": bot,
        "template": "tool-builder",
        "environment": "staging",
        "instance_id": instance_id,
        "__health_path__": "/health",
        "__mesh_path__": "/mesh",
    }
    async with app.session.get(f"http://{registered['targets'][0]}/mesh") as response:
        told = await response.json()
    (entry,) = (await app.get("/dashboard"))["registry"]
    assert told["config_sha"] == entry["config_sha"] == tags["bot-orchestrator:config-sha"]
    assert tags["bot-orchestrator:managed"] == "true"
    assert tags["bot-orchestrator:bot"] == bot
    assert tags["bot-orchestrator:deployment"] == deployment["deploymentId"]
    assert tags["bot-orchestrator:role"] == "active"
    assert instance["InstanceType"] == "t3.medium"
    volume_id = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    volume = world.ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
    assert (volume["Encrypted"], volume["VolumeType"], volume["Size"]) == (True, "gp3", 20)
    assert {tag["Key"] for tag in volume["Tags"]} >= {"Name", "bot-orchestrator:managed"}
    assert await app.metric('bot_remediation_runs_total{kind="deploy",outcome="deployed"}') == 1
    assert await app.metric("bot_remediator_managed_bots") == 1


async def test_a_bot_is_in_service_discovery_when_it_is_healthy_and_not_before(
    app: Api, world: World
) -> None:
    bot = world.name()
    await world.cloud.break_api("CreateTags", "delay", seconds=1)  # the step after it was found healthy
    answer = await app.begin_deploy(bot)
    path = f"/deploy/{answer.body['deploymentId']}"

    async def registering() -> bool:
        return any(step["name"] == "registered" for step in (await app.get(path))["steps"])

    assert await app.get("/sd") == []
    await wait_until(registering, what="the last step", every=0.01)
    assert await app.get("/sd") == []
    health = await app.get("/health")
    assert (health["managed_bots"], health["active_deployments"]) == (0, 1)
    await app.until_ended(path)
    assert [group["labels"]["bot"] for group in await app.get("/sd")] == [bot]
    health = await app.get("/health")
    assert (health["managed_bots"], health["active_deployments"]) == (1, 0)


GOOD: dict[str, Any] = {
    "botName": "forge",
    "botType": "support",
    "telegramToken": PLANTED,
    "environment": "production",
}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"botName": ...}, "botName"),
        ({"botName": ""}, "botName"),
        ({"botName": "Forge"}, "botName"),
        ({"botName": "-forge"}, "botName"),
        ({"botName": "a" * 64}, "botName"),
        ({"botName": "../etc"}, "botName"),
        ({"botName": "forge\n"}, "botName"),
        ({"botName": 7}, "botName"),
        ({"botType": "nobody"}, "botType"),
        ({"botType": "../support"}, "botType"),
        ({"botType": ...}, "botType"),
        ({"environment": "moon"}, "environment"),
        ({"environment": ...}, "environment"),
        ({"telegramToken": ...}, "telegramToken"),
        ({"telegramToken": ""}, "telegramToken"),
        ({"telegramToken": f"{PLANTED} x"}, "telegramToken"),
        ({"telegramToken": f"{PLANTED}\n"}, "telegramToken"),
        ({"telegramToken": PLANTED * 20}, "telegramToken"),
        ({"telegramToken": [PLANTED]}, "telegramToken"),
        ({"colour": "red"}, "colour"),
        ({"bot_name": "forge"}, "bot_name"),
    ],
)
async def test_a_wrong_request_is_refused_by_field_and_does_not_say_the_token(
    app: Api, changes: dict[str, Any], field: str
) -> None:
    body = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    answer = await app.post("/deploy", body)
    assert (answer.status, answer.field) == (422, field)
    assert answer.body["error"]["remedy"]
    assert PLANTED not in json.dumps(answer.body)
    assert (await app.get("/health"))["active_deployments"] == 0


async def test_a_name_that_is_taken_is_refused_while_it_is_deployed_and_after(app: Api, world: World) -> None:
    bot = world.name()
    answers = await asyncio.gather(*(app.begin_deploy(bot) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [202, 409, 409, 409]
    assert {answer.field for answer in answers if answer.status == 409} == {"botName"}
    (run_id,) = [answer.body["deploymentId"] for answer in answers if answer.status == 202]
    assert (await app.post(f"/recover/{bot}", {"method": "restart"})).status == 409
    await app.until_ended(f"/deploy/{run_id}")
    assert (await app.begin_deploy(bot)).status == 409
    assert await world.actions(bot) == ["run"]


async def test_the_token_is_in_ssm_as_a_secure_string_and_nowhere_else(
    run_remediator: RunRemediator, world: World, telegram: Telegram, tmp_path: Path
) -> None:
    """Searched for in all that the process writes or says, through success, refusals and a failure of AWS."""
    bot, refused = world.names(2)
    people: Any = {"telegram_api_url": telegram.url, "telegram_token": "7:people", "telegram_chat_id": "1"}
    async with run_remediator(world.cloud, log_level="debug", **people) as remediator:
        api = remediator.api
        outputs: list[Any] = [(await api.begin_deploy(bot, PLANTED)).body]
        outputs.append(await api.until_ended(f"/deploy/{outputs[0]['deploymentId']}"))
        outputs.append((await api.begin_deploy(bot, PLANTED)).body)
        quoting: dict[str, Any] = {
            "code": "ValidationException",
            "message": f"Value {PLANTED} at 'value' is wrong",
        }
        await world.cloud.break_api("PutParameter", "refuse", **quoting)
        answer = await api.begin_deploy(refused, PLANTED)
        assert (answer.status, answer.field) == (502, "telegramToken")
        assert "ValidationException: Value ******** at 'value' is wrong" in answer.body["error"]["message"]
        outputs.append(answer.body)
        await wait_until(lambda: free(api, refused), what="the name free again")
        outputs += [
            await api.get(path) for path in ("/dashboard", "/audit", "/metrics", "/sd", "/openapi.json")
        ]
        outputs += [message.text for message in telegram.messages]
        await wait_until(lambda: two_messages(telegram), what="the messages")
        instance = described(world, await world.instance(bot))
        attribute = world.ec2.describe_instance_attribute(
            InstanceId=instance["InstanceId"], Attribute="userData"
        )
        user_data = unpack(base64.b64decode(attribute["UserData"]["Value"]))
        assert "telegram-token" in user_data
        assert remediator.process.pid is not None
        command = Path(f"/proc/{remediator.process.pid}/cmdline").read_bytes()
    files = [path for path in tmp_path.iterdir() if path.is_file() and path.name.startswith("remediator")]
    assert {path.name for path in files} >= {"remediator.db", "remediator.log"}
    for output in [*(path.read_bytes() for path in files), user_data, instance["Tags"], command, outputs]:
        assert PLANTED not in (output.decode(errors="replace") if isinstance(output, bytes) else str(output))
    parameter = world.ssm.get_parameter(Name=f"/bots/{bot}/telegram-token", WithDecryption=True)["Parameter"]
    assert (parameter["Type"], parameter["Value"]) == ("SecureString", PLANTED)


async def free(api: Api, bot: str) -> bool:
    """Return whether nothing is registered under the name."""
    return bot not in [entry["bot"] for entry in (await api.get("/dashboard"))["registry"]]


async def two_messages(telegram: Telegram) -> bool:
    return len(telegram.messages) == 2


async def test_a_bot_that_is_never_well_is_taken_away_again_and_people_hear_why(
    run_app: RunApp, world: World, telegram: Telegram
) -> None:
    bot = world.name()
    people: Any = {"telegram_api_url": telegram.url, "telegram_token": "7:people", "telegram_chat_id": "1"}
    async with run_app(redeploy_timeout=1.5, **people) as app:
        answer = await app.begin_deploy(bot)
        path = f"/deploy/{answer.body['deploymentId']}"
        await wait_until(lambda: incurable(world, bot), what="the fault", every=0.01)
        deployment = await app.until_ended(path)
        assert deployment["status"] == "failed"
        assert deployment["reason"].startswith("not healthy in 2 s: /health: http_status: answered 500")
        assert deployment["reason"].endswith("; what was launched was terminated")
        assert [(step["name"], step["status"]) for step in deployment["steps"]][-3:] == [
            ("healthy", "failed"),
            ("clean up", "done"),
            ("forget token", "done"),
        ]
        assert await world.live(bot) == []
        assert not world.has_token(bot)
        assert await app.get("/sd") == []
        await wait_until(lambda: messages(telegram), what="the message")
        assert telegram.messages[0].text.startswith(f"❌ {bot} could not be deployed: not healthy")
        await world.cloud.heal()
    async with run_app(**people) as app:
        await app.deployed(bot)
        assert await app.metric('bot_remediation_runs_total{kind="deploy",outcome="failed"}') == 0


async def messages(telegram: Telegram) -> bool:
    return bool(telegram.messages)


async def incurable(world: World, bot: str) -> bool:
    """Make the bot ill as soon as its instance has booted, before three probes of it can be good."""
    try:
        await world.cloud.fault(bot, "error", cured_by="nothing")
    except CloudError:
        return False
    return True


@pytest.mark.parametrize(
    ("call", "code", "done"),
    [
        ("RunInstances", "UnauthorizedOperation", []),
        ("CreateTags", "UnauthorizedOperation", ["run", "terminate"]),
    ],
)
async def test_a_refusal_of_aws_fails_the_deployment_and_leaves_nothing(
    app: Api, world: World, call: str, code: str, done: list[str]
) -> None:
    bot = world.name()
    await world.cloud.break_api(call, "refuse", code=code, message="You may not.")
    answer = await app.begin_deploy(bot)
    deployment = await app.until_ended(f"/deploy/{answer.body['deploymentId']}")
    assert deployment["status"] == "failed"
    assert f"{call}: {code}: You may not." in deployment["reason"]
    assert await world.actions(bot) == done
    assert await world.live(bot) == []
    assert not world.has_token(bot)
    await app.deployed(bot)


async def test_an_image_may_be_named_by_a_public_parameter(run_app: RunApp, world: World) -> None:
    bot = world.name()
    name = f"/images/{bot}"
    world.ssm.put_parameter(Name=name, Value="ami-0feed", Type="String")
    async with run_app(ami=name) as app:
        await app.deployed(bot)
    assert described(world, await world.instance(bot))["ImageId"] == "ami-0feed"


async def test_a_graviton_bot_gets_the_image_of_its_architecture(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app(ami="ami-0feed", ami_arm64="ami-0a64") as app:
        wish = {**GOOD, "botName": bot, "overrides": {"instance_type": "t4g.small"}}
        began = await app.post("/deploy", wish)
        assert began.status == 202, began
        ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
        assert ended["status"] == "deployed", ended
    instance = described(world, await world.instance(bot))
    assert (instance["ImageId"], instance["InstanceType"]) == ("ami-0a64", "t4g.small")


async def test_an_unknown_deployment_is_a_404_by_field(app: Api, world: World) -> None:
    answer = await app.call("GET", "/deploy/dep-nowhere")
    assert (answer.status, answer.field) == (404, "deploymentId")
    bot = world.name()
    await app.deployed(bot)
    run = await app.recover(bot)
    answer = await app.call("GET", f"/deploy/{run['recoveryId']}")
    assert (answer.status, answer.field) == (404, "deploymentId"), "a recovery is no deployment"
