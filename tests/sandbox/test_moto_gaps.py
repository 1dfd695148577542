"""What moto lacks. Each test fails when moto learns it: then that piece of the sandbox's layer can go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ssm import SSMClient

REQUEST: Any = {"ImageId": "ami-0abc", "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}


@pytest.fixture(scope="module")
def moto() -> Iterator[dict[str, Any]]:
    """A client's options for a bare moto."""
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
    found = ec2.describe_instances(InstanceIds=[run(ec2)["InstanceId"]])["Reservations"][0]
    assert found["Instances"][0]["State"]["Name"] == "running"


def test_moto_brings_a_terminated_instance_back_by_reboot(ec2: EC2Client) -> None:
    ids = [run(ec2)["InstanceId"]]
    ec2.terminate_instances(InstanceIds=ids)
    ec2.reboot_instances(InstanceIds=ids)
    found = ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0]
    assert found["State"]["Name"] == "running"


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
