"""What a bot was declared to be and what it really is: compared, shown, and put right."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from mypy_boto3_ec2 import EC2Client
from mypy_boto3_ec2.type_defs import InstanceTypeDef

import templates
from remediator import inspector
from remediator.attributes import Shape
from remediator.configuration import render
from remediator.drift import METADATA, Declared, Difference, compare, declared, fingerprint
from remediator.model import Bot
from remediator.settings import read_settings
from sandbox.waiting import wait_until
from tests.remediator.conftest import MAKE_CLIENT, REGION, Api, World, serve, settings_for

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
SETTINGS = read_settings(security_group_ids=["sg-2", "sg-1"], instance_profile="bot")
MANAGED = "bot-orchestrator:managed"


def bot() -> Bot:
    config, sha = render("forge", "production", templates.load().get("support", "production"))
    facts: dict[str, Any] = dict.fromkeys(Bot.__slots__, "")
    return Bot(**facts | {"name": "forge", "instance_id": "i-1", "config": config, "config_sha": sha})


TAGS = {
    "Name": "bot-forge",
    MANAGED: "true",
    "bot-orchestrator:bot": "forge",
    "bot-orchestrator:deployment": "dep-1",
    "bot-orchestrator:config-sha": bot().config_sha,
    "bot-orchestrator:role": "active",
}


def asked(**changes: Any) -> dict[str, Any]:
    """What of RunInstances' request is read again. That it is as the launcher writes it, the cloud proves."""
    tags = {key: value for key, value in TAGS.items() if key != "bot-orchestrator:role"}
    tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
    request = {"InstanceType": "t3.micro", "UserData": "#cloud-config", "MetadataOptions": METADATA}
    return {**request, "TagSpecifications": [{"ResourceType": "instance", "Tags": tagged}], **changes}


WANTED = declared(bot(), asked(), SETTINGS)
REAL = Shape(
    id="i-1",
    state="running",
    instance_type="t3.micro",
    security_groups=("sg-1", "sg-2"),
    instance_profile="bot",
    metadata_options=METADATA,
    tags={**TAGS, "team": "of somebody else"},
    launched_at=1,
)


def test_what_is_as_it_was_asked_for_does_not_differ() -> None:
    assert compare(WANTED, REAL, user_data=WANTED.user_data, reported=bot().config_sha) == []
    assert compare(WANTED, REAL) == [], "what is not known does not differ"


@pytest.mark.parametrize(
    ("changes", "field", "stored", "real", "disruptive"),
    [
        ({"state": "terminated"}, "instance", "running", "terminated", True),
        ({"state": "shutting-down"}, "instance", "running", "shutting-down", True),
        ({"state": "stopped"}, "instance", "running", "stopped", True),
        ({"instance_type": "t3.large"}, "instance_type", "t3.micro", "t3.large", True),
        ({"security_groups": ("sg-1",)}, "security_groups", ["sg-1", "sg-2"], ["sg-1"], False),
        ({"security_groups": ()}, "security_groups", ["sg-1", "sg-2"], [], False),
        ({"instance_profile": ""}, "instance_profile", "bot", "", True),
        (
            {"metadata_options": {**METADATA, "HttpTokens": "optional"}},
            "metadata_options",
            {"HttpTokens": "required"},
            {"HttpTokens": "optional"},
            False,
        ),
        (
            {"tags": {**REAL.tags, "bot-orchestrator:bot": "anvil"}},
            "tags",
            {"bot-orchestrator:bot": "forge"},
            {"bot-orchestrator:bot": "anvil"},
            False,
        ),
        (
            {"tags": {key: REAL.tags[key] for key in REAL.tags if key != "Name"}},
            "tags",
            {"Name": "bot-forge"},
            {"Name": None},
            False,
        ),
    ],
)
def test_one_thing_that_differs_is_said_with_what_it_takes(
    changes: dict[str, Any], field: str, stored: object, real: object, disruptive: bool
) -> None:
    (found,) = compare(WANTED, replace(REAL, **changes), user_data=WANTED.user_data)
    assert (found.field, found.stored, found.real, found.disruptive) == (field, stored, real, disruptive)
    view = found.view()
    assert set(view) == {"field", "stored", "real", "fix", "disruptive"}
    assert view["fix"]


def test_what_the_instance_was_told_and_what_the_bot_runs_are_compared_by_hash() -> None:
    found = compare(WANTED, REAL, user_data="0" * 16, reported="1" * 16)
    assert [(one.field, one.stored, one.real, one.disruptive) for one in found] == [
        ("user_data", WANTED.user_data, "0" * 16, True),
        ("config_sha", bot().config_sha, "1" * 16, True),
    ]
    assert WANTED.user_data == fingerprint(b"#cloud-config")


def test_an_instance_that_is_gone_differs_in_nothing_else() -> None:
    assert compare(WANTED, None, reported="1" * 16) == [
        Difference("instance", "running", "gone", "redeploy"),
    ]


@pytest.mark.parametrize("tags", [{}, {MANAGED: "false"}, {"bot-orchestrator:bot": "forge"}])
def test_an_instance_that_is_not_ours_any_more_is_left_to_a_person(tags: dict[str, str]) -> None:
    """Whatever else differs: no fix of ours is offered for it."""
    (found,) = compare(WANTED, replace(REAL, tags=tags, instance_type="t3.large"), user_data="other")
    assert (found.field, found.remedy, found.disruptive) == ("managed", "person", False)


def test_what_is_not_declared_is_not_compared() -> None:
    bare = read_settings()
    wanted = declared(bot(), asked(), bare)
    assert compare(wanted, replace(REAL, security_groups=("sg-9",), instance_profile="other")) == []


def test_a_type_that_was_fallen_back_to_is_no_drift() -> None:
    wanted = declared(bot(), asked(InstanceType="t3.small"), SETTINGS)
    assert compare(wanted, replace(REAL, instance_type="t3.small")) == []


def test_an_adopted_instance_is_asked_for_no_more_than_it_was_ever_given() -> None:
    wanted = declared(bot(), None, read_settings())
    ours = {MANAGED: "true", "bot-orchestrator:bot": "forge"}
    assert compare(wanted, replace(REAL, tags=ours), user_data="whatever it is") == []
    assert wanted == Declared("t3.micro", bot().config_sha, ours)


def test_a_difference_is_known_since_it_was_first_seen() -> None:
    one = Difference("instance_type", "a", "b", "redeploy")
    other = Difference("tags", {}, {}, "tag")
    before = inspector.shown([one], [], 10)
    assert [(kept["field"], kept["since"]) for kept in inspector.shown([one, other], before, 20)] == [
        ("instance_type", 10),
        ("tags", 20),
    ]
    assert [kept["since"] for kept in inspector.shown([one], inspector.shown([], before, 20), 30)] == [30]


# over a cloud whose instances somebody else really changes


@pytest.fixture
def own_run(tmp_path: Path, own_world: World) -> RunApp:
    """As `run_app`, over a cloud of the test's own."""

    def run(**changes: Any) -> AbstractAsyncContextManager[Api]:
        return serve(settings_for(tmp_path / "remediator.db", own_world.cloud, **changes))

    return run


async def drifted(app: Api, name: str) -> dict[str, dict[str, Any]]:
    """Field → what differs, as the observer last saw it."""
    found = await app.get("/drift")
    return {
        one["field"]: one for entry in found["bots"] if entry["bot"] == name for one in entry["differences"]
    }


async def until_drifted(app: Api, name: str, *fields: str) -> dict[str, dict[str, Any]]:
    async def there() -> Any:
        found = await drifted(app, name)
        return (found or True) if sorted(found) == sorted(fields) else None

    found = await wait_until(there, 60, f"{name} to differ in {fields}")
    return found if isinstance(found, dict) else {}


async def looked(app: Api) -> None:
    """Until a look that began after now has ended."""

    async def at() -> Any:
        return (await app.get("/drift"))["lookedAt"]

    for _ in range(2):
        before = await at()

        async def later(before: Any = before) -> bool:
            return bool(await at() != before)

        await wait_until(later, 60, "a look at the fleet")


async def plan(app: Api, name: str) -> list[dict[str, Any]]:
    answer = await app.post(f"/bots/{name}/reconcile", {})
    assert answer.status == 200, answer
    assert answer.body["applied"] is False
    found: list[dict[str, Any]] = answer.body["plan"]
    return found


def described(world: World, instance_id: str) -> InstanceTypeDef:
    return world.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


def loosen(world: World, instance_id: str) -> None:
    """Let the instance's metadata be read without a token. All is named, because moto forgets the rest."""
    options: Any = {**METADATA, "HttpTokens": "optional"}
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
        await looked(app)
        assert await drifted(app, name) == {}
        assert await plan(app, name) == []
        instance_id = await world.instance(name)
        world.ec2.modify_instance_attribute(InstanceId=instance_id, Groups=[bad])
        loosen(world, instance_id)
        world.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "Name", "Value": "mine now"}])
        fields = ("security_groups", "metadata_options", "tags")
        found = await until_drifted(app, name, *fields)
        assert (found["security_groups"]["stored"], found["security_groups"]["real"]) == ([good], [bad])
        assert found["metadata_options"]["real"] == {"HttpTokens": "optional"}
        assert found["tags"]["stored"] == {"Name": f"bot-{name}"}
        for field in fields:
            assert await app.metric(f'bot_config_drift{{bot="{name}",field="{field}"}}') == 1
        board = await app.get("/dashboard")
        assert board["summary"]["drifted"] == 1
        assert [entry["bot"] for entry in board["drift"]["bots"]] == [name]

        offered = await plan(app, name)
        assert sorted(one["field"] for one in offered) == sorted(fields)
        assert {one["disruptive"] for one in offered} == {False}
        assert described(world, instance_id)["SecurityGroups"][0]["GroupId"] == bad, "a dry run"
        answer = await app.post(f"/bots/{name}/reconcile", {"apply": True, "by": "ada"})
        assert (answer.status, answer.body["deploymentId"]) == (200, None)
        assert {one["outcome"] for one in answer.body["plan"]} == {"done"}
        assert await drifted(app, name) == {}, "at once, not at the next look"
        assert await app.metric(f'bot_config_drift{{bot="{name}",field="tags"}}') is None
        now = described(world, instance_id)
        assert [group["GroupId"] for group in now["SecurityGroups"]] == [good]
        assert now["MetadataOptions"]["HttpTokens"] == "required"
        assert {"Key": "Name", "Value": f"bot-{name}"} in now["Tags"]
        await looked(app)
        assert await drifted(app, name) == {}
        assert await world.actions(name) == ["run"], "its instance was neither restarted nor replaced"
        trail = [one for one in await app.get(f"/audit?bot={name}") if one["event"].startswith("reconcile")]
    assert [one["event"] for one in trail] == ["reconcile.asked", *["reconcile.done"] * 3]
    assert {one["actor"] for one in trail} == {"ada"}
    assert trail[1]["detail"]["was"] == [bad]


async def test_what_cannot_be_changed_in_place_is_put_right_by_a_redeploy(
    run_app: RunApp, world: World
) -> None:
    """Another instance type and other user data: both need it to be stopped, as somebody did."""
    name = world.name()
    async with run_app(drift_interval=0.3) as app:
        await app.deployed(name)
        old = await world.instance(name)
        await looked(app)
        await until_drifted(app, name)
        world.ec2.stop_instances(InstanceIds=[old])
        found = await until_drifted(app, name, "instance")
        assert found["instance"]["real"] in ("stopping", "stopped")

        async def stopped() -> bool:
            return described(world, old)["State"]["Name"] == "stopped"

        await wait_until(stopped, what="stopped")
        world.ec2.modify_instance_attribute(InstanceId=old, InstanceType={"Value": "t3.large"})
        other = base64.b64encode(
            b"#cloud-config\n{}\n"
        )  # EC2 takes the bytes; moto wants them encoded once more
        world.ec2.modify_instance_attribute(InstanceId=old, UserData={"Value": other})
        world.ec2.start_instances(InstanceIds=[old])
        found = await until_drifted(app, name, "instance_type", "user_data")
        assert (found["instance_type"]["stored"], found["instance_type"]["real"]) == ("t3.micro", "t3.large")
        assert found["user_data"]["real"] == fingerprint(b"#cloud-config\n{}\n")
        offered = await plan(app, name)
        assert {one["disruptive"] for one in offered} == {True}
        answer = await app.post(f"/bots/{name}/reconcile", {"apply": True})
        assert answer.status == 202, answer
        assert {one["outcome"] for one in answer.body["plan"]} == {"redeploys"}
        busy = await app.post(f"/bots/{name}/reconcile", {})
        ended = await app.until_ended(answer.headers["Location"])
        assert ended["status"] == "deployed", ended
        assert (busy.status, busy.field) == (409, "bot")
        await looked(app)
        assert await drifted(app, name) == {}
        versions = await app.get(f"/bots/{name}/versions")
    assert [one["version"] for one in versions] == [1], "the same configuration"
    assert active(world, name) != [old]


def active(world: World, name: str) -> list[str]:
    """Those that run and whose role it is."""
    found = world.ec2.describe_instances(
        Filters=[
            {"Name": "tag:bot-orchestrator:bot", "Values": [name]},
            {"Name": "tag:bot-orchestrator:role", "Values": ["active"]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )
    return [one["InstanceId"] for group in found["Reservations"] for one in group["Instances"]]


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
        found = await until_drifted(app, name, "config_sha")
        sha = found["config_sha"]
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
        (one,) = answer.body["plan"]
        assert (one["field"], one["outcome"]) == ("managed", "not touched")
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
    outcomes = {one["field"]: one["outcome"] for one in answer.body["plan"]}
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
        await looked(app)
        await own_world.cloud.break_api("DescribeInstanceAttribute", "refuse", **refusal)
        instance_id = await own_world.instance(name)
        own_world.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": "Name", "Value": "mine now"}])
        await until_drifted(app, name, "tags")
        assert (await app.get("/drift"))["problem"] == ""
        await own_world.cloud.break_api("DescribeInstances", "refuse", **refusal)

        async def told() -> bool:
            return "UnauthorizedOperation: You may not." in (await app.get("/drift"))["problem"]

        await wait_until(told, 30, "the reason")
        at = (await app.get("/drift"))["lookedAt"]
        assert list(await drifted(app, name)) == ["tags"]
        assert (await app.get("/drift"))["lookedAt"] == at, "nobody has looked since"


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

    def shown() -> InstanceTypeDef:
        return ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    launched = shown()["LaunchTime"]
    ec2.modify_instance_metadata_options(InstanceId=instance_id, HttpEndpoint="enabled")
    assert shown()["MetadataOptions"].get("HttpTokens") is None, "it forgets what is not named"
    with pytest.raises(ClientError, match=r"InvalidUserData\.Malformed"):
        ec2.modify_instance_attribute(InstanceId=instance_id, UserData={"Value": b"#cloud-config"})
    ec2.stop_instances(InstanceIds=[instance_id])
    ec2.start_instances(InstanceIds=[instance_id])
    assert shown()["LaunchTime"] == launched
