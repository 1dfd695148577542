"""What moto lacks. Each test fails when moto learns it: then that piece of the sandbox's layer can go."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ssm import SSMClient

REQUEST: Any = {"ImageId": "ami-0abc", "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}


@pytest.fixture(scope="module")
def moto() -> Iterator[dict[str, Any]]:
    """Return a client's options for a bare moto."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "region_name": "us-west-1",
        "endpoint_url": f"http://{host}:{port}",
        "aws_access_key_id": "sandbox",
        "aws_secret_access_key": "sandbox",
        "config": Config(retries={"total_max_attempts": 1}),
    }
    server.stop()


@pytest.fixture
def ec2(moto: dict[str, Any]) -> EC2Client:
    return boto3.client("ec2", **moto)


@pytest.fixture
def ssm(moto: dict[str, Any]) -> SSMClient:
    return boto3.client("ssm", **moto)


def run(ec2: EC2Client, **changes: Any) -> Any:
    return ec2.run_instances(**{**REQUEST, **changes})["Instances"][0]


def test_moto_ignores_the_client_token(ec2: EC2Client) -> None:
    first, second = run(ec2, ClientToken="once"), run(ec2, ClientToken="once")
    assert first["InstanceId"] != second["InstanceId"]


def test_moto_cannot_filter_by_client_token(ec2: EC2Client) -> None:
    with pytest.raises(ResponseParserError):
        ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["once"]}])


def test_moto_has_an_instance_running_at_once(ec2: EC2Client) -> None:
    reservation = ec2.describe_instances(InstanceIds=[run(ec2)["InstanceId"]])["Reservations"][0]
    assert reservation["Instances"][0]["State"]["Name"] == "running"


def test_moto_brings_a_terminated_instance_back_by_reboot(ec2: EC2Client) -> None:
    ids = [run(ec2)["InstanceId"]]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.reboot_instances(InstanceIds=ids)
    instance = ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0]
    assert instance["State"]["Name"] == "running"


def test_moto_reboots_and_starts_whatever_the_state(ec2: EC2Client) -> None:
    ids = [run(ec2)["InstanceId"]]
    ec2.stop_instances(InstanceIds=ids)
    ec2.reboot_instances(InstanceIds=ids)
    ec2.terminate_instances(InstanceIds=ids)
    ec2.start_instances(InstanceIds=ids)


def test_moto_succeeds_with_any_command_on_any_instance(ssm: SSMClient) -> None:
    nowhere = "i-00000000000000000"
    sent = ssm.send_command(DocumentName="Unwritten", InstanceIds=[nowhere])["Command"]
    ended = ssm.get_command_invocation(CommandId=sent["CommandId"], InstanceId=nowhere)
    assert (ended["Status"], ended["ResponseCode"]) == ("Success", 0)


def test_moto_does_not_know_canonicals_images(ssm: SSMClient) -> None:
    name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
    with pytest.raises(ClientError):
        ssm.get_parameter(Name=name)


def test_moto_does_not_know_the_agents(ssm: SSMClient) -> None:
    with pytest.raises(ClientError):
        ssm.describe_instance_information()


def test_moto_stops_an_instance_at_once(ec2: EC2Client) -> None:
    ids = [run(ec2)["InstanceId"]]
    ec2.stop_instances(InstanceIds=ids)
    instance = ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0]
    assert instance["State"]["Name"] == "stopped"


def test_moto_has_a_snapshot_completed_at_once(ec2: EC2Client) -> None:
    volume = ec2.create_volume(AvailabilityZone="us-west-1a", Size=8)
    assert ec2.create_snapshot(VolumeId=volume["VolumeId"])["State"] == "completed"


def test_moto_leaves_an_address_that_moved_with_the_old_instance_too(ec2: EC2Client) -> None:
    address = ec2.allocate_address(Domain="vpc")
    ids = [run(ec2)["InstanceId"] for _ in range(2)]
    for instance_id in ids:
        ec2.associate_address(
            AllocationId=address["AllocationId"], InstanceId=instance_id, AllowReassociation=True
        )
    instances = [ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"][0] for id_ in ids]
    assert {instance.get("PublicIpAddress") for instance in instances} == {address["PublicIp"]}


def test_moto_moves_an_address_only_where_it_is_told_that_it_may(ec2: EC2Client) -> None:
    """EC2 does so unless it is told that it may not."""
    address = ec2.allocate_address(Domain="vpc")
    ids = [run(ec2)["InstanceId"] for _ in range(2)]
    ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=ids[0])
    with pytest.raises(ClientError):
        ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=ids[1])


def test_moto_gives_an_address_to_what_is_terminated_and_leaves_it_there(ec2: EC2Client) -> None:
    address = ec2.allocate_address(Domain="vpc")
    ids = [run(ec2)["InstanceId"]]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=ids[0])
    (described,) = ec2.describe_addresses(AllocationIds=[address["AllocationId"]])["Addresses"]
    assert described.get("InstanceId") == ids[0]


def test_moto_releases_an_address_that_is_in_use(ec2: EC2Client) -> None:
    address = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=run(ec2)["InstanceId"])
    ec2.release_address(AllocationId=address["AllocationId"])


def test_motos_enforcement_of_iam_knows_neither_resources_nor_conditions() -> None:
    """It asks whether an action may be done on `*`: leave on instances alone is none, and no tag counts."""

    def verdict(**more: Any) -> PermissionResult:
        statement = {"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*", **more}
        return IAMPolicy(json.dumps({"Statement": [statement]})).is_action_permitted("ec2:RunInstances", "*")

    ask = inspect.signature(ActionAuthenticatorMixin._authenticate_and_authorize_normal_action)
    assert ask.parameters["resource"].default == "*"
    assert verdict(Resource="arn:aws:ec2:*:*:instance/*") is PermissionResult.NEUTRAL
    tagged = {"StringEquals": {"aws:RequestTag/bot-orchestrator:managed": "true"}}
    assert verdict(Condition=tagged) is PermissionResult.PERMITTED
