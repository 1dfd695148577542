"""Systems Manager: the restart of a bot's service, and its secret in Parameter Store (and nowhere else)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr

from remediator.awserror import AwsError
from remediator.caller import Caller, Guard

RESTART_DOCUMENT: Final = "BotOrchestrator-RestartBot"
RESTART_CONTENT: Final = Path(__file__).with_name("restart-document.json").read_text()

Registered = Literal["created", "updated", "unchanged"]


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


class Commands(Caller):
    """Restarting."""

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
        await self.register_document()
        return await self._call("SendCommand", send)

    async def must_be_managed(self, operation: str, instance_id: str) -> None:
        """AwsError of the kind `gone` where the instance is not ours, or not there, any more."""
        await self._managed(operation, instance_id)

    async def register_document(self) -> Registered:
        """Make the account's restart document what restart-document.json is."""
        document: Any = {"Name": RESTART_DOCUMENT, "DocumentFormat": "JSON", "Content": RESTART_CONTENT}
        try:
            await self._call(
                "CreateDocument", lambda: self._ssm.create_document(**document, DocumentType="Command")
            )
            return "created"
        except AwsError as error:
            if error.code != "DocumentAlreadyExists":
                raise
        there = await self._call("GetDocument", lambda: self._ssm.get_document(Name=RESTART_DOCUMENT))
        if json.loads(there["Content"]) == json.loads(RESTART_CONTENT):
            return "unchanged"
        updated = await self._call(
            "UpdateDocument", lambda: self._ssm.update_document(**document, DocumentVersion="$LATEST")
        )
        version = updated["DocumentDescription"]["DocumentVersion"]
        await self._call(
            "UpdateDocumentDefaultVersion",
            lambda: self._ssm.update_document_default_version(Name=RESTART_DOCUMENT, DocumentVersion=version),
        )
        return "updated"

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


class Parameters(Caller):
    """Images by their public parameter; the Telegram token of a bot, and which instance may use it."""

    async def image_id(self, ami: str) -> str:
        """`ami` itself, or what the SSM public parameter of that name says."""
        if not ami.startswith("/"):
            return ami
        answer = await self._call("GetParameter", lambda: self._ssm.get_parameter(Name=ami))
        return answer["Parameter"]["Value"]

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

    async def pooled_token(self, template: str, number: int) -> SecretStr | None:
        """A Telegram token that people put aside for a bot that scaling adds; None where there is none."""
        name = pool_parameter(template, number)
        try:
            answer = await self._call(
                "GetParameter", lambda: self._ssm.get_parameter(Name=name, WithDecryption=True)
            )
        except AwsError as error:
            if error.code == "ParameterNotFound":
                return None
            raise
        return SecretStr(answer["Parameter"]["Value"])

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

    async def give_token(self, bot: str, instance_id: str) -> None:
        """Name the one instance that may use the bot's Telegram token; see remediator.handover."""
        await self._call(
            "PutParameter",
            lambda: self._ssm.put_parameter(
                Name=holder_parameter(bot), Value=instance_id, Type="String", Overwrite=True
            ),
        )


def pool_parameter(template: str, number: int) -> str:
    return f"/pool/{template}/{number}"


def token_parameter(bot: str) -> str:
    return f"/bots/{bot}/telegram-token"


def holder_parameter(bot: str) -> str:
    """Names the instance that may use the token."""
    return f"/bots/{bot}/active"
