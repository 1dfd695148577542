"""AWS as the remediator uses it: instances here, and with them addresses, volumes, commands and parameters.

Nothing that is not tagged as ours is ever touched, and no call is made without the id of what it is about.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from remediator.addresses import Address, Addresses
from remediator.attributes import Attributes
from remediator.awserror import AwsError, Kind, named
from remediator.caller import BOT_TAG, DEPLOYMENT_TAG, MANAGED, Guard, Instance, instance_of, tag_list
from remediator.ssm import (
    RESTART_CONTENT,
    RESTART_DOCUMENT,
    Command,
    Commands,
    Parameters,
    holder_parameter,
    token_parameter,
)
from remediator.volumes import Volumes

__all__ = [
    "BOT_TAG",
    "DEPLOYMENT_TAG",
    "MANAGED",
    "RESTART_CONTENT",
    "RESTART_DOCUMENT",
    "Address",
    "Aws",
    "AwsError",
    "Command",
    "Guard",
    "Instance",
    "Kind",
    "holder_parameter",
    "named",
    "token_parameter",
]


class Aws(Commands, Parameters, Addresses, Volumes, Attributes):
    async def run_instance(self, request: Mapping[str, Any], guard: Guard) -> str:
        """RunInstances, exactly as intended, once. The ClientToken in it makes a repeat harmless.

        Not so one that comes when another replica has cleaned up already: hence the guard.
        """

        def launch() -> str:
            guard()
            return self._ec2_once.run_instances(**request)["Instances"][0]["InstanceId"]

        return await self._call("RunInstances", launch)

    async def instances(self) -> dict[str, Instance]:
        """All instances that are ours, by id."""
        pages = self._ec2.get_paginator("describe_instances")
        ours = [{"Name": f"tag:{MANAGED}", "Values": ["true"]}]

        def read() -> dict[str, Instance]:
            return {
                raw["InstanceId"]: instance_of(raw)
                for page in pages.paginate(Filters=ours)  # type: ignore[arg-type]  # a list of plain dicts
                for reservation in page["Reservations"]
                for raw in reservation["Instances"]
            }

        return await self._call("DescribeInstances", read)

    async def tag(self, instance_id: str, tags: Mapping[str, str]) -> None:
        await self._managed("CreateTags", instance_id)
        pairs: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
        await self._call("CreateTags", lambda: self._ec2.create_tags(Resources=[instance_id], Tags=pairs))

    async def any_instance(self, instance_id: str) -> Instance | None:
        """Also one that is not ours; None where there is none."""
        try:
            answer = await self._call(
                "DescribeInstances", lambda: self._ec2.describe_instances(InstanceIds=[instance_id])
            )
        except AwsError as error:
            if error.kind == "gone" or error.code == "InvalidInstanceID.Malformed":
                return None
            raise
        found = [instance_of(raw) for group in answer["Reservations"] for raw in group["Instances"]]
        return found[0] if found else None

    async def claim(self, ids: Sequence[str], tags: Mapping[str, str], guard: Guard) -> None:
        """Tag what is not ours yet, as a person asked."""

        def tag() -> None:
            guard()
            self._ec2.create_tags(Resources=list(ids), Tags=tag_list(tags))

        await self._call("CreateTags", tag)

    async def terminate(self, instance_id: str, guard: Guard) -> None:
        """Ask for the end of an instance of ours; one that is gone already is no error."""

        def end() -> None:
            guard()
            self._ec2.terminate_instances(InstanceIds=[instance_id])

        try:
            await self._managed("TerminateInstances", instance_id)
            await self._call("TerminateInstances", end)
        except AwsError as error:
            if error.kind != "gone":
                raise

    async def stop(self, instance_id: str, guard: Guard) -> None:
        """Ask for it; one that stops or is stopped already is no error."""

        def stop() -> None:
            guard()
            self._ec2.stop_instances(InstanceIds=[instance_id])

        await self._managed("StopInstances", instance_id)
        await self._call("StopInstances", stop)

    async def start(self, instance_id: str, guard: Guard) -> None:
        """Ask for it; one that starts or runs already is no error."""

        def start() -> None:
            guard()
            self._ec2.start_instances(InstanceIds=[instance_id])

        await self._managed("StartInstances", instance_id)
        await self._call("StartInstances", start)

    async def reboot(self, instance_id: str, guard: Guard) -> None:
        """RebootInstances is asynchronous: only the bot can prove it (a new boot_id)."""

        def reboot() -> None:
            guard()
            self._ec2_once.reboot_instances(InstanceIds=[instance_id])

        await self._managed("RebootInstances", instance_id)
        await self._call("RebootInstances", reboot)
