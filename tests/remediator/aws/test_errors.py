"""The kinds of AWS's errors."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.retries.standard import ThrottledRetryableChecker

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError, from_botocore

THROTTLED_BY_BOTOCORE: Any = getattr(ThrottledRetryableChecker, "_THROTTLED_ERROR_CODES")  # noqa: B009 -- private


@pytest.mark.parametrize(
    ("operation", "code", "status", "kind"),
    [
        ("DescribeInstances", "InternalError", 500, "unavailable"),  # a question: it changed nothing
        ("GetCommandInvocation", "", 502, "unavailable"),
        ("ListCommands", "AccessDeniedException", 400, "denied"),
        ("DescribeInstances", "InvalidParameterValue", 400, "refused"),
        ("RebootInstances", "InternalError", 500, "in_doubt"),
        ("SendCommand", "InternalServerError", 500, "in_doubt"),
        ("RebootInstances", "RequestLimitExceeded", 503, "unavailable"),
        ("RebootInstances", "AccessDenied", 403, "denied"),
        ("RebootInstances", "UnauthorizedOperation", 403, "denied"),
        ("RebootInstances", "InvalidInstanceID.NotFound", 400, "gone"),
        ("RunInstances", "InsufficientInstanceCapacity", 500, "capacity"),
        ("RunInstances", "IdempotentParameterMismatch", 400, "refused"),
        ("PutParameter", "TooManyUpdates", 400, "unavailable"),
        ("PutObject", "SlowDown", 503, "unavailable"),
        ("GetParameter", "RequestTimeout", 400, "unavailable"),
    ],
)
def test_every_refusal_is_of_a_known_kind(operation: str, code: str, status: int, kind: str) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert from_botocore(operation, ClientError(answer, operation)).kind == kind


@pytest.mark.parametrize("code", sorted(set(THROTTLED_BY_BOTOCORE) - {"LimitExceededException"}))
def test_what_botocore_counts_as_throttling_is_throttling(code: str) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    error = from_botocore("RunInstances", ClientError(answer, "RunInstances"))
    assert error.kind == "unavailable"
    assert error.throttled or code == "TransactionInProgressException"


def test_an_agent_that_is_away_is_named_as_such() -> None:
    """SSM says InvalidInstanceId of an instance that it does not hear, whoever still has it."""
    assert "agent" in AwsError("gone", "SendCommand", "InvalidInstanceId", "not in a valid state").remedy
    assert "CloudTrail" in AwsError("gone", "StopInstances", "InvalidInstanceID.NotFound", "gone").remedy


def test_an_image_of_another_architecture_is_refused_and_the_settings_are_named() -> None:
    message = "The architecture 'arm64' of the specified instance type does not match that"
    error = AwsError("refused", "RunInstances", "InvalidParameterValue", f"{message} of the AMI.")
    assert "the settings AMI (x86_64) and AMI_ARM64" in error.with_remedy


async def test_an_aws_that_is_not_there_is_unavailable_and_not_in_doubt() -> None:
    aws = Aws(region="us-west-1", endpoint_url="http://127.0.0.1:9", concurrency=2)
    with pytest.raises(AwsError) as caught:
        await aws.put_token("forge", "42:planted-token")
    assert caught.value.kind == "unavailable"
    assert "planted-token" not in str(caught.value)
