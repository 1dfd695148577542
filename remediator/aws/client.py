"""The clients of AWS. A call runs in one of a bounded number of threads; its faults are AwsErrors."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from remediator.aws.botocore_models import lean_session
from remediator.aws.errors import AwsError, from_botocore
from remediator.aws.instances import instance_of
from remediator.aws.tags import MANAGED_FILTER, MANAGED_TAG

T = TypeVar("T")
DESCRIBED_WITHIN: Final = 5.0  # seconds: EC2 describes by then what it made, even just before a crash
BeforeEffect = Callable[[], None]
"""A guard: called in the last moment before an effect, and raises where it must not be done (any more)."""


def no_lease() -> None:
    """Let an effect be done by a replica that holds no lease.

    For an effect that two replicas may safely do: the end of a resource that is never used again.
    """


class AwsClient:
    """The connections that all calls share; `_ec2_once` and `_ssm_once` never send a request twice.

    They are for requests whose repeat would be a second effect.
    """

    def __init__(
        self,
        *,
        region: str,
        endpoint_url: str | None,
        concurrency: int,
        timeout: float = 15,
        files_bucket: str = "",
    ) -> None:
        """Make the clients, which takes a second; that of S3 only with a bucket.

        `concurrency`: calls at once; `timeout`: seconds of one; `files_bucket`: see `file_store`.
        """
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
        self._files_bucket = files_bucket
        if files_bucket:
            self._s3 = session.client("s3", endpoint_url=endpoint_url, config=config(4))

    async def _call(self, operation: str, function: Callable[[], T]) -> T:
        """Run the function in a thread; its faults become AwsErrors.

        The call of a caller that is cancelled goes on to its end.
        """
        try:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)
        except (ClientError, BotoCoreError) as error:
            raise from_botocore(operation, error) from None

    async def _describe_instances(self, *filters: Any) -> Sequence[Any]:
        """Return the descriptions of all instances that pass the filters, however many pages they fill."""
        pages = self._ec2.get_paginator("describe_instances")

        def read() -> list[Any]:
            return [
                description
                for page in pages.paginate(Filters=list(filters))
                for reservation in page["Reservations"]
                for description in reservation["Instances"]
            ]

        return await self._call("DescribeInstances", read)

    async def must_be_managed(self, operation: str, instance_id: str) -> None:
        """Raise an AwsError of the kind `gone` where the instance is not there (any more) or not ours.

        Nothing that is not tagged as ours is ever touched, and an empty id never means "all".
        """
        if not instance_id:
            raise AwsError("gone", operation, "", "the bot has no instance")
        by_id = {"Name": "instance-id", "Values": [instance_id]}
        instances = [instance_of(raw) for raw in await self._describe_instances(by_id, MANAGED_FILTER)]
        if not instances or instances[0].state in ("terminated", "shutting-down"):
            state = instances[0].state if instances else f"not found with the tag {MANAGED_TAG}=true"
            raise AwsError("gone", operation, "", f"instance {instance_id} is {state}")
