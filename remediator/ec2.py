"""EC2 and SSM: the only module that knows boto3. Every call runs in one of a bounded number of threads."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import anyio.to_thread
import boto3
from anyio import CapacityLimiter
from botocore.config import Config
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

MANAGED: Final = "bot-orchestrator:managed"
BOT_TAG: Final = "bot-orchestrator:bot"
RESTART_DOCUMENT: Final = "BotOrchestrator-RestartBot"
RESTART_CONTENT: Final = {
    "schemaVersion": "2.2",
    "description": "Restart the bot's service. Takes no parameters, so that it can run nothing else.",
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "restart",
            "inputs": {"runCommand": ["systemctl restart bot.service"]},
        }
    ],
}

Kind = Literal["unavailable", "in_doubt", "capacity", "denied", "gone", "refused"]

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
_KINDS: Final[Mapping[Kind, str]] = {
    "capacity": "InsufficientInstanceCapacity InsufficientHostCapacity InstanceLimitExceeded"
    " VcpuLimitExceeded Unsupported",
    "denied": "AccessDenied AccessDeniedException UnauthorizedOperation AuthFailure Blocked"
    " InvalidClientTokenId UnrecognizedClientException ExpiredToken ExpiredTokenException RequestExpired"
    " OptInRequired SignatureDoesNotMatch PendingVerification",
    "gone": "InvalidInstanceID.NotFound InvalidInstanceId IdempotentInstanceTerminated",
    "unavailable": "RequestLimitExceeded Throttling ThrottlingException ThrottledException"
    " TooManyRequestsException ServiceUnavailable Unavailable",
}
_KIND_OF: Final = {code: kind for kind, codes in _KINDS.items() for code in codes.split()}

T = TypeVar("T")
Guard = Callable[[], None]  # asked in the last moment before an effect; raises where it must not be


class AwsError(Exception):
    """AWS said no, or nothing. `kind` says what can be done about it.

    `in_doubt`: the request may have been carried out. `unavailable`: it was not; try again later.
    """

    def __init__(self, kind: Kind, operation: str, code: str, message: str) -> None:
        super().__init__(f"{operation}: {code}: {message}" if code else f"{operation}: {message}")
        self.kind, self.operation, self.code = kind, operation, code


@dataclass(frozen=True, slots=True)
class Instance:
    id: str
    state: str
    private_address: str
    public_address: str
    tags: Mapping[str, str]
    reason: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """An Elastic IP."""

    allocation_id: str
    public_ip: str


@dataclass(frozen=True, slots=True)
class Command:
    """A restart sent by SSM. `status` as SSM has it (Pending, InProgress, Success, Failed, TimedOut, …)."""

    id: str
    status: str
    exit_code: int
    output: str = ""

    @property
    def ended(self) -> bool:
        return self.status not in ("Pending", "InProgress", "Delayed", "Cancelling")


class Aws:
    """Clients made at once. `once` sends a request a single time, where a repeat would be a second effect."""

    def __init__(self, *, region: str, endpoint_url: str | None, concurrency: int) -> None:
        self._limiter = CapacityLimiter(concurrency)
        session = boto3.session.Session(region_name=region)

        def config(attempts: int) -> Config:
            return Config(
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=3,
                read_timeout=15,
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
            raise _named(operation, error) from None

    # launching

    async def image_id(self, ami: str) -> str:
        """`ami` itself, or what the SSM public parameter of that name says."""
        if not ami.startswith("/"):
            return ami
        answer = await self._call("GetParameter", lambda: self._ssm.get_parameter(Name=ami))
        return answer["Parameter"]["Value"]

    async def run_instance(self, request: Mapping[str, Any], guard: Guard) -> str:
        """RunInstances, exactly as intended. The ClientToken in it makes a repeat harmless.

        Not so one that comes when another replica has cleaned up already: hence the guard.
        """

        def launch() -> str:
            guard()
            return self._ec2.run_instances(**request)["Instances"][0]["InstanceId"]

        return await self._call("RunInstances", launch)

    async def instances(self) -> dict[str, Instance]:
        """All instances that are ours, by id."""
        pages = self._ec2.get_paginator("describe_instances")
        ours = [{"Name": f"tag:{MANAGED}", "Values": ["true"]}]

        def read() -> dict[str, Instance]:
            return {
                raw["InstanceId"]: _instance(raw)
                for page in pages.paginate(Filters=ours)  # type: ignore[arg-type]  # a list of plain dicts
                for reservation in page["Reservations"]
                for raw in reservation["Instances"]
            }

        return await self._call("DescribeInstances", read)

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
        found = [_instance(raw) for group in answer["Reservations"] for raw in group["Instances"]]
        if not found or found[0].state in ("terminated", "shutting-down"):
            what = found[0].state if found else f"not found with the tag {MANAGED}=true"
            raise AwsError("gone", operation, "", f"instance {instance_id} is {what}")

    async def tag(self, instance_id: str, tags: Mapping[str, str]) -> None:
        await self._managed("CreateTags", instance_id)
        pairs: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
        await self._call("CreateTags", lambda: self._ec2.create_tags(Resources=[instance_id], Tags=pairs))

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

    # recovering

    async def reboot(self, instance_id: str, guard: Guard) -> None:
        """RebootInstances is asynchronous: only the bot can prove it (a new boot_id)."""

        def reboot() -> None:
            guard()
            self._ec2_once.reboot_instances(InstanceIds=[instance_id])

        await self._managed("RebootInstances", instance_id)
        await self._call("RebootInstances", reboot)

    async def send_restart(self, instance_id: str, comment: str, patience: float, guard: Guard) -> str:
        """SendCommand with the restart document; its command id. `comment` finds it again after a crash."""
        await self._managed("SendCommand", instance_id)

        def send() -> str:
            guard()
            answer = self._ssm_once.send_command(
                DocumentName=RESTART_DOCUMENT,
                InstanceIds=[instance_id],
                Comment=comment,
                TimeoutSeconds=max(30, int(patience)),  # SSM accepts no less than 30
            )
            return answer["Command"].get("CommandId", "")

        try:
            return await self._call("SendCommand", send)
        except AwsError as error:
            if error.code != "InvalidDocument":
                raise
        await self._create_restart_document()
        return await self._call("SendCommand", send)

    async def _create_restart_document(self) -> None:
        try:
            await self._call(
                "CreateDocument",
                lambda: self._ssm.create_document(
                    Name=RESTART_DOCUMENT,
                    DocumentType="Command",
                    DocumentFormat="JSON",
                    Content=json.dumps(RESTART_CONTENT),
                ),
            )
        except AwsError as error:
            if error.code != "DocumentAlreadyExists":
                raise

    async def find_restart(self, instance_id: str, comment: str) -> str | None:
        """The id of the command sent under that comment, if it was sent."""
        answer = await self._call(
            "ListCommands", lambda: self._ssm.list_commands(InstanceId=instance_id, MaxResults=50)
        )
        for command in answer["Commands"]:
            if command.get("Comment") == comment:
                return command.get("CommandId")
        return None

    async def command(self, instance_id: str, command_id: str) -> Command:
        """How a restart is going. SSM does not know it for a moment after it was sent: then it is Pending."""
        try:
            answer = await self._call(
                "GetCommandInvocation",
                lambda: self._ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id),
            )
        except AwsError as error:
            if error.code == "InvocationDoesNotExist":
                return Command(command_id, "Pending", -1)
            raise
        output = (answer.get("StandardErrorContent") or answer.get("StandardOutputContent") or "").strip()
        return Command(command_id, answer["Status"], answer.get("ResponseCode", -1), output[:500])

    # redeploying

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

    async def give_token(self, bot: str, instance_id: str) -> None:
        """Name the one instance that may use the bot's Telegram token; see remediator.handover."""
        await self._call(
            "PutParameter",
            lambda: self._ssm.put_parameter(
                Name=holder_parameter(bot), Value=instance_id, Type="String", Overwrite=True
            ),
        )

    async def find_address(self, bot: str) -> Address | None:
        """The bot's Elastic IP."""
        ours: Any = [
            {"Name": f"tag:{MANAGED}", "Values": ["true"]},
            {"Name": f"tag:{BOT_TAG}", "Values": [bot]},
        ]
        answer = await self._call(
            "DescribeAddresses", lambda: self._ec2.describe_addresses(Filters=ours)["Addresses"]
        )
        return Address(answer[0]["AllocationId"], answer[0]["PublicIp"]) if answer else None

    async def allocate_address(self, bot: str, guard: Guard) -> Address:
        """A new Elastic IP. There is no token to make a repeat harmless: look for one before."""
        tags: Any = [{"Key": MANAGED, "Value": "true"}, {"Key": BOT_TAG, "Value": bot}]
        tags.append({"Key": "Name", "Value": f"bot-{bot}"})

        def allocate() -> Address:
            guard()
            made = self._ec2_once.allocate_address(
                Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}]
            )
            return Address(made["AllocationId"], made["PublicIp"])

        return await self._call("AllocateAddress", allocate)

    async def associate_address(self, allocation_id: str, instance_id: str, guard: Guard) -> None:
        """The address leads to that instance from now on, wherever it led before."""

        def associate() -> None:
            guard()
            self._ec2.associate_address(
                AllocationId=allocation_id, InstanceId=instance_id, AllowReassociation=True
            )

        await self._managed("AssociateAddress", instance_id)
        await self._call("AssociateAddress", associate)

    async def release_address(self, allocation_id: str, guard: Guard) -> None:
        """Give it back; one that is gone already is no error."""

        def release() -> None:
            guard()
            (found,) = self._ec2.describe_addresses(AllocationIds=[allocation_id])["Addresses"]
            if not any(tag["Key"] == MANAGED for tag in found.get("Tags", [])):
                raise AwsError("refused", "ReleaseAddress", "", f"{allocation_id} is not tagged as ours")
            if "AssociationId" in found:
                self._ec2.disassociate_address(AssociationId=found["AssociationId"])
            self._ec2.release_address(AllocationId=allocation_id)

        try:
            await self._call("ReleaseAddress", release)
        except AwsError as error:
            if not error.code.startswith(("InvalidAllocationID", "InvalidAddressID")):
                raise

    # the bot's secret: SSM Parameter Store, and nowhere else

    async def put_token(self, bot: str, token: str) -> None:
        try:
            await self._call(
                "PutParameter",
                lambda: self._ssm.put_parameter(
                    Name=token_parameter(bot), Value=token, Type="SecureString", Overwrite=True
                ),
            )
        except AwsError as error:
            # An AWS that refuses a value may quote it, and this text goes to the log and to the journal.
            said = str(error).removeprefix(f"{error.operation}: ").replace(token, "********")
            raise AwsError(error.kind, error.operation, "", said) from None

    async def has_token(self, bot: str, since: float) -> bool:
        """Whether the parameter was written at or after that time (to the second, as AWS keeps it)."""
        try:
            answer = await self._call(
                "GetParameter",
                lambda: self._ssm.get_parameter(Name=token_parameter(bot), WithDecryption=False),
            )
        except AwsError as error:
            if error.code == "ParameterNotFound":
                return False
            raise
        return answer["Parameter"]["LastModifiedDate"].timestamp() >= since - 1

    async def delete_token(self, bot: str) -> None:
        """And the name of who may use it, or the next bot of this name would stand by for ever."""
        for name in (token_parameter(bot), holder_parameter(bot)):
            await self._delete_parameter(name)

    async def _delete_parameter(self, name: str) -> None:
        try:
            await self._call("DeleteParameter", lambda: self._ssm.delete_parameter(Name=name))
        except AwsError as error:
            if error.code != "ParameterNotFound":
                raise


def token_parameter(bot: str) -> str:
    return f"/bots/{bot}/telegram-token"


def holder_parameter(bot: str) -> str:
    """Names the instance that may use the token."""
    return f"/bots/{bot}/active"


def _instance(raw: Any) -> Instance:
    return Instance(
        id=raw["InstanceId"],
        state=raw["State"]["Name"],
        private_address=raw.get("PrivateIpAddress") or "",
        public_address=raw.get("PublicIpAddress") or "",
        tags={tag["Key"]: tag["Value"] for tag in raw.get("Tags", [])},
        reason=raw.get("StateReason", {}).get("Message", ""),
        zone=raw.get("Placement", {}).get("AvailabilityZone", ""),
    )


def _named(operation: str, error: ClientError | BotoCoreError) -> AwsError:
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
    lost = isinstance(error, HTTPClientError) and not _only_asks(operation)
    return AwsError("in_doubt" if lost else "unavailable", operation, "", str(error))


def _kind(operation: str, code: str, status: int) -> Kind:
    if status >= 500:
        return _KIND_OF.get(code, "unavailable" if _only_asks(operation) else "in_doubt")
    return _KIND_OF.get(code, "refused")


def _only_asks(operation: str) -> bool:
    """A question whose answer was lost has changed nothing."""
    return operation.startswith(("Describe", "Get", "List"))
