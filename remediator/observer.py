"""One look at all our instances serves everybody who waits for one of them."""

import asyncio
from collections.abc import Container
from dataclasses import dataclass, field

from remediator.ec2 import Aws, AwsError, Instance


@dataclass
class InstanceObserver:
    """DescribeInstances at most once in `interval` seconds, however many wait."""

    aws: Aws
    interval: float
    _seen: dict[str, Instance] = field(default_factory=dict)
    _seen_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def wait_for(
        self, instance_id: str, states: Container[str], patience: float
    ) -> Instance | AwsError | None:
        """The instance once it is in one of the states; None (or the last fault of AWS) after `patience`.

        It is looked for once at least. AWS being away for a while is waited out.
        """
        deadline = _now() + patience
        fault: AwsError | None = None
        while True:
            try:
                found = (await self._instances()).get(instance_id)
                fault = None
                if found is not None and found.state in states:
                    return found
            except AwsError as error:
                if error.kind == "denied":
                    return error
                fault = error
            if _now() >= deadline:
                return fault
            await asyncio.sleep(self.interval)

    async def _instances(self) -> dict[str, Instance]:
        async with self._lock:
            if _now() - self._seen_at >= self.interval:
                self._seen = await self.aws.instances()
                self._seen_at = _now()
            return self._seen


def _now() -> float:
    return asyncio.get_running_loop().time()
