"""EBS volumes, and the snapshots that are kept of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.aws.client import AwsClient, BeforeEffect
from remediator.aws.errors import AwsError
from remediator.aws.tags import MANAGED_FILTER, tag_list, tags_of


@dataclass(frozen=True, slots=True)
class Volume:
    """An EBS volume."""

    id: str
    state: str  # creating, available, in-use, deleting
    created_at: float  # Unix seconds
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a volume."""

    id: str
    state: str  # pending, completed, error
    progress: str  # such as 42%; empty where EC2 does not say


class Volumes(AwsClient):
    """Disks of instances that are ours, and what is kept of them."""

    async def volumes(self) -> list[Volume]:
        """Return all volumes that are ours."""
        pages = self._ec2.get_paginator("describe_volumes")

        def read() -> list[Volume]:
            return [
                Volume(raw["VolumeId"], raw["State"], raw["CreateTime"].timestamp(), tags_of(raw))
                for page in pages.paginate(Filters=[MANAGED_FILTER])
                for raw in page["Volumes"]
            ]

        return await self._call("DescribeVolumes", read)

    async def delete_volume(self, volume_id: str, guard: BeforeEffect) -> None:
        """Delete the volume; one that is gone already is no error."""

        def delete() -> None:
            guard()
            self._ec2.delete_volume(VolumeId=volume_id)

        try:
            await self._call("DeleteVolume", delete)
        except AwsError as error:
            if error.kind != "gone":
                raise

    async def create_snapshot(self, volume_id: str, tags: Mapping[str, str], guard: BeforeEffect) -> Snapshot:
        """Begin a snapshot of the volume.

        There is no token to make a repeat harmless: call `find_snapshot` with its tags before.
        """

        def create() -> Snapshot:
            guard()
            answer = self._ec2_once.create_snapshot(
                VolumeId=volume_id,
                Description=f"Final snapshot of {tags.get('Name', volume_id)}",
                TagSpecifications=[{"ResourceType": "snapshot", "Tags": tag_list(tags)}],
            )
            return Snapshot(answer["SnapshotId"], answer["State"], answer.get("Progress", ""))

        return await self._call("CreateSnapshot", create)

    async def find_snapshot(self, tags: Mapping[str, str]) -> Snapshot | None:
        """Return a snapshot that carries all of these tags; None where there is none."""
        by_tags: Any = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
        snapshots = await self._call(
            "DescribeSnapshots",
            lambda: self._ec2.describe_snapshots(OwnerIds=["self"], Filters=by_tags)["Snapshots"],
        )
        if not snapshots:
            return None
        raw = snapshots[0]
        return Snapshot(raw["SnapshotId"], raw["State"], raw["Progress"])
