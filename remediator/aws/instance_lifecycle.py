"""EC2 instances: launched, listed, tagged, started, stopped, rebooted and terminated.

A request is made with the id of the instance it is about, and not before that is known to be ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from remediator.aws.client import AwsClient, BeforeEffect
from remediator.aws.errors import AwsError
from remediator.aws.instances import Instance, instance_of
from remediator.aws.tags import MANAGED_FILTER, tag_list
from remediator.aws.user_data import decode_user_data


class InstanceLifecycle(AwsClient):
    """The life of an instance, from RunInstances to TerminateInstances."""

    async def run_instance(self, request: Mapping[str, Any], guard: BeforeEffect) -> str:
        """Send RunInstances, exactly as intended and once; return the instance's id.

        The ClientToken in it makes a repeat harmless. Not so one that comes when another replica has cleaned
        up already: hence the guard.
        """

        def launch() -> str:
            guard()
            content = decode_user_data(request["UserData"])  # boto3 encodes it itself
            answer = self._ec2_once.run_instances(**{**request, "UserData": content})
            return answer["Instances"][0]["InstanceId"]

        return await self._call("RunInstances", launch)

    async def instances(self) -> dict[str, Instance]:
        """Return all instances that are ours, by id."""
        descriptions = await self._describe_instances(MANAGED_FILTER)
        return {raw["InstanceId"]: instance_of(raw) for raw in descriptions}

    async def any_instance(self, instance_id: str) -> Instance | None:
        """Return that instance, whether it is ours or not; None where there is none."""
        try:
            answer = await self._call(
                "DescribeInstances", lambda: self._ec2.describe_instances(InstanceIds=[instance_id])
            )
        except AwsError as error:
            if error.kind == "gone" or error.code == "InvalidInstanceID.Malformed":
                return None
            raise
        instances = [instance_of(raw) for group in answer["Reservations"] for raw in group["Instances"]]
        return instances[0] if instances else None

    async def tag(self, instance_id: str, tags: Mapping[str, str]) -> None:
        """Set these tags of an instance of ours."""
        await self.must_be_managed("CreateTags", instance_id)
        await self._call(
            "CreateTags", lambda: self._ec2.create_tags(Resources=[instance_id], Tags=tag_list(tags))
        )

    async def claim(self, ids: Sequence[str], tags: Mapping[str, str], guard: BeforeEffect) -> None:
        """Tag what is not ours yet, as a person asked."""

        def tag() -> None:
            guard()
            self._ec2.create_tags(Resources=list(ids), Tags=tag_list(tags))

        await self._call("CreateTags", tag)

    async def terminate(self, instance_id: str, guard: BeforeEffect) -> None:
        """Ask for the end of an instance of ours; one that is gone already is no error."""

        def terminate() -> None:
            guard()
            self._ec2.terminate_instances(InstanceIds=[instance_id])

        try:
            await self.must_be_managed("TerminateInstances", instance_id)
            await self._call("TerminateInstances", terminate)
        except AwsError as error:
            if error.kind != "gone":
                raise

    async def stop(self, instance_id: str, guard: BeforeEffect) -> None:
        """Ask for the stop of an instance of ours; one that stops or is stopped already is no error."""

        def stop() -> None:
            guard()
            self._ec2.stop_instances(InstanceIds=[instance_id])

        await self.must_be_managed("StopInstances", instance_id)
        await self._call("StopInstances", stop)

    async def start(self, instance_id: str, guard: BeforeEffect) -> None:
        """Ask for the start of an instance of ours; one that starts or runs already is no error."""

        def start() -> None:
            guard()
            self._ec2.start_instances(InstanceIds=[instance_id])

        await self.must_be_managed("StartInstances", instance_id)
        await self._call("StartInstances", start)

    async def reboot(self, instance_id: str, guard: BeforeEffect) -> None:
        """Ask for a reboot, which is asynchronous: only the bot can prove it (a new boot_id)."""

        def reboot() -> None:
            guard()
            self._ec2_once.reboot_instances(InstanceIds=[instance_id])

        await self.must_be_managed("RebootInstances", instance_id)
        await self._call("RebootInstances", reboot)
