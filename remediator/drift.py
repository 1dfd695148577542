"""What a bot was declared to be, and what it really is. Pure."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from remediator.attributes import Shape
from remediator.caller import BOT_TAG, DEPLOYMENT_TAG, MANAGED
from remediator.launch import TAG
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
    "person": f"by a person: tag it {MANAGED}=true again; without that nothing of it is touched",
}
METADATA: Final[Mapping[str, Any]] = {
    "HttpTokens": "required",
    "HttpEndpoint": "enabled",
    "HttpPutResponseHopLimit": 1,
    "InstanceMetadataTags": "disabled",
}
OVER: Final = ("terminated", "shutting-down", "stopped", "stopping")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is otherwise than declared. Of tags and options, only those that differ."""

    field: Field
    stored: Any
    real: Any
    remedy: Remedy

    @property
    def disruptive(self) -> bool:
        """Whether putting it right replaces the instance."""
        return self.remedy == "redeploy"

    def view(self) -> dict[str, Any]:
        shown = {"field": self.field, "stored": self.stored, "real": self.real}
        return {**shown, "fix": FIXES[self.remedy], "disruptive": self.disruptive}


@dataclass(frozen=True, slots=True)
class Declared:
    """None: nothing is declared, and so nothing is compared."""

    instance_type: str
    config_sha: str
    tags: Mapping[str, str]
    security_groups: tuple[str, ...] | None = None
    instance_profile: str | None = None
    user_data: str | None = None  # its hash
    metadata_options: Mapping[str, Any] = field(default_factory=lambda: METADATA)


def declared(bot: Bot, launch: Mapping[str, Any] | None, settings: Settings) -> Declared:
    """From its configuration, the settings, and the request that launched its instance (None: adopted).

    The type and the user data are those of the request: capacity may have asked for another type, and
    another release of ours would write other user data.
    """
    tags = {MANAGED: "true", BOT_TAG: bot.name}
    if launch is not None:
        kept = ("Name", DEPLOYMENT_TAG)
        asked = {tag["Key"]: tag["Value"] for tag in launch["TagSpecifications"][0]["Tags"]}
        tags |= {key: asked[key] for key in kept if key in asked}
        tags |= {f"{TAG}:config-sha": bot.config_sha, f"{TAG}:role": "active"}
    return Declared(
        instance_type=launch["InstanceType"] if launch is not None else bot.config.get("instance_type", ""),
        config_sha=bot.config_sha,
        tags=tags,
        security_groups=tuple(sorted(settings.security_group_ids)) or None,
        instance_profile=settings.profile_of(bot.name),
        user_data=fingerprint(launch["UserData"].encode()) if launch is not None else None,
        metadata_options=launch["MetadataOptions"] if launch is not None else METADATA,
    )


def compare(
    wanted: Declared, real: Shape | None, *, user_data: str | None = None, reported: str | None = None
) -> list[Difference]:
    """`user_data`: the hash of the real one. `reported`: the config_sha of /health. None: not known."""
    if real is None or real.state in OVER:
        return [Difference("instance", "running", real.state if real is not None else "gone", "redeploy")]
    if real.tags.get(MANAGED) != "true":
        return [Difference("managed", "true", real.tags.get(MANAGED, ""), "person")]
    return [*_of_instance(wanted, real), *_of_content(wanted, user_data, reported)]


def _of_instance(wanted: Declared, real: Shape) -> Iterable[Difference]:
    if wanted.instance_type and wanted.instance_type != real.instance_type:
        yield Difference("instance_type", wanted.instance_type, real.instance_type, "redeploy")
    if wanted.security_groups not in (None, real.security_groups):
        groups = list(wanted.security_groups or ())
        yield Difference("security_groups", groups, list(real.security_groups), "set groups")
    if wanted.instance_profile not in (None, real.instance_profile):
        yield Difference("instance_profile", wanted.instance_profile, real.instance_profile, "redeploy")
    options, really = _differing(wanted.metadata_options, real.metadata_options)
    if options:
        yield Difference("metadata_options", options, really, "set metadata options")
    tags, really = _differing(wanted.tags, real.tags)
    if tags:
        yield Difference("tags", tags, really, "tag")


def _of_content(wanted: Declared, user_data: str | None, reported: str | None) -> Iterable[Difference]:
    if None not in (wanted.user_data, user_data) and wanted.user_data != user_data:
        yield Difference("user_data", wanted.user_data, user_data, "redeploy")
    if reported not in (None, wanted.config_sha):
        yield Difference("config_sha", wanted.config_sha, reported, "redeploy")


def _differing(wanted: Mapping[str, Any], real: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of `wanted` differs, as it was wanted and as it is."""
    differ = {key: value for key, value in wanted.items() if real.get(key) != value}
    return differ, {key: real.get(key) for key in differ}


def fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def fingerprint_of_base64(text: str) -> str:
    return fingerprint(base64.b64decode(text))
