"""The parameters of RunInstances for a bot. Pure."""

import base64
from collections.abc import Mapping
from typing import Any

from remediator.aws.file_store import files_address
from remediator.aws.instance_attributes import METADATA_OPTIONS
from remediator.aws.parameter_store import token_parameter
from remediator.aws.tags import BOT_TAG, CONFIG_SHA_TAG, DEPLOYMENT_TAG, MANAGED_TAG, ROLE_TAG, tag_list
from remediator.configuration.rendering import files_of
from remediator.errors import Refused
from remediator.model import Bot
from remediator.provisioning.cloudinit import largest_field, user_data
from remediator.provisioning.placement import Placement
from remediator.settings import Settings
from templates.instance_types import INSTANCE_TYPES


def launch_request(
    bot: Bot,
    *,
    placement: Placement,
    image: str,
    deployment: str,
    role: str,
    attempt: int,
    settings: Settings,
) -> dict[str, Any]:
    """Return RunInstances in full: every security option explicit, tags in the same call, Base64 user data.

    Raise ValueError where EC2 would not take the user data: see `require_launchable`.

    No key unless a setting names one, and no security group of our own making. The instance may be terminated
    (by us alone: see iam/), and one that shuts itself down is stopped, so that nobody in it can erase it.
    """
    tags = {
        "Name": f"bot-{bot.name}",
        MANAGED_TAG: "true",
        BOT_TAG: bot.name,
        DEPLOYMENT_TAG: deployment,
        CONFIG_SHA_TAG: bot.config_sha,
        ROLE_TAG: role,
    }
    request: dict[str, Any] = {
        "ImageId": image,
        "InstanceType": placement.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": f"{deployment}-{attempt}",
        "UserData": base64.b64encode(_user_data(bot.name, bot.config, bot.config_sha, settings)).decode(),
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": _volume(bot)}],
        "MetadataOptions": dict(METADATA_OPTIONS),
        "DisableApiTermination": False,
        "InstanceInitiatedShutdownBehavior": "stop",
        "TagSpecifications": [
            {"ResourceType": resource, "Tags": tag_list(tags)} for resource in ("instance", "volume")
        ],
    }
    return request | _options(bot, placement, settings)


def require_launchable(name: str, config: Mapping[str, Any], config_sha: str, settings: Settings) -> None:
    """Raise Refused (invalid) where EC2 would not take the user data of a bot of this configuration."""
    try:
        _user_data(name, config, config_sha, settings)
    except ValueError as error:
        field = largest_field(config)
        remedy = f"give it less there: {field} takes most of them"
        raise Refused("invalid", str(error), field=f"overrides.{field}", remedy=remedy) from None


def _user_data(name: str, config: Mapping[str, Any], config_sha: str, settings: Settings) -> bytes:
    return user_data(
        config,
        config_sha,
        region=settings.aws_region,
        parameter=token_parameter(name),
        restart_key=settings.ssh_public_key if settings.restarter == "ssh" else None,
        login=settings.key_name is not None,
        files=files_address(settings.files_bucket, sha256) if (sha256 := files_of(config)) else "",
    )


def _volume(bot: Bot) -> dict[str, Any]:
    return {
        "VolumeSize": int(str(bot.config["storage"]).removesuffix("GB")),
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }


def _options(bot: Bot, placement: Placement, settings: Settings) -> dict[str, Any]:
    """Return what depends on the type, the placement and the settings."""
    options: dict[str, Any] = {}
    kind = INSTANCE_TYPES.get(placement.instance_type)
    if kind is not None and kind.burstable:  # EC2 refuses it for others
        options["CreditSpecification"] = {"CpuCredits": "standard"}
    if settings.security_group_ids:
        options["SecurityGroupIds"] = settings.security_group_ids
    if placement.subnet:
        options["SubnetId"] = placement.subnet
    if placement.zone:
        options["Placement"] = {"AvailabilityZone": placement.zone}
    if settings.key_name:
        options["KeyName"] = settings.key_name
    profile = settings.profile_of(bot.name)
    if profile:
        options["IamInstanceProfile"] = {"Name": profile}
    return options
