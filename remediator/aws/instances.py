"""An EC2 instance as the rest of the code sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from remediator.aws.tags import tags_of


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance, whether it is ours or not."""

    id: str
    state: str
    private_address: str
    public_address: str
    tags: Mapping[str, str]
    reason: str = ""
    zone: str = ""
    client_token: str = ""  # of the request that launched it
    launched_at: float = 0  # Unix seconds
    volumes: tuple[str, ...] = ()  # attached to it, the root volume first
    type: str = ""

    def address(self, kind: Literal["private", "public"]) -> str:
        """Return its address of that kind; empty where it has none."""
        return self.public_address if kind == "public" else self.private_address


def instance_of(raw: Any) -> Instance:
    """Return an instance from its description by DescribeInstances."""
    return Instance(
        id=raw["InstanceId"],
        state=raw["State"]["Name"],
        private_address=raw.get("PrivateIpAddress") or "",
        public_address=raw.get("PublicIpAddress") or "",
        tags=tags_of(raw),
        reason=raw.get("StateReason", {}).get("Message", ""),
        zone=raw.get("Placement", {}).get("AvailabilityZone", ""),
        client_token=raw.get("ClientToken") or "",
        launched_at=raw["LaunchTime"].timestamp() if "LaunchTime" in raw else 0,
        volumes=tuple(
            device["Ebs"]["VolumeId"]
            for device in sorted(
                raw.get("BlockDeviceMappings", []),
                key=lambda device: device["DeviceName"] != raw.get("RootDeviceName"),
            )
            if "Ebs" in device
        ),
        type=raw.get("InstanceType") or "",
    )
