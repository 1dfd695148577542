"""Drift: how a bot differs from what it was declared to be. Pure."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from remediator.aws.instance_attributes import METADATA_OPTIONS, InstanceDescription
from remediator.aws.tags import BOT_TAG, CONFIG_SHA_TAG, DEPLOYMENT_TAG, MANAGED_TAG, ROLE_TAG, tags_of
from remediator.aws.user_data import decode_user_data
from remediator.model import Bot
from remediator.settings import Settings

Field = Literal[
    "managed",
    "instance",
    "instance_type",
    "security_groups",
    "instance_profile",
    "metadata_options",
    "tags",
    "user_data",
    "config_sha",
]
Remedy = Literal["tag", "set groups", "set metadata options", "redeploy", "person"]

FIXES: Final[Mapping[Remedy, str]] = {
    "tag": "CreateTags with the declared values",
    "set groups": "ModifyInstanceAttribute with the declared security groups",
    "set metadata options": "ModifyInstanceMetadataOptions with the declared values",
    "redeploy": "a blue/green redeploy of the configuration it should run",
    "person": f"by a person: tag it {MANAGED_TAG}=true again; without that nothing of it is touched",
}
NOT_RUNNING: Final = ("terminated", "shutting-down", "stopped", "stopping")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is otherwise than declared. Of tags and options, only those that differ."""

    field: Field
    stored: Any
    real: Any
    remedy: Remedy

    @property
    def disruptive(self) -> bool:
        """Return whether its remedy replaces the instance."""
        return self.remedy == "redeploy"

    def view(self) -> dict[str, Any]:
        """Return the difference as the API shows it, with what would put it right."""
        return {
            "field": self.field,
            "stored": self.stored,
            "real": self.real,
            "fix": FIXES[self.remedy],
            "disruptive": self.disruptive,
        }


@dataclass(frozen=True, slots=True)
class Declared:
    """The attributes that a bot's instance should have. None: not declared, and so not compared."""

    instance_type: str
    config_sha: str
    tags: Mapping[str, str]
    security_groups: tuple[str, ...] | None = None
    instance_profile: str | None = None
    user_data: str | None = None  # its hash
    metadata_options: Mapping[str, Any] = field(default_factory=lambda: METADATA_OPTIONS)


def declared(bot: Bot, launch: Mapping[str, Any] | None, settings: Settings) -> Declared:
    """Return what the bot's instance should have.

    `launch`: the request that launched it; None for one that was adopted. The type and the user data are its:
    capacity may have asked for another type, and another release of ours would write other user data.
    """
    tags = {MANAGED_TAG: "true", BOT_TAG: bot.name}
    if launch is not None:
        requested = tags_of(launch["TagSpecifications"][0])
        tags |= {key: requested[key] for key in ("Name", DEPLOYMENT_TAG) if key in requested}
        tags |= {CONFIG_SHA_TAG: bot.config_sha, ROLE_TAG: "active"}
    return Declared(
        instance_type=launch["InstanceType"] if launch is not None else bot.config.get("instance_type", ""),
        config_sha=bot.config_sha,
        tags=tags,
        security_groups=tuple(sorted(settings.security_group_ids)) or None,
        instance_profile=settings.profile_of(bot.name),
        user_data=fingerprint(decode_user_data(launch["UserData"])) if launch is not None else None,
        metadata_options=launch["MetadataOptions"] if launch is not None else METADATA_OPTIONS,
    )


def compare(
    declaration: Declared,
    real: InstanceDescription | None,
    *,
    user_data: str | None = None,
    reported: str | None = None,
) -> list[Difference]:
    """Return what differs.

    `user_data`: the hash of the real one. `reported`: the config_sha that the bot reports. None: not known.
    """
    if real is None or real.state in NOT_RUNNING:
        return [Difference("instance", "running", real.state if real is not None else "gone", "redeploy")]
    if real.tags.get(MANAGED_TAG) != "true":
        return [Difference("managed", "true", real.tags.get(MANAGED_TAG, ""), "person")]
    return [*_of_instance(declaration, real), *_of_content(declaration, user_data, reported)]


def _of_instance(declaration: Declared, real: InstanceDescription) -> Iterable[Difference]:
    if declaration.instance_type and declaration.instance_type != real.instance_type:
        yield Difference("instance_type", declaration.instance_type, real.instance_type, "redeploy")
    if declaration.security_groups not in (None, real.security_groups):
        groups = list(declaration.security_groups or ())
        yield Difference("security_groups", groups, list(real.security_groups), "set groups")
    if declaration.instance_profile not in (None, real.instance_profile):
        yield Difference("instance_profile", declaration.instance_profile, real.instance_profile, "redeploy")
    options, real_options = _differing(declaration.metadata_options, real.metadata_options)
    if options:
        yield Difference("metadata_options", options, real_options, "set metadata options")
    tags, real_tags = _differing(declaration.tags, real.tags)
    if tags:
        yield Difference("tags", tags, real_tags, "tag")


def _of_content(declaration: Declared, user_data: str | None, reported: str | None) -> Iterable[Difference]:
    if None not in (declaration.user_data, user_data) and declaration.user_data != user_data:
        yield Difference("user_data", declaration.user_data, user_data, "redeploy")
    if reported not in (None, declaration.config_sha):
        yield Difference("config_sha", declaration.config_sha, reported, "redeploy")


def _differing(wanted: Mapping[str, Any], real: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the items of `wanted` that differ, as they are wanted and as they are."""
    differ = {key: value for key, value in wanted.items() if real.get(key) != value}
    return differ, {key: real.get(key) for key in differ}


def fingerprint(content: bytes) -> str:
    """Return the hash by which user data are compared."""
    return hashlib.sha256(content).hexdigest()[:16]


def fingerprint_of_base64(text: str) -> str:
    """Return the fingerprint of what is Base64 in `text`."""
    return fingerprint(base64.b64decode(text))
