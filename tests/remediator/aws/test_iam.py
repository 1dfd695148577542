"""The policies that are shipped: enough for all that is done, and nothing is done without them."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.ssm_commands import DOCUMENTS
from sandbox.cloud.iam import Demand, permitted
from tests.remediator.conftest import MAKE_CLIENT, REGION, Api, World, serve, settings_for
from tests.remediator.provisioning.lifecycle import adopt, retire, run_by_hand, until_up

ROOT = Path(__file__).parents[3]
POLICY: Mapping[str, Any] = json.loads((ROOT / "iam/remediator.json").read_text())
BOT_POLICY: Mapping[str, Any] = json.loads((ROOT / "iam/bot.json").read_text())
OURS = "arn:aws:ec2:us-west-1:123456789012"
NAMES = [f"new-{number}" for number in range(20)]
POOL = "ReadTheTokensPutAsideForScaling"
FILES = {"KeepTheFilesOfTypes": "ssm", "KeepTheFilesOfTypesInS3": "s3"}  # each read and written
SIDS = [statement["Sid"] for statement in POLICY["Statement"]]


@dataclass
class Identity:
    """The user that the remediator is, and what it may do."""

    iam: Any
    name: str

    def may(self, without: str = "") -> None:
        """Allow all that the policy allows, but for one statement."""
        statements = [statement for statement in POLICY["Statement"] if statement["Sid"] != without]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.iam.put_user_policy(UserName=self.name, PolicyName="remediator", PolicyDocument=document)


@pytest.fixture
async def identity(own_world: World, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """Give this process the credentials of a user with the policy, and with nothing else."""
    root = boto3.session.Session("sandbox", "sandbox", region_name=REGION)
    iam = MAKE_CLIENT(root, "iam", endpoint_url=own_world.cloud.endpoint_url)
    iam.create_user(UserName="remediator")
    key = iam.create_access_key(UserName="remediator")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    for bot in ("forge", "atlas", *NAMES):
        iam.create_instance_profile(InstanceProfileName=f"bot-{bot}")
    identity = Identity(iam, "remediator")
    identity.may()
    return identity


def settings(world: World, tmp_path: Path, **changes: Any) -> Any:
    image = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
    more = {"ami": image, "instance_profile": "bot-{bot}", "elastic_ip": True, "orphan_grace": 0}
    return settings_for(tmp_path / "r.db", world.cloud, **{**more, **changes})


async def test_all_that_is_done_is_done_with_exactly_this_policy(
    own_world: World, identity: Identity, tmp_path: Path
) -> None:
    bot, other = "forge", "atlas"
    async with serve(settings(own_world, tmp_path)) as app:
        await app.deployed(bot)
        for method in ("restart", "reboot", "redeploy"):
            run = await app.recover(bot, method)
            assert (run["status"], run["reason"]) == ("recovered", f"{method} cured it")
        assert (await app.get(f"/bots/{bot}/pairing"))["requests"] == []
        begun = await app.post(f"/bots/{bot}/redeploy", {"reason": "blue/green"})
        ended = await app.until_ended(f"/deploy/{begun.body['deploymentId']}")
        assert ended["status"] == "deployed", ended
        instance_id = await instance_of(app, bot)
        own_world.ec2.modify_instance_metadata_options(InstanceId=instance_id, HttpTokens="optional")
        plan = await app.post(f"/bots/{bot}/reconcile", {"apply": True})
        assert plan.status == 200, plan
        theirs = run_by_hand(own_world, other)
        await until_up(own_world, theirs)
        assert (await adopt(app, other, theirs, telegramToken="42:adopted")).status == 201
        for name in (bot, other):
            ended = await retire(app, name, "?snapshot=true")
            assert ended["status"] == "retired", ended
        assert await app.get("/orphans") == []


async def instance_of(app: Api, bot: str) -> str:
    """Return the id of the instance that the bot is; another may be kept beside it."""
    (group,) = [group for group in await app.get("/sd") if group["labels"]["bot"] == bot]
    instance_id: str = group["labels"]["instance_id"]
    return instance_id


async def deploying(app: Api, _: World) -> str:
    """Deploy under a new name each time: a deployment that was refused is still being taken back."""
    used = {entry["bot"] for entry in await app.get("/audit?limit=1000")}
    answer = await app.begin_deploy(next(name for name in NAMES if name not in used))
    if answer.status != 202:
        return str(answer.body)
    return str(await app.until_ended(f"/deploy/{answer.body['deploymentId']}"))


def recovering(method: str) -> Callable[[Api, World], Any]:
    async def recover(app: Api, world: World) -> str:
        answer = str(await app.recover("forge", method))
        await app.call("DELETE", "/bots/forge/quarantine")
        return answer

    return recover


async def retiring(app: Api, world: World) -> str:
    return str(await retire(app, "forge", "?snapshot=true"))


async def adopting(app: Api, world: World) -> str:
    theirs = run_by_hand(world, "theirs")
    await until_up(world, theirs)
    answer = await adopt(app, "theirs", theirs)
    world.ec2.terminate_instances(InstanceIds=[theirs])
    return str(answer.body)


async def listing(app: Api, world: World) -> str:
    return str((await app.call("GET", "/orphans")).body)


async def reaping(app: Api, world: World) -> str:
    tags: Any = [{"Key": "bot-orchestrator:managed", "Value": "true"}]
    volume = world.ec2.create_volume(
        AvailabilityZone="us-west-1a", Size=8, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )
    ids = {"volumeIds": [volume["VolumeId"]], "apply": True}
    answer = await app.post("/orphans/reap", ids)
    world.ec2.delete_volume(VolumeId=volume["VolumeId"])
    return str(answer.body)


async def grouping(app: Api, world: World) -> str:
    """Reconcile a bot whose security groups were changed by hand."""
    group = world.ec2.create_security_group(GroupName="by-hand", Description="by hand")["GroupId"]
    instance_id = await instance_of(app, "forge")
    world.ec2.modify_instance_attribute(InstanceId=instance_id, Groups=[group])
    answer = await app.post("/bots/forge/reconcile", {"apply": True})
    (bots,) = world.ec2.describe_security_groups(GroupNames=["bots"])["SecurityGroups"]
    world.ec2.modify_instance_attribute(InstanceId=instance_id, Groups=[bots.get("GroupId", "")])
    return str(answer.body)


async def pairing(app: Api, world: World) -> str:
    return str((await app.call("GET", "/bots/forge/pairing")).body)


WITHOUT: Mapping[str, tuple[Callable[[Api, World], Any], str]] = {
    "SeeTheFleet": (listing, "ec2:DescribeInstances"),
    "LaunchOurs": (deploying, f"ec2:RunInstances on resource {OURS}:instance/"),
    "LaunchWithEncryptedDisks": (
        deploying,
        "ec2:RunInstances on resource arn:aws:ec2:us-west-1:123456789012:vol",
    ),
    "LaunchFromTheseAndInto": (deploying, "ec2:RunInstances on resource arn:aws:ec2:us-west-1::image/"),
    "GiveBotsTheirRole": (deploying, "iam:PassRole"),
    "TagWhatIsMade": (deploying, "ec2:CreateTags"),
    "NameTheImage": (deploying, "ssm:GetParameter on resource arn:aws:ssm:us-west-1::parameter/aws/service"),
    "KeepTheSecretsOfBots": (deploying, "ssm:PutParameter"),
    "AllocateOurAddresses": (deploying, "ec2:AllocateAddress"),
    "MoveOurAddresses": (deploying, "ec2:AssociateAddress"),
    "MoveAddressesBetweenInterfaces": (deploying, "ec2:AssociateAddress"),
    "TagOurs": (deploying, "ec2:CreateTags"),
    "AdoptOthers": (adopting, "ec2:CreateTags"),
    "ActOnOurs": (recovering("reboot"), "ec2:RebootInstances"),
    "PutOursIntoGroups": (grouping, "ec2:ModifyInstanceAttribute"),
    "RestartByThisDocumentAlone": (recovering("restart"), "ssm:SendCommand"),
    "PairByThisDocumentAlone": (pairing, "ssm:SendCommand"),
    "RestartOurs": (recovering("restart"), "ssm:SendCommand on resource arn:aws:ec2"),
    "SeeRestarts": (recovering("restart"), "ssm:GetCommandInvocation"),
    "DeleteOurVolumes": (reaping, "ec2:DeleteVolume"),
    "KeepSnapshotsOfOurDisks": (
        retiring,
        "ec2:CreateSnapshot on resource arn:aws:ec2:us-west-1:123456789012:vol",
    ),
    "KeepOurSnapshots": (retiring, "ec2:CreateSnapshot on resource arn:aws:ec2:us-west-1::snapshot"),
}
"""The work that fails without a statement, and the operation that the answer names."""


async def test_without_each_statement_what_needs_it_fails_and_says_which(
    own_world: World, identity: Identity, tmp_path: Path
) -> None:
    group = own_world.ec2.create_security_group(GroupName="bots", Description="of bots")["GroupId"]
    changed = settings(own_world, tmp_path, security_group_ids=[group], launch_grace=0.2)
    async with serve(changed) as app:
        await app.deployed("forge")
        for sid, (work, operation) in WITHOUT.items():
            identity.may(without=sid)
            answer = await work(app, own_world)
            assert operation in answer, (sid, answer)
            identity.may()
        assert not any([await own_world.live(name) for name in NAMES])
        ended = await retire(app, "forge")
        assert ended["status"] == "retired", ended


def test_every_statement_is_left_out_once_but_that_of_prices() -> None:
    """The prices are read by a client of their own: tests/remediator/cost/test_pricing_api denies it that."""
    assert {*WITHOUT, POOL, *FILES, "SeeWhichFilesAreInS3", "ReadPrices"} == set(SIDS)


async def test_the_tokens_that_scaling_may_use_are_read_by_a_statement_of_their_own_and_not_written(
    own_world: World, identity: Identity
) -> None:
    own_world.ssm.put_parameter(Name="/pool/support/1", Value="77:pooled", Type="SecureString")
    aws = Aws(region=REGION, endpoint_url=own_world.cloud.endpoint_url, concurrency=2)
    token = await aws.pooled_token("support", 1)
    assert token is not None
    assert token.get_secret_value() == "77:pooled"
    assert await aws.pooled_token("support", 2) is None
    identity.may(without=POOL)
    with pytest.raises(AwsError, match="ssm:GetParameter"):
        await aws.pooled_token("support", 1)
    identity.may()
    key = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"]}
    key |= {"aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    session = boto3.session.Session(region_name=REGION, **key)  # type: ignore[arg-type]  # both are strings
    ssm = MAKE_CLIENT(session, "ssm", endpoint_url=own_world.cloud.endpoint_url)
    with pytest.raises(ClientError, match="AccessDenied"):
        ssm.put_parameter(Name="/pool/support/1", Value="x", Type="SecureString", Overwrite=True)


@pytest.mark.parametrize("sid", FILES)
async def test_the_files_of_types_are_kept_by_a_statement_of_their_own(
    own_world: World, identity: Identity, sid: str
) -> None:
    root = boto3.session.Session("sandbox", "sandbox", region_name=REGION)
    s3 = MAKE_CLIENT(root, "s3", endpoint_url=own_world.cloud.endpoint_url)
    for bucket in ("bot-files-ours", "somebodys"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    archive, service = b"an archive", FILES[sid]
    sha256 = hashlib.sha256(archive).hexdigest()
    bucket = "bot-files-ours/types" if service == "s3" else ""
    facts: Any = {"region": REGION, "endpoint_url": own_world.cloud.endpoint_url, "concurrency": 2}
    aws = Aws(**facts, files_bucket=bucket)
    identity.may(without=sid)
    for call in (aws.put_files(sha256, archive), aws.files(sha256)):
        with pytest.raises(AwsError, match=f"perform: {service}:") as caught:
            await call
        assert caught.value.kind == "denied"
    identity.may()
    await aws.put_files(sha256, archive)
    assert await aws.files(sha256) == archive
    if service == "s3":
        with pytest.raises(AwsError, match="s3:PutObject on resource arn:aws:s3:::somebodys/"):
            await Aws(**facts, files_bucket="somebodys").put_files(sha256, archive)


@pytest.mark.parametrize("tag", ["true", None])
async def test_what_is_not_tagged_as_ours_cannot_be_touched(
    own_world: World, identity: Identity, tag: str | None
) -> None:
    tags = {"bot-orchestrator:managed": tag} if tag else {}
    instance_id = run_by_hand(own_world, "somebody", **tags)
    await until_up(own_world, instance_id)
    ec2 = MAKE_CLIENT(
        boto3.session.Session(region_name=REGION), "ec2", endpoint_url=own_world.cloud.endpoint_url
    )
    if tag:
        ec2.terminate_instances(InstanceIds=[instance_id])
        return
    for call in (ec2.terminate_instances, ec2.stop_instances, ec2.reboot_instances):
        with pytest.raises(ClientError, match="UnauthorizedOperation"):
            call(InstanceIds=[instance_id])
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        ec2.run_instances(ImageId="ami-1", InstanceType="t3.micro", MinCount=1, MaxCount=1)
    ssm = MAKE_CLIENT(
        boto3.session.Session(region_name=REGION), "ssm", endpoint_url=own_world.cloud.endpoint_url
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        ssm.get_parameter(Name="/somebody/secret")


def test_a_bot_reads_its_own_parameters_and_no_others() -> None:
    me = {"aws:PrincipalTag/bot-orchestrator:bot": ["forge"]}

    def may(action: str, parameter: str, principal: Mapping[str, list[str]] = me) -> bool:
        arn = f"arn:aws:ssm:us-west-1:123456789012:parameter{parameter}"
        return permitted([BOT_POLICY], Demand(action, arn), principal)

    assert may("ssm:GetParameter", "/bots/forge/telegram-token")
    assert not may("ssm:GetParameter", "/bots/forge-2/telegram-token")
    assert not may("ssm:GetParameter", "/bots/atlas/telegram-token")
    assert not may("ssm:PutParameter", "/bots/forge/telegram-token")
    assert not may("ssm:GetParameter", "/bots/forge/telegram-token", {}), "a role without the tag is nobody"
    assert not permitted([BOT_POLICY], Demand("ec2:TerminateInstances", "*"), me)
    assert may("ssm:GetParameter", "/files/0000"), "those of its type, and of every other"
    assert not may("ssm:PutParameter", "/files/0000")
    kept = "arn:aws:s3:::bot-files-ours/types/0000.tar.gz"
    assert permitted([BOT_POLICY], Demand("s3:GetObject", kept), me)
    assert not permitted([BOT_POLICY], Demand("s3:PutObject", kept), me)
    assert not permitted([BOT_POLICY], Demand("s3:GetObject", "arn:aws:s3:::somebodys/0000"), me)


# what is called and what is allowed are the same

CLIENTS = ("_ec2", "_ssm", "_s3", "_ec2_once", "_ssm_once", "_client")


def operations() -> dict[str, str]:
    """Return IAM's name of every operation of boto3, by the method's."""
    names: dict[str, str] = {}
    for service in ("ec2", "ssm", "s3", "pricing", "cloudwatch"):
        model = Loader().load_service_model(service, "service-2")
        names |= {xform_name(name): f"{service}:{name}" for name in model["operations"]}
    return names


def called() -> Iterator[str]:
    """Yield every operation of AWS that the remediator's source calls."""
    names = operations()
    for path in sorted((ROOT / "remediator").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="get_paginator"), args=[ast.Constant(value=str(name))]
                ) if name in names:
                    yield names[name]
                case ast.Attribute(attr=name, value=ast.Attribute(attr=client)) if (
                    client in CLIENTS and name in names
                ):
                    yield names[name]


def test_every_operation_that_is_called_is_allowed_and_no_other() -> None:
    allowed = {action for statement in POLICY["Statement"] for action in statement["Action"]}
    # Without ListBucket S3 answers a GetObject of what is not there as one that is not allowed.
    assert set(called()) == allowed - {"iam:PassRole", "s3:ListBucket"}
    assert not any("*" in action for action in allowed)


def test_only_what_has_no_resources_is_allowed_on_all() -> None:
    """https://docs.aws.amazon.com/service-authorization/latest/reference/ has none for these."""
    everywhere = {
        action
        for statement in POLICY["Statement"]
        if statement["Resource"] == "*"
        for action in statement["Action"]
    }
    assert everywhere == {
        "ec2:DescribeInstances",
        "ec2:DescribeVolumes",
        "ec2:DescribeAddresses",
        "ec2:DescribeSnapshots",
        "ssm:GetCommandInvocation",
        "ssm:ListCommands",
        "pricing:GetProducts",
    }
    assert [one.name for one in DOCUMENTS if one.name not in json.dumps(POLICY)] == []
