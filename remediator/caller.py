"""The clients of EC2 and SSM. A call runs in one of a bounded number of threads; its faults are AwsErrors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from remediator.awserror import AwsError, named
from remediator.awsmodels import lean_session

MANAGED: Final = "bot-orchestrator:managed"
BOT_TAG: Final = "bot-orchestrator:bot"
DEPLOYMENT_TAG: Final = "bot-orchestrator:deployment"

T = TypeVar("T")
Guard = Callable[[], None]  # asked in the last moment before an effect; raises where it must not be


@dataclass(frozen=True, slots=True)
class Instance:
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


class Caller:
    """Clients made at once. `once` sends a request a single time, where a repeat would be a second effect."""

    def __init__(
        self, *, region: str, endpoint_url: str | None, concurrency: int, timeout: float = 15
    ) -> None:
        self._limiter = CapacityLimiter(concurrency)
        session = lean_session(region)

        def config(attempts: int) -> Config:
            return Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=3,
                read_timeout=timeout,
                max_pool_connections=concurrency,
            )

        self._ec2 = session.client("ec2", endpoint_url=endpoint_url, config=config(4))
        self._ssm = session.client("ssm", endpoint_url=endpoint_url, config=config(4))
        self._ec2_once = session.client("ec2", endpoint_url=endpoint_url, config=config(1))
        self._ssm_once = session.client("ssm", endpoint_url=endpoint_url, config=config(1))

    async def _call(self, operation: str, function: Callable[[], T]) -> T:
        """Run it in a thread; faults become AwsError. A cancelled caller leaves the call to its fate."""
        try:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)
        except (ClientError, BotoCoreError) as error:
            raise named(operation, error) from None

    async def _managed(self, operation: str, instance_id: str) -> None:
        """Nothing that is not tagged as ours is ever touched, and an empty id never means "all"."""
        if not instance_id:
            raise AwsError("gone", operation, "", "the bot has no instance")
        request: Any = {
            "Filters": [
                {"Name": "instance-id", "Values": [instance_id]},
                {"Name": f"tag:{MANAGED}", "Values": ["true"]},
            ]
        }
        answer = await self._call("DescribeInstances", lambda: self._ec2.describe_instances(**request))
        found = [instance_of(raw) for group in answer["Reservations"] for raw in group["Instances"]]
        if not found or found[0].state in ("terminated", "shutting-down"):
            what = found[0].state if found else f"not found with the tag {MANAGED}=true"
            raise AwsError("gone", operation, "", f"instance {instance_id} is {what}")


def instance_of(raw: Any) -> Instance:
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


def tags_of(raw: Any) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in raw.get("Tags", [])}


def tag_list(tags: Mapping[str, str]) -> Any:
    """As AWS spells them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
