"""Elastic IPs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remediator.aws.client import AwsClient, BeforeEffect
from remediator.aws.errors import AwsError
from remediator.aws.tags import BOT_TAG, MANAGED_FILTER, MANAGED_TAG, tag_list, tags_of


@dataclass(frozen=True, slots=True)
class Address:
    """An Elastic IP. `association_id` and `instance_id` are empty where it leads nowhere."""

    allocation_id: str
    public_ip: str
    association_id: str = ""
    instance_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class ElasticIps(AwsClient):
    """The addresses of bots, which stay when an instance goes."""

    async def find_address(self, bot: str) -> Address | None:
        """Return the bot's Elastic IP; None where it has none."""
        of_bot: Any = {"Name": f"tag:{BOT_TAG}", "Values": [bot]}
        addresses = await self._describe_addresses(Filters=[MANAGED_FILTER, of_bot])
        return addresses[0] if addresses else None

    async def address_of(self, instance_id: str) -> Address | None:
        """Return the Elastic IP of an instance, whether it is ours or not."""
        addresses = await self._describe_addresses(Filters=[{"Name": "instance-id", "Values": [instance_id]}])
        return addresses[0] if addresses else None

    async def addresses(self) -> list[Address]:
        """Return all Elastic IPs that are ours."""
        return await self._describe_addresses(Filters=[MANAGED_FILTER])

    async def _describe_addresses(self, **query: Any) -> list[Address]:
        answer = await self._call("DescribeAddresses", lambda: self._ec2.describe_addresses(**query))
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

    async def allocate_address(self, bot: str, guard: BeforeEffect) -> Address:
        """Allocate an Elastic IP for the bot.

        There is no token to make a repeat harmless: call `find_address` before.
        """
        tags = tag_list({MANAGED_TAG: "true", BOT_TAG: bot, "Name": f"bot-{bot}"})

        def allocate() -> Address:
            guard()
            answer = self._ec2_once.allocate_address(
                Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}]
            )
            return Address(answer["AllocationId"], answer["PublicIp"])

        return await self._call("AllocateAddress", allocate)

    async def associate_address(self, allocation_id: str, instance_id: str, guard: BeforeEffect) -> None:
        """Lead the address to that instance from now on, wherever it led before."""

        def associate() -> None:
            guard()
            self._ec2.associate_address(
                AllocationId=allocation_id, InstanceId=instance_id, AllowReassociation=True
            )

        await self.must_be_managed("AssociateAddress", instance_id)
        await self._call("AssociateAddress", associate)

    async def release_address(self, allocation_id: str, guard: BeforeEffect) -> None:
        """Give the address back, wherever it leads; one that is gone already is no error."""

        def disassociate() -> None:
            guard()
            self._ec2.disassociate_address(AssociationId=address.association_id)

        def release() -> None:
            guard()
            self._ec2.release_address(AllocationId=allocation_id)

        try:
            address = (await self._describe_addresses(AllocationIds=[allocation_id]))[0]
            if MANAGED_TAG not in address.tags:
                raise AwsError("refused", "ReleaseAddress", "", f"{allocation_id} is not tagged as ours")
            if address.association_id:
                await self._call("DisassociateAddress", disassociate)
            await self._call("ReleaseAddress", release)
        except AwsError as error:
            if error.kind != "gone":
                raise
