"""What EC2 is asked for; what an instance is told is in test_cloudinit."""

import json
from pathlib import Path
from typing import Any

import pytest

import templates
from remediator.configuration import render
from remediator.launch import launch_request
from remediator.model import Bot
from remediator.places import Place
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


def request(one: Bot, settings: Settings = SETTINGS, **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "image": "ami-1",
        "deployment": "dep-0123456789abcdef",
        "role": "candidate",
        "attempt": 1,
        "place": Place(one.config["instance_type"]),
    }
    return launch_request(one, settings=settings, **{**asked, **changes})


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
    one = bot(kind)
    asked = request(one)
    assert (asked["MinCount"], asked["MaxCount"]) == (1, 1)
    assert asked["InstanceType"] == templates.load().get(kind, "production").instance_type
    assert asked["MetadataOptions"] == {
        "HttpTokens": "required",
        "HttpEndpoint": "enabled",
        "HttpPutResponseHopLimit": 1,
        "InstanceMetadataTags": "disabled",
    }
    assert asked["CreditSpecification"] == {"CpuCredits": "standard"}
    assert asked["InstanceInitiatedShutdownBehavior"] == "stop"
    assert asked["DisableApiTermination"] is False
    (device,) = asked["BlockDeviceMappings"]
    assert device["Ebs"] == {
        "VolumeSize": templates.load().get(kind, "production").storage_gib,
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    assert not {"KeyName", "SecurityGroups", "NetworkInterfaces"} & asked.keys()


def test_instance_and_volume_are_tagged_in_the_same_call() -> None:
    asked = request(one := bot())
    assert [spec["ResourceType"] for spec in asked["TagSpecifications"]] == ["instance", "volume"]
    for spec in asked["TagSpecifications"]:
        assert {tag["Key"]: tag["Value"] for tag in spec["Tags"]} == {
            "Name": "bot-forge",
            "bot-orchestrator:managed": "true",
            "bot-orchestrator:bot": "forge",
            "bot-orchestrator:deployment": "dep-0123456789abcdef",
            "bot-orchestrator:config-sha": one.config_sha,
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
    asked = request(bot(), settings, place=Place("t3.small", subnet="subnet-1"))
    assert asked["SecurityGroupIds"] == ["sg-1", "sg-2"]
    assert asked["SubnetId"] == "subnet-1"
    assert asked["KeyName"] == "bot-factory"
    assert asked["IamInstanceProfile"] == {"Name": "bot"}


def test_an_instance_is_told_who_may_reach_it_by_ssh(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-")
    by_ssh: dict[str, Any] = {"restarter": "ssh", "ssh_key_file": tmp_path / "key"}
    by_ssh |= {"ssh_public_key": "ssh-ed25519 AAAAplanted", "ssh_known_hosts_file": tmp_path / "hosts"}
    nobody = request(bot())["UserData"]
    key_pair = request(bot(), read_settings(key_name="bot-factory"))["UserData"]
    restart = request(bot(), read_settings(**by_ssh))["UserData"]
    assert "  - mask\n  - ssh.socket\n" in nobody
    assert "- default\n" not in nobody
    assert "- default\n" in key_pair
    assert ",restrict ssh-ed25519 AAAAplanted\n" in restart
    assert "AAAAplanted" not in nobody + key_pair
