"""Drift over a cloud whose instances somebody else really changes: detected, shown, and put right."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from mypy_boto3_ec2 import EC2Client
from mypy_boto3_ec2.type_defs import InstanceTypeDef

from remediator.aws.instance_attributes import METADATA_OPTIONS
from remediator.configuration.drift import (
    fingerprint,
)
from sandbox.process.waiting import wait_until
from tests.remediator.conftest import MAKE_CLIENT, REGION, Api, World, serve, settings_for

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
MANAGED = "bot-orchestrator:managed"


@pytest.fixture
def own_run(tmp_path: Path, own_world: World) -> RunApp:
    """Run the app as `run_app` does, over a cloud of the test's own."""

    def run(**changes: Any) -> AbstractAsyncContextManager[Api]:
        return serve(settings_for(tmp_path / "remediator.db", own_world.cloud, **changes))

    return run


async def drifted(app: Api, name: str) -> dict[str, dict[str, Any]]:
    """Return what differs of the bot by field, as the detector last saw it."""
    report = await app.get("/drift")
    return {
        difference["field"]: difference
        for entry in report["bots"]
        if entry["bot"] == name
        for difference in entry["differences"]
    }


async def until_drifted(app: Api, name: str, *fields: str) -> dict[str, dict[str, Any]]:
    """Wait until the bot differs in exactly these fields; return the differences by field."""

    async def differences() -> Any:
        by_field = await drifted(app, name)
        return (by_field or True) if sorted(by_field) == sorted(fields) else None

    by_field = await wait_until(differences, 60, f"{name} to differ in {fields}")
    return by_field if isinstance(by_field, dict) else {}


async def inspected(app: Api) -> None:
    """Wait until a pass over the fleet that began after now has ended."""

    async def at() -> Any:
        return (await app.get("/drift"))["lookedAt"]

    for _ in range(2):
        before = await at()

        async def later(before: Any = before) -> bool:
            return bool(await at() != before)

        await wait_until(later, 60, "a pass over the fleet")


async def plan(app: Api, name: str) -> list[dict[str, Any]]:
    """Return what a reconciliation would do, without doing it."""
    answer = await app.post(f"/bots/{name}/reconcile", {})
    assert answer.status == 200, answer
    assert answer.body["applied"] is False
    differences: list[dict[str, Any]] = answer.body["plan"]
    return differences


def described(world: World, instance_id: str) -> InstanceTypeDef:
    return world.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


def loosen(world: World, instance_id: str) -> None:
    """Let the instance's metadata be read without a token. All is named, because moto forgets the rest."""
    options: Any = {**METADATA_OPTIONS, "HttpTokens": "optional"}
    world.ec2.modify_instance_metadata_options(InstanceId=instance_id, **options)


def new_group(world: World, name: str) -> str:
    return world.ec2.create_security_group(GroupName=name, Description="of a test")["GroupId"]


async def test_what_somebody_changed_is_seen_shown_and_put_right_without_an_interruption(
    run_app: RunApp, world: World
) -> None:
    name = world.name()
    good, bad = new_group(world, f"{name}-good"), new_group(world, f"{name}-bad")
    async with run_app(drift_interval=0.3, security_group_ids=[good]) as app:
        await app.deployed(name)
        await inspected(app)
        assert await drifted(app, name) == {}
        assert await plan(app, name) == []
        instance_id = await world.instance(name)
        world.ec2.modify_instance_attribute(InstanceId=instance_id, Groups=[bad])
        loosen(world, instance_id)
        world.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "Name", "Value": "mine now"}])
        fields = ("security_groups", "metadata_options", "tags")
        differences = await until_drifted(app, name, *fields)
        assert (differences["security_groups"]["stored"], differences["security_groups"]["real"]) == (
            [good],
            [bad],
        )
        assert differences["metadata_options"]["real"] == {"HttpTokens": "optional"}
        assert differences["tags"]["stored"] == {"Name": f"bot-{name}"}
        for field in fields:
            assert await app.metric(f'bot_config_drift{{bot="{name}",field="{field}"}}') == 1
        board = await app.get("/dashboard")
        assert board["summary"]["drifted"] == 1
        assert [entry["bot"] for entry in board["drift"]["bots"]] == [name]

        offered = await plan(app, name)
        assert sorted(difference["field"] for difference in offered) == sorted(fields)
        assert {difference["disruptive"] for difference in offered} == {False}
        assert described(world, instance_id)["SecurityGroups"][0]["GroupId"] == bad, "a dry run"
        answer = await app.post(f"/bots/{name}/reconcile", {"apply": True, "by": "ada"})
        assert (answer.status, answer.body["deploymentId"]) == (200, None)
        assert {difference["outcome"] for difference in answer.body["plan"]} == {"done"}
        assert await drifted(app, name) == {}, "at once, not at the next pass"
        assert await app.metric(f'bot_config_drift{{bot="{name}",field="tags"}}') is None
        now = described(world, instance_id)
        assert [group["GroupId"] for group in now["SecurityGroups"]] == [good]
        assert now["MetadataOptions"]["HttpTokens"] == "required"
        assert {"Key": "Name", "Value": f"bot-{name}"} in now["Tags"]
        await inspected(app)
        assert await drifted(app, name) == {}
        assert await world.actions(name) == ["run"], "its instance was neither restarted nor replaced"
        entries = await app.get(f"/audit?bot={name}")
    trail = [entry for entry in entries if entry["event"].startswith("reconcile")]
    assert [entry["event"] for entry in trail] == ["reconcile.asked", *["reconcile.done"] * 3]
    assert {entry["actor"] for entry in trail} == {"ada"}
    assert trail[1]["detail"]["was"] == [bad]


async def test_what_cannot_be_changed_in_place_is_put_right_by_a_redeploy(
    run_app: RunApp, world: World
) -> None:
    """Another instance type and other user data: both need it to be stopped, as somebody did."""
    name = world.name()
    async with run_app(drift_interval=0.3) as app:
        await app.deployed(name)
        old = await world.instance(name)
        await inspected(app)
        await until_drifted(app, name)
        world.ec2.stop_instances(InstanceIds=[old])
        differences = await until_drifted(app, name, "instance")
        assert differences["instance"]["real"] in ("stopping", "stopped")

        async def stopped() -> bool:
            return described(world, old)["State"]["Name"] == "stopped"

        await wait_until(stopped, what="stopped")
        world.ec2.modify_instance_attribute(InstanceId=old, InstanceType={"Value": "t3.large"})
        other = base64.b64encode(
            b"#cloud-config\n{}\n"
        )  # EC2 takes the bytes; moto wants them encoded once more
        world.ec2.modify_instance_attribute(InstanceId=old, UserData={"Value": other})
        world.ec2.start_instances(InstanceIds=[old])
        differences = await until_drifted(app, name, "instance_type", "user_data")
        assert (differences["instance_type"]["stored"], differences["instance_type"]["real"]) == (
            "t3.micro",
            "t3.large",
        )
        assert differences["user_data"]["real"] == fingerprint(b"#cloud-config\n{}\n")
        offered = await plan(app, name)
        assert {difference["disruptive"] for difference in offered} == {True}
        answer = await app.post(f"/bots/{name}/reconcile", {"apply": True})
        assert answer.status == 202, answer
        assert {difference["outcome"] for difference in answer.body["plan"]} == {"redeploys"}
        busy = await app.post(f"/bots/{name}/reconcile", {})
        ended = await app.until_ended(answer.headers["Location"])
        assert ended["status"] == "deployed", ended
        assert (busy.status, busy.field) == (409, "bot")
        await inspected(app)
        assert await drifted(app, name) == {}
        versions = await app.get(f"/bots/{name}/versions")
    assert [version["version"] for version in versions] == [1], "the same configuration"
    assert active(world, name) != [old]


def active(world: World, name: str) -> list[str]:
    """Return the ids of the bot's running instances whose role is active."""
    answer = world.ec2.describe_instances(
        Filters=[
            {"Name": "tag:bot-orchestrator:bot", "Values": [name]},
            {"Name": "tag:bot-orchestrator:role", "Values": ["active"]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )
    return [raw["InstanceId"] for group in answer["Reservations"] for raw in group["Instances"]]


async def test_a_bot_that_runs_another_configuration_than_is_registered_is_told(
    own_run: RunApp, own_world: World, tmp_path: Path
) -> None:
    """Somebody wrote another bot.json on the machine, and rebooted it."""
    name = own_world.name()
    async with own_run(drift_interval=0.3) as app:
        await app.deployed(name)
        instance_id = await own_world.instance(name)
        (registered,) = (await app.get("/dashboard"))["registry"]
        written = tmp_path / "cloud" / "machines" / instance_id / "bot.json"
        written.write_text(written.read_text().replace(registered["config_sha"], "0123456789abcdef"))
        own_world.ec2.reboot_instances(InstanceIds=[instance_id])
        differences = await until_drifted(app, name, "config_sha")
        sha = differences["config_sha"]
        assert (sha["stored"], sha["real"]) == (registered["config_sha"], "0123456789abcdef")
        assert sha["disruptive"] is True


async def test_an_instance_that_lost_its_tag_is_never_touched(run_app: RunApp, world: World) -> None:
    name = world.name()
    async with run_app(drift_interval=0.3) as app:
        await app.deployed(name)
        instance_id = await world.instance(name)
        world.ec2.delete_tags(Resources=[instance_id], Tags=[{"Key": MANAGED}])
        loosen(world, instance_id)
        await until_drifted(app, name, "managed")
        answer = await app.post(f"/bots/{name}/reconcile", {"apply": True})
        assert (answer.status, answer.body["deploymentId"]) == (200, None)
        (difference,) = answer.body["plan"]
        assert (difference["field"], difference["outcome"]) == ("managed", "not touched")
        assert described(world, instance_id)["MetadataOptions"]["HttpTokens"] == "optional"
        assert MANAGED not in [tag["Key"] for tag in described(world, instance_id)["Tags"]]
        assert await world.actions(name) == ["run"]
        world.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": MANAGED, "Value": "true"}])
        await until_drifted(app, name, "metadata_options")


async def test_a_fix_that_aws_refuses_is_said_and_the_others_are_made(app: Api, world: World) -> None:
    name = world.name()
    await app.deployed(name)
    instance_id = await world.instance(name)
    loosen(world, instance_id)
    world.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "Name", "Value": "mine now"}])
    refusal: dict[str, Any] = {"code": "UnauthorizedOperation", "message": "You may not."}
    await world.cloud.break_api("ModifyInstanceMetadataOptions", "refuse", **refusal)
    answer = await app.post(f"/bots/{name}/reconcile", {"apply": True})
    outcomes = {difference["field"]: difference["outcome"] for difference in answer.body["plan"]}
    assert outcomes["tags"] == "done"
    assert outcomes["metadata_options"].startswith("failed: ModifyInstanceMetadataOptions: Unauthorized")
    assert list(await drifted(app, name)) == ["metadata_options"]
    await world.cloud.break_api("DescribeInstances", "refuse", **refusal)
    answer = await app.post(f"/bots/{name}/reconcile", {})
    assert (answer.status, answer.field) == (502, "bot")
    assert "UnauthorizedOperation" in answer.body["error"]["message"]


async def test_aws_is_asked_little_and_while_it_cannot_be_asked_what_was_seen_last_stays(
    own_run: RunApp, own_world: World
) -> None:
    """User data takes a call for each instance, so it is read once a launch: nobody notices the refusals."""
    name = own_world.name()
    refusal: dict[str, Any] = {"code": "UnauthorizedOperation", "message": "You may not.", "times": 1000}
    async with own_run(drift_interval=0.2) as app:
        await app.deployed(name)
        await inspected(app)
        await own_world.cloud.break_api("DescribeInstanceAttribute", "refuse", **refusal)
        instance_id = await own_world.instance(name)
        own_world.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "Name", "Value": "mine now"}])
        await until_drifted(app, name, "tags")
        assert (await app.get("/drift"))["problem"] == ""
        await own_world.cloud.break_api("DescribeInstances", "refuse", **refusal)

        async def reason_given() -> bool:
            return "UnauthorizedOperation: You may not." in (await app.get("/drift"))["problem"]

        await wait_until(reason_given, 30, "the reason")
        at = (await app.get("/drift"))["lookedAt"]
        assert list(await drifted(app, name)) == ["tags"]
        assert (await app.get("/drift"))["lookedAt"] == at, "no pass has ended since"


async def test_a_bot_that_is_unknown_or_in_other_hands_is_not_reconciled(app: Api, world: World) -> None:
    name = world.name()
    answer = await app.post("/bots/nobody/reconcile", {})
    assert (answer.status, answer.field) == (404, "bot")
    await world.cloud.break_api("CreateTags", "delay", seconds=1)
    begun = await app.begin_deploy(name)
    answer = await app.post(f"/bots/{name}/reconcile", {"apply": True})
    assert (answer.status, answer.field) == (409, "bot")
    assert (await app.post(f"/bots/{name}/reconcile", {"apply": 1})).status == 422
    assert (await app.until_ended(begun.headers["Location"]))["status"] == "deployed"
    assert (await app.get("/drift")) == {"lookedAt": None, "problem": "", "bots": []}


@mock_aws
def test_what_moto_does_otherwise_than_ec2_with_attributes() -> None:
    """Once it does as EC2: fewer options need be sent, user data need not be encoded twice here, and the
    sandbox need not set the time of a start."""
    ec2: EC2Client = MAKE_CLIENT(boto3.session.Session(region_name=REGION), "ec2")
    image: Any = {"ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1}
    options: Any = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    instance_id = ec2.run_instances(**image, MetadataOptions=options)["Instances"][0]["InstanceId"]

    def description() -> InstanceTypeDef:
        return ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    launched = description()["LaunchTime"]
    ec2.modify_instance_metadata_options(InstanceId=instance_id, HttpEndpoint="enabled")
    assert description()["MetadataOptions"].get("HttpTokens") is None, "it forgets what is not named"
    with pytest.raises(ClientError, match=r"InvalidUserData\.Malformed"):
        ec2.modify_instance_attribute(InstanceId=instance_id, UserData={"Value": b"#cloud-config"})
    ec2.stop_instances(InstanceIds=[instance_id])
    ec2.start_instances(InstanceIds=[instance_id])
    assert description()["LaunchTime"] == launched
