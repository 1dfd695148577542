"""The step in which a redeploy or a retirement stops an instance, and waits until it has stopped."""

from collections.abc import Mapping
from typing import Any

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instance_waiter import InstanceWaiter
from remediator.engine.journal import Done, Failed, Journal, Outcome


async def stop_instance(
    journal: Journal, aws: Aws, waiter: InstanceWaiter, instance_id: str, patience: float
) -> Outcome:
    """Stop the instance within `patience` seconds, as the step `stopped`.

    Done has {"gone": True} where there is no instance (any more).
    """

    async def stop(_: Mapping[str, Any]) -> Outcome:
        try:
            await aws.stop(instance_id, journal.lease.check)
        except AwsError as error:
            if error.kind != "gone":
                raise
            return Done({"gone": True}, f"{instance_id or 'its instance'} was gone already")
        instance = await waiter.wait_for(instance_id, ("stopped", "terminated"), patience)
        if isinstance(instance, AwsError):
            return Failed(instance.with_remedy, denied=instance.kind == "denied", kind=instance.kind)
        if instance is None:
            return Failed(f"{instance_id} did not stop in {patience:.0f} s")
        return Done({"gone": instance.state == "terminated"}, f"{instance_id} {instance.state}")

    return await journal.step("stopped", stop, request={"instance_id": instance_id})
