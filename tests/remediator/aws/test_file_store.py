"""Archives of files, in S3 and in Parameter Store of the cloud in a box."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.file_store import PARAMETER_LIMIT, files_address
from tests.remediator.conftest import MAKE_CLIENT, REGION, World

BUCKET = "bot-files-example"
ARCHIVE = b"an archive"
SHA = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def s3(world: World) -> Iterator[Any]:
    """S3 of the cloud, with an empty bucket."""
    session = boto3.session.Session("sandbox", "sandbox", region_name=REGION)
    client = MAKE_CLIENT(session, "s3", endpoint_url=world.cloud.endpoint_url)
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield client
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def store(world: World) -> Callable[[str], Aws]:
    endpoint = world.cloud.endpoint_url
    return lambda bucket: Aws(region=REGION, endpoint_url=endpoint, concurrency=2, files_bucket=bucket)


@pytest.mark.parametrize("bucket", ["", BUCKET, f"{BUCKET}/some/prefix"])
async def test_what_is_put_is_found_under_its_hash(
    world: World, s3: Any, store: Callable[[str], Aws], bucket: str
) -> None:
    aws = store(bucket)
    assert await aws.files(SHA) is None
    await aws.put_files(SHA, ARCHIVE)
    await aws.put_files(SHA, b"put only where it is absent")
    assert await aws.files(SHA) == ARCHIVE
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    assert keys == ([f"{bucket}/{SHA}.tar.gz".partition("/")[2]] if bucket else [])
    parameters = [one["Name"] for one in world.ssm.describe_parameters()["Parameters"]]
    assert parameters == ([] if bucket else [f"/files/{SHA}"])


async def test_what_went_to_parameter_store_is_found_when_there_is_a_bucket(
    s3: Any, store: Callable[[str], Aws]
) -> None:
    await store("").put_files(SHA, ARCHIVE)
    assert await store(BUCKET).files(SHA) == ARCHIVE


@pytest.mark.parametrize(
    ("size", "tier"), [(3072, "Standard"), (3073, "Advanced"), (PARAMETER_LIMIT, "Advanced")]
)
async def test_a_small_archive_costs_nothing(
    world: World, store: Callable[[str], Aws], size: int, tier: str
) -> None:
    archive = random.Random(1).randbytes(size)
    sha256 = hashlib.sha256(archive).hexdigest()
    await store("").put_files(sha256, archive)
    (parameter,) = world.ssm.describe_parameters()["Parameters"]
    assert parameter["Tier"] == tier
    assert await store("").files(sha256) == archive


async def test_what_is_not_what_its_name_says_is_not_taken(s3: Any, store: Callable[[str], Aws]) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"{SHA}.tar.gz", Body=b"something else")
    with pytest.raises(AwsError, match="are others") as caught:
        await store(BUCKET).files(SHA)
    assert caught.value.kind == "refused"


async def test_a_bucket_that_is_not_there_names_the_setting(
    world: World, store: Callable[[str], Aws]
) -> None:
    with pytest.raises(AwsError) as caught:
        await store("bot-files-nowhere").put_files(SHA, ARCHIVE)
    assert caught.value.kind == "refused"
    assert "FILES_BUCKET" in caught.value.remedy


async def test_a_bucket_that_we_may_not_use_names_the_action(
    world: World, s3: Any, store: Callable[[str], Aws]
) -> None:
    await world.cloud.break_api("PutObject", "refuse", code="AccessDenied", message="Access Denied")
    with pytest.raises(AwsError) as caught:
        await store(BUCKET).put_files(SHA, ARCHIVE)
    assert caught.value.kind == "denied"
    assert "s3:PutObject" in caught.value.remedy


def test_an_address_says_where() -> None:
    assert files_address("", SHA) == f"/files/{SHA}"
    assert files_address("bucket/prefix", SHA) == f"s3://bucket/prefix/{SHA}.tar.gz"
