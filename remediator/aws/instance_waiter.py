"""One read of all our instances serves every run that waits for one of them."""

import asyncio
from collections.abc import Container
from dataclasses import dataclass, field

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instances import Instance


@dataclass
class InstanceWaiter:
    """Calls DescribeInstances at most once in `interval` seconds, however many runs wait."""

    aws: Aws
    interval: float
    _instances: dict[str, Instance] = field(default_factory=dict)
    _read_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def wait_for(
        self, instance_id: str, states: Container[str], patience: float
    ) -> Instance | AwsError | None:
        """Return the instance once it is in one of the states; None after `patience` seconds.

        It is read once at least. AWS being away for a while is waited out; where it was away last, or denies
        the read, its error is returned.
        """
        deadline = _now() + patience
        fault: AwsError | None = None
        while True:
            try:
                instance = (await self._read()).get(instance_id)
                fault = None
                if instance is not None and instance.state in states:
                    return instance
            except AwsError as error:
                if error.kind == "denied":
                    return error
                fault = error
            if _now() >= deadline:
                return fault
            await asyncio.sleep(self.interval)

    async def _read(self) -> dict[str, Instance]:
        async with self._lock:
            if _now() - self._read_at >= self.interval:
                self._instances = await self.aws.instances()
                self._read_at = _now()
            return self._instances


def _now() -> float:
    return asyncio.get_running_loop().time()
