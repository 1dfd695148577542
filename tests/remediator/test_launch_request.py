"""What EC2 is asked for, and what an instance is told."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import templates
from remediator.cloudinit import USER_DATA_LIMIT, user_data
from remediator.configuration import render
from remediator.launch import launch_request
from remediator.model import Bot
from remediator.settings import Settings, read_settings

SETTINGS = read_settings(aws_region="us-west-1")
TOP_LEVEL = {"users", "write_files", "runcmd"}
"""cloud-init's schema check misses a misspelt top-level key: an allow-list does not."""

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
    }
    return launch_request(one, settings=settings, **{**asked, **changes})


def files(one: Bot) -> dict[str, str]:
    document = yaml.safe_load(request(one)["UserData"])
    return {file["path"]: file["content"] for file in document["write_files"]}


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
    }
    (device,) = asked["BlockDeviceMappings"]
    assert device["Ebs"] == {
        "VolumeSize": templates.load().get(kind, "production").storage_gib,
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    assert "KeyName" not in asked


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
        subnet_id="subnet-1",
        key_name="bot-factory",
        instance_profile="bot",
    )
    asked = request(bot(), settings)
    assert asked["SecurityGroupIds"] == ["sg-1", "sg-2"]
    assert asked["SubnetId"] == "subnet-1"
    assert asked["KeyName"] == "bot-factory"
    assert asked["IamInstanceProfile"] == {"Name": "bot"}


@pytest.mark.parametrize("kind", TYPES)
def test_the_bot_is_told_who_it_is(kind: str) -> None:
    one = bot(kind)
    assert json.loads(files(one)["/etc/bot/bot.json"]) == {
        "bot": "forge",
        "template": kind,
        "environment": "production",
        "port": 18790,
        "health_path": "/health",
        "mesh_path": "/mesh",
        "config_sha": one.config_sha,
        "model": one.config["model"],
    }


def test_user_data_holds_the_name_of_the_secret_and_never_a_secret() -> None:
    """The token is fetched by root with the instance's role, and handed over by LoadCredential."""
    told = files(bot())
    assert "--name '/bots/forge/telegram-token' --with-decryption" in told["/usr/local/sbin/bot-secrets"]
    assert "umask 077" in told["/usr/local/sbin/bot-secrets"]
    assert "LoadCredential=telegram-token:" in told["/etc/systemd/system/bot.service"]
    openclaw = json.loads(told["/home/bot/.openclaw/openclaw.json"])
    assert openclaw["channels"]["telegram"]["tokenFile"] == "/run/credentials/bot.service/telegram-token"
    assert "token" not in openclaw["channels"]["telegram"]


@pytest.mark.parametrize("kind", TYPES)
def test_user_data_is_a_cloud_config_that_fits(kind: str) -> None:
    text: str = request(bot(kind, "n" * 63))["UserData"]
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) <= USER_DATA_LIMIT
    document = yaml.safe_load(text)
    assert set(document) == TOP_LEVEL
    assert document["runcmd"][-1][:3] == ["systemctl", "enable", "--now"]
    assert "bot.service" in document["runcmd"][-1]


def test_user_data_that_would_not_fit_is_refused_before_aws_is_asked() -> None:
    one = bot()
    with pytest.raises(ValueError, match="EC2 takes 16384"):
        user_data({**one.config, "model": "m" * 17_000}, "sha", region="us-west-1", parameter="/p")


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="there is no cloud-init on this machine")
def test_cloud_init_finds_no_fault_with_it(tmp_path: Path) -> None:
    path = tmp_path / "user-data"
    path.write_text(request(bot())["UserData"])
    said = subprocess.run(
        ["cloud-init", "schema", "--config-file", path], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    told = files(bot())
    units = [tmp_path / "bot-secrets.service", tmp_path / "bot.service"]
    for unit in units:
        text = told[f"/etc/systemd/system/{unit.name}"]
        unit.write_text(text.replace("/usr/local/sbin/bot-secrets", "/bin/true"))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert all(unit.name not in said.stderr for unit in units), said.stderr
