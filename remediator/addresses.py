"""Elastic IPs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remediator.awserror import AwsError
from remediator.caller import BOT_TAG, MANAGED, Caller, Guard, tags_of


@dataclass(frozen=True, slots=True)
class Address:
    """An Elastic IP."""

    allocation_id: str
    public_ip: str
    association_id: str = ""
    instance_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class Addresses(Caller):
    async def find_address(self, bot: str) -> Address | None:
        """The bot's Elastic IP."""
        ours: Any = [
            {"Name": f"tag:{MANAGED}", "Values": ["true"]},
            {"Name": f"tag:{BOT_TAG}", "Values": [bot]},
        ]
        found = await self._addresses(Filters=ours)
        return found[0] if found else None

    async def allocate_address(self, bot: str, guard: Guard) -> Address:
        """A new Elastic IP. There is no token to make a repeat harmless: look for one before."""
        tags: Any = [{"Key": MANAGED, "Value": "true"}, {"Key": BOT_TAG, "Value": bot}]
        tags.append({"Key": "Name", "Value": f"bot-{bot}"})

        def allocate() -> Address:
            guard()
            made = self._ec2_once.allocate_address(
                Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}]
            )
            return Address(made["AllocationId"], made["PublicIp"])

        return await self._call("AllocateAddress", allocate)

    async def associate_address(self, allocation_id: str, instance_id: str, guard: Guard) -> None:
        """The address leads to that instance from now on, wherever it led before."""

        def associate() -> None:
            guard()
            self._ec2.associate_address(
                AllocationId=allocation_id, InstanceId=instance_id, AllowReassociation=True
            )

        await self._managed("AssociateAddress", instance_id)
        await self._call("AssociateAddress", associate)

    async def addresses(self) -> list[Address]:
        """All that are ours."""
        ours: Any = [{"Name": f"tag:{MANAGED}", "Values": ["true"]}]
        return await self._addresses(Filters=ours)

    async def address_of(self, instance_id: str) -> Address | None:
        """The Elastic IP of an instance, whoever's it is."""
        found = await self._addresses(Filters=[{"Name": "instance-id", "Values": [instance_id]}])
        return found[0] if found else None

    async def _addresses(self, **which: Any) -> list[Address]:
        answer = await self._call("DescribeAddresses", lambda: self._ec2.describe_addresses(**which))
        return [
            Address(
                allocation_id=raw.get("AllocationId", ""),
                public_ip=raw["PublicIp"],
                association_id=raw.get("AssociationId", ""),
                instance_id=raw.get("InstanceId", ""),
                tags=tags_of(raw),
            )
            for raw in answer["Addresses"]
        ]

    async def release_address(self, allocation_id: str, guard: Guard) -> None:
        """Give it back, wherever it leads; one that is gone already is no error."""

        def disassociate() -> None:
            guard()
            self._ec2.disassociate_address(AssociationId=found[0].association_id)

        def release() -> None:
            guard()
            self._ec2.release_address(AllocationId=allocation_id)

        try:
            found = await self._addresses(AllocationIds=[allocation_id])
            if MANAGED not in found[0].tags:
                raise AwsError("refused", "ReleaseAddress", "", f"{allocation_id} is not tagged as ours")
            if found[0].association_id:
                await self._call("DisassociateAddress", disassociate)
            await self._call("ReleaseAddress", release)
        except AwsError as error:
            if error.kind != "gone":
                raise
