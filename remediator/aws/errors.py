"""Errors of AWS by kind, and what to do about each.

| kind | what it means | what we do |
| --- | --- | --- |
| `unavailable` | throttled, or away: it was not done | again, with growing pauses |
| `in_doubt` | the answer was lost: it may have been done | look at the effect, else the same request again |
| `capacity` | no room for the instance there | the next zone, then the next type, as a new attempt |
| `denied` | our permissions or credentials | end, tell people, climb no ladder |
| `gone` | what it is about is not there any more | often that is as good as done |
| `refused` | the request itself is wrong | end and tell people |
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

Kind = Literal["unavailable", "in_doubt", "capacity", "denied", "gone", "refused"]
LaunchError = Literal["throttled", "transient", "capacity", "denied", "gone", "refused"]

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html; TooManyUpdates is of SSM's
# PutParameter; the rest is what botocore counts as throttling (botocore.retries.standard).
THROTTLED: Final = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException"}
    | {"TooManyRequestsException", "RequestThrottled", "RequestThrottledException", "EC2ThrottledException"}
    | {"PriorRequestNotComplete", "BandwidthLimitExceeded", "ProvisionedThroughputExceededException"}
    | {"TooManyUpdates", "RateExceeded", "SlowDown"}
)
LIMITS: Final = frozenset(
    {"InstanceLimitExceeded", "VcpuLimitExceeded", "VolumeLimitExceeded"}
    | {"AddressLimitExceeded", "SnapshotLimitExceeded"}
)
"""The account's own limits: no other zone and no other type would help."""
_CODES: Final[Mapping[Kind, str]] = {
    "capacity": "InsufficientInstanceCapacity InsufficientHostCapacity InsufficientCapacity"
    " InsufficientFreeAddressesInSubnet InsufficientAddressCapacity InsufficientVolumeCapacity Unsupported",
    "denied": "AccessDenied AccessDeniedException UnauthorizedOperation AuthFailure Blocked"
    " InvalidClientTokenId UnrecognizedClientException ExpiredToken ExpiredTokenException RequestExpired"
    " OptInRequired SignatureDoesNotMatch PendingVerification",
    "gone": "InvalidInstanceID.NotFound InvalidInstanceId IdempotentInstanceTerminated"
    " InvalidVolume.NotFound InvalidSnapshot.NotFound InvalidAllocationID.NotFound"
    " InvalidAddressID.NotFound InvalidAssociationID.NotFound",
    "unavailable": "ServiceUnavailable Unavailable RequestTimeout RequestTimeoutException"
    " ConditionalRequestConflict TransactionInProgressException",
}
_KIND_OF: Final[Mapping[str, Kind]] = (
    {code: kind for kind, codes in _CODES.items() for code in codes.split()}
    | dict.fromkeys(THROTTLED, "unavailable")
    | dict.fromkeys(LIMITS, "capacity")
)
_REMEDIES: Final[Mapping[str, str]] = {
    "NoSuchBucket": "see the setting FILES_BUCKET: there is no such bucket",
    "PermanentRedirect": "see the setting FILES_BUCKET: the bucket must be in AWS_REGION",
    "InvalidAMIID": "see the settings AMI and AMI_ARM64: one names no image of this region",
    "InvalidKeyPair": "see the setting KEY_NAME: there is no such key pair",
    "InvalidSubnetID": "see the setting SUBNET_IDS: there is no such subnet",
    "InvalidGroup": "see the setting SECURITY_GROUP_IDS: there is no such group",
    "InvalidSecurityGroupID": "see the setting SECURITY_GROUP_IDS: there is no such group",
    "InvalidParameterValue": "see the value that AWS names; it comes from the bot's template or a setting",
    "ParameterNotFound": "see the settings AMI and AMI_ARM64: there is no such public parameter",
    "IdempotentParameterMismatch": "a fault of ours: this token was used for another request; deploy anew",
}
_OPERATIONS: Final[Mapping[str, frozenset[str]]] = {  # of services other than EC2
    "ssm": frozenset(
        {"GetParameter", "PutParameter", "DeleteParameter", "SendCommand", "GetCommandInvocation"}
        | {"ListCommands", "CreateDocument", "UpdateDocument", "DescribeDocument", "GetDocument"}
    ),
    "s3": frozenset({"GetObject", "PutObject"}),
    "pricing": frozenset({"GetProducts"}),
}


class AwsError(Exception):
    """A request that AWS refused, or did not answer. `kind` says what can be done about it.

    `in_doubt`: the request may have been carried out. `unavailable`: it was not; try again later.
    """

    def __init__(self, kind: Kind, operation: str, code: str, message: str) -> None:
        super().__init__(f"{operation}: {code}: {message}" if code else f"{operation}: {message}")
        self.kind, self.operation, self.code = kind, operation, code

    @property
    def throttled(self) -> bool:
        """Return whether AWS had too many requests of this account."""
        return self.code in THROTTLED

    @property
    def limit(self) -> bool:
        """Return whether the account's own limit is reached."""
        return self.code in LIMITS

    @property
    def launch_error_label(self) -> LaunchError:
        """Return the kind as `bot_launch_errors_total` has it."""
        if self.kind == "unavailable" or self.kind == "in_doubt":
            return "throttled" if self.throttled else "transient"
        return self.kind

    @property
    def remedy(self) -> str:
        """Return what a person can do about it."""
        service = next((name for name, calls in _OPERATIONS.items() if self.operation in calls), "ec2")
        match self.kind:
            case "unavailable" if self.throttled:
                return "AWS throttles this account: see who else calls it, or raise LAUNCH_REFILL"
            case "unavailable" | "in_doubt":
                return "AWS could not be reached or was busy: see its status page and this host's network"
            case "capacity" if self.limit:
                return "ask AWS for a higher quota (Service Quotas), or retire a bot"
            case "capacity":
                return "name more subnets (SUBNET_IDS) or zones (ZONES) and other types (INSTANCE_TYPES)"
            case "denied":
                match = re.search(r"perform: ([a-z0-9]+:[A-Za-z]+)", str(self))
                action = match[1] if match else f"{service}:{self.operation}"
                return f"allow {action} to this service; iam/remediator.json is its policy"
            case "gone" if self.operation in _OPERATIONS["ssm"]:
                return (
                    "its SSM agent is not connected, or the instance is ended: see its state, its role's "
                    "policy, its way to SSM, and the agent's own log"
                )
            case "gone":
                return "redeploy the bot; AWS's CloudTrail says who ended an instance"
            case _ if "architecture" in str(self):
                return "see the settings AMI (x86_64) and AMI_ARM64: the image is not of the type's"
            case _:
                return _REMEDIES.get(self.code.partition(".")[0], "see which value AWS names")

    @property
    def with_remedy(self) -> str:
        """Return the error for people: what AWS said, and the remedy."""
        return f"{self} ({self.remedy})"


def from_botocore(operation: str, error: ClientError | BotoCoreError) -> AwsError:
    """Return botocore's error as one of ours, with its kind."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return AwsError(_kind(operation, code, status), operation, code, message)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return AwsError("denied", operation, "", f"{error}; give this process AWS credentials")
    if isinstance(error, ParamValidationError):
        return AwsError("refused", operation, "", str(error))
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return AwsError("unavailable", operation, "", str(error))
    lost = isinstance(error, HTTPClientError) and not _is_read_only(operation)
    return AwsError("in_doubt" if lost else "unavailable", operation, "", str(error))


def _kind(operation: str, code: str, status: int) -> Kind:
    if status >= 500:
        return _KIND_OF.get(code, "unavailable" if _is_read_only(operation) else "in_doubt")
    return _KIND_OF.get(code, "refused")


def _is_read_only(operation: str) -> bool:
    """Return whether the operation changes nothing, so that nothing is in doubt where its answer was lost."""
    return operation.startswith(("Describe", "Get", "List"))
