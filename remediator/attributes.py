"""What an instance really is, and the few attributes of it that can be set while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from remediator.caller import MANAGED, Caller, tags_of

METADATA_OPTIONS: Final = (
    "HttpTokens",
    "HttpEndpoint",
    "HttpPutResponseHopLimit",
    "InstanceMetadataTags",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """An instance as DescribeInstances shows it."""

    id: str
    state: str
    instance_type: str
    security_groups: tuple[str, ...]  # ids, sorted
    instance_profile: str  # its name; empty: none
    metadata_options: Mapping[str, Any]
    tags: Mapping[str, str]
    launched_at: float  # Unix seconds; a start counts as a launch


class Attributes(Caller):
    async def shapes(self) -> dict[str, Shape]:
        """All instances that are ours, by id."""
        return await self._shapes([{"Name": f"tag:{MANAGED}", "Values": ["true"]}])

    async def shape(self, instance_id: str) -> Shape | None:
        """That instance, whether it is ours or not; None where EC2 does not know it (any more)."""
        if not instance_id:
            return None
        return (await self._shapes([{"Name": "instance-id", "Values": [instance_id]}])).get(instance_id)

    async def _shapes(self, filters: Any) -> dict[str, Shape]:
        pages = self._ec2.get_paginator("describe_instances")

        def read() -> dict[str, Shape]:
            return {
                raw["InstanceId"]: _shape(raw)
                for page in pages.paginate(Filters=filters)
                for reservation in page["Reservations"]
                for raw in reservation["Instances"]
            }

        return await self._call("DescribeInstances", read)

    async def user_data(self, instance_id: str) -> str:
        """As Base64; empty where it has none."""
        answer = await self._call(
            "DescribeInstanceAttribute",
            lambda: self._ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData"),
        )
        return answer.get("UserData", {}).get("Value", "")

    async def set_security_groups(self, instance_id: str, groups: Sequence[str]) -> None:
        await self._managed("ModifyInstanceAttribute", instance_id)
        await self._call(
            "ModifyInstanceAttribute",
            lambda: self._ec2.modify_instance_attribute(InstanceId=instance_id, Groups=list(groups)),
        )

    async def set_metadata_options(self, instance_id: str, options: Mapping[str, Any]) -> None:
        await self._managed("ModifyInstanceMetadataOptions", instance_id)
        await self._call(
            "ModifyInstanceMetadataOptions",
            lambda: self._ec2.modify_instance_metadata_options(InstanceId=instance_id, **options),
        )


def _shape(raw: Any) -> Shape:
    profile = raw.get("IamInstanceProfile", {}).get("Arn", "")
    options = raw.get("MetadataOptions", {})
    return Shape(
        id=raw["InstanceId"],
        state=raw["State"]["Name"],
        instance_type=raw["InstanceType"],
        security_groups=tuple(sorted(group["GroupId"] for group in raw.get("SecurityGroups", []))),
        instance_profile=profile.rpartition("/")[2],
        metadata_options={name: options[name] for name in METADATA_OPTIONS if name in options},
        tags=tags_of(raw),
        launched_at=raw["LaunchTime"].timestamp() if "LaunchTime" in raw else 0,
    )
