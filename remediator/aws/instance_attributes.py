"""The attributes of an instance that drift is judged by; a few of them can be set while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from remediator.aws.client import AwsClient
from remediator.aws.tags import MANAGED_FILTER, tags_of

METADATA_OPTIONS: Final[Mapping[str, Any]] = {
    "HttpTokens": "required",
    "HttpEndpoint": "enabled",
    "HttpPutResponseHopLimit": 1,
    "InstanceMetadataTags": "disabled",
}
"""The answers of the metadata service on every instance of ours."""


@dataclass(frozen=True, slots=True)
class InstanceDescription:
    """An instance as DescribeInstances shows it."""

    id: str
    state: str
    instance_type: str
    security_groups: tuple[str, ...]  # ids, sorted
    instance_profile: str  # its name; empty: none
    metadata_options: Mapping[str, Any]
    tags: Mapping[str, str]
    launched_at: float  # Unix seconds; a start counts as a launch


class InstanceAttributes(AwsClient):
    """The attributes that an instance really has."""

    async def describe_all(self) -> dict[str, InstanceDescription]:
        """Return all instances that are ours, by id."""
        return {
            raw["InstanceId"]: _description(raw) for raw in await self._describe_instances(MANAGED_FILTER)
        }

    async def describe(self, instance_id: str) -> InstanceDescription | None:
        """Return that instance, whether it is ours or not; None where EC2 does not know it (any more)."""
        if not instance_id:
            return None
        by_id = {"Name": "instance-id", "Values": [instance_id]}
        descriptions = await self._describe_instances(by_id)
        return _description(descriptions[0]) if descriptions else None

    async def user_data(self, instance_id: str) -> str:
        """Return the instance's user data as Base64; empty where it has none."""
        answer = await self._call(
            "DescribeInstanceAttribute",
            lambda: self._ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData"),
        )
        return answer.get("UserData", {}).get("Value", "")

    async def set_security_groups(self, instance_id: str, groups: Sequence[str]) -> None:
        """Give an instance of ours these security groups (ids), and no others."""
        await self.must_be_managed("ModifyInstanceAttribute", instance_id)
        await self._call(
            "ModifyInstanceAttribute",
            lambda: self._ec2.modify_instance_attribute(InstanceId=instance_id, Groups=list(groups)),
        )

    async def set_metadata_options(self, instance_id: str, options: Mapping[str, Any]) -> None:
        """Set the metadata options of an instance of ours; see METADATA_OPTIONS."""
        await self.must_be_managed("ModifyInstanceMetadataOptions", instance_id)
        await self._call(
            "ModifyInstanceMetadataOptions",
            lambda: self._ec2.modify_instance_metadata_options(InstanceId=instance_id, **options),
        )


def _description(raw: Any) -> InstanceDescription:
    profile = raw.get("IamInstanceProfile", {}).get("Arn", "")
    options = raw.get("MetadataOptions", {})
    return InstanceDescription(
        id=raw["InstanceId"],
        state=raw["State"]["Name"],
        instance_type=raw["InstanceType"],
        security_groups=tuple(sorted(group["GroupId"] for group in raw.get("SecurityGroups", []))),
        instance_profile=profile.rpartition("/")[2],
        metadata_options={name: options[name] for name in METADATA_OPTIONS if name in options},
        tags=tags_of(raw),
        launched_at=raw["LaunchTime"].timestamp() if "LaunchTime" in raw else 0,
    )
