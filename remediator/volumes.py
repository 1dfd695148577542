"""EBS volumes, and the snapshots that are kept of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.awserror import AwsError
from remediator.caller import MANAGED, Caller, Guard, tag_list, tags_of


@dataclass(frozen=True, slots=True)
class Volume:
    id: str
    state: str  # creating, available, in-use, deleting
    created_at: float  # Unix seconds
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    state: str  # pending, completed, error
    progress: str


class Volumes(Caller):
    async def volumes(self) -> list[Volume]:
        """All that are ours."""
        ours: Any = [{"Name": f"tag:{MANAGED}", "Values": ["true"]}]
        pages = self._ec2.get_paginator("describe_volumes")

        def read() -> list[Volume]:
            return [
                Volume(raw["VolumeId"], raw["State"], raw["CreateTime"].timestamp(), tags_of(raw))
                for page in pages.paginate(Filters=ours)
                for raw in page["Volumes"]
            ]

        return await self._call("DescribeVolumes", read)

    async def delete_volume(self, volume_id: str, guard: Guard) -> None:
        """One that is gone already is no error."""

        def delete() -> None:
            guard()
            self._ec2.delete_volume(VolumeId=volume_id)

        try:
            await self._call("DeleteVolume", delete)
        except AwsError as error:
            if error.kind != "gone":
                raise

    async def create_snapshot(self, volume_id: str, tags: Mapping[str, str], guard: Guard) -> Snapshot:
        """There is no token to make a repeat harmless: look for it by its tags before."""

        def create() -> Snapshot:
            guard()
            made = self._ec2_once.create_snapshot(
                VolumeId=volume_id,
                Description=f"Final snapshot of {tags.get('Name', volume_id)}",
                TagSpecifications=[{"ResourceType": "snapshot", "Tags": tag_list(tags)}],
            )
            return Snapshot(made["SnapshotId"], made["State"], made.get("Progress", ""))

        return await self._call("CreateSnapshot", create)

    async def find_snapshot(self, tags: Mapping[str, str]) -> Snapshot | None:
        """The one that carries all of these tags."""
        with_tags: Any = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
        found = await self._call(
            "DescribeSnapshots",
            lambda: self._ec2.describe_snapshots(OwnerIds=["self"], Filters=with_tags)["Snapshots"],
        )
        return Snapshot(found[0]["SnapshotId"], found[0]["State"], found[0]["Progress"]) if found else None
