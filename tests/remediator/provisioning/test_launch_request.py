"""The parameters of RunInstances; the user data among them are in test_cloudinit."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

import templates
from remediator.aws.user_data import unpack
from remediator.configuration.rendering import render
from remediator.model import Bot
from remediator.provisioning.launch_request import launch_request
from remediator.provisioning.placement import Placement
from remediator.settings import Settings, read_settings

SETTINGS = read_settings(aws_region="us-west-1")
TYPES = templates.load().names


def bot(kind: str = "support", name: str = "forge") -> Bot:
    template = templates.load().get(kind, "production")
    config, config_sha = render(name, "production", template)
    facts: dict[str, Any] = dict.fromkeys(Bot.__slots__)
    facts |= {
        "name": name,
        "template": kind,
        "environment": "production",
        "state": "deploying",
        "address": "",
    }
    facts |= {"config": config, "config_sha": config_sha, "instance_id": ""}
    facts |= {"health_path": template.probe.health_path, "mesh_path": template.probe.mesh_path}
    return Bot(**facts)


def request(bot: Bot, settings: Settings = SETTINGS, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "image": "ami-1",
        "deployment": "dep-0123456789abcdef",
        "role": "candidate",
        "attempt": 1,
        "placement": Placement(bot.config["instance_type"]),
    }
    return launch_request(bot, settings=settings, **{**arguments, **changes})


def test_a_configuration_has_one_hash_whatever_the_order_of_its_fields() -> None:
    template = templates.load().get("support", "production")
    config, sha = render("forge", "production", template)
    assert render("forge", "production", template.model_copy()) == (config, sha)
    assert json.loads(json.dumps(config)) == config
    others = {
        render("atlas", "production", template)[1],
        render("forge", "staging", template)[1],
        render("forge", "production", template.model_copy(update={"heartbeat": "1h"}))[1],
    }
    assert len({sha, *others}) == 4
    assert len(sha) == 16


@pytest.mark.parametrize("kind", TYPES)
def test_an_instance_is_asked_for_with_every_security_option_said(kind: str) -> None:
    parameters = request(bot(kind))
    assert (parameters["MinCount"], parameters["MaxCount"]) == (1, 1)
    assert parameters["InstanceType"] == templates.load().get(kind, "production").instance_type
    assert parameters["MetadataOptions"] == {
        "HttpTokens": "required",
        "HttpEndpoint": "enabled",
        "HttpPutResponseHopLimit": 1,
        "InstanceMetadataTags": "disabled",
    }
    assert parameters["CreditSpecification"] == {"CpuCredits": "standard"}
    assert parameters["InstanceInitiatedShutdownBehavior"] == "stop"
    assert parameters["DisableApiTermination"] is False
    (device,) = parameters["BlockDeviceMappings"]
    assert device["Ebs"] == {
        "VolumeSize": templates.load().get(kind, "production").storage_gib,
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    assert not {"KeyName", "SecurityGroups", "NetworkInterfaces"} & parameters.keys()


@pytest.mark.parametrize(
    ("kind", "burstable"), [("t4g.small", True), ("t3a.small", True), ("m7g.large", False)]
)
def test_credits_are_asked_for_where_a_type_has_them(kind: str, burstable: bool) -> None:
    """EC2 refuses them for others."""
    assert ("CreditSpecification" in request(bot(), placement=Placement(kind))) == burstable


def test_instance_and_volume_are_tagged_in_the_same_call() -> None:
    forge = bot()
    parameters = request(forge)
    assert [spec["ResourceType"] for spec in parameters["TagSpecifications"]] == ["instance", "volume"]
    for spec in parameters["TagSpecifications"]:
        assert {tag["Key"]: tag["Value"] for tag in spec["Tags"]} == {
            "Name": "bot-forge",
            "bot-orchestrator:managed": "true",
            "bot-orchestrator:bot": "forge",
            "bot-orchestrator:deployment": "dep-0123456789abcdef",
            "bot-orchestrator:config-sha": forge.config_sha,
            "bot-orchestrator:role": "candidate",
        }


def test_a_client_token_names_the_deployment_and_the_attempt_and_fits() -> None:
    tokens = {request(bot(), attempt=attempt)["ClientToken"] for attempt in (1, 2, 99)}
    assert len(tokens) == 3
    assert all(len(token) <= 64 and token.isascii() for token in tokens)


def test_where_the_network_is_chosen_it_is_asked_for() -> None:
    settings = read_settings(
        security_group_ids=["sg-1", "sg-2"],
        key_name="bot-factory",
        instance_profile="bot",
    )
    parameters = request(bot(), settings, placement=Placement("t3.small", subnet="subnet-1"))
    assert parameters["SecurityGroupIds"] == ["sg-1", "sg-2"]
    assert parameters["SubnetId"] == "subnet-1"
    assert parameters["KeyName"] == "bot-factory"
    assert parameters["IamInstanceProfile"] == {"Name": "bot"}


def test_an_instance_is_told_who_may_reach_it_by_ssh(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-")
    by_ssh: dict[str, Any] = {"restarter": "ssh", "ssh_key_file": tmp_path / "key"}
    by_ssh |= {"ssh_public_key": "ssh-ed25519 AAAAplanted", "ssh_known_hosts_file": tmp_path / "hosts"}
    nobody, key_pair, restart = (
        unpack(base64.b64decode(request(bot(), settings)["UserData"]))
        for settings in (read_settings(), read_settings(key_name="bot-factory"), read_settings(**by_ssh))
    )
    assert "  - mask\n  - ssh.socket\n" in nobody
    assert "- default\n" not in nobody
    assert "- default\n" in key_pair
    assert ",restrict ssh-ed25519 AAAAplanted\n" in restart
    assert "AAAAplanted" not in nobody + key_pair
