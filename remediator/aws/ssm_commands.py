"""Systems Manager's Run Command: documents of ours, each of which can do one thing to a bot's instance."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from remediator.aws.client import AwsClient, BeforeEffect, no_lease
from remediator.aws.errors import AwsError

Registration = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the account. `content`: JSON, as the file has it."""

    name: str
    content: str


def _shipped(name: str, file: str) -> Document:
    return Document(name, Path(__file__).with_name(file).read_text())


RESTART: Final = _shipped("BotOrchestrator-RestartBot", "restart-document.json")  # takes no parameters
PAIRING: Final = _shipped("BotOrchestrator-Pairing", "pairing-document.json")  # takes a code, or none
DOCUMENTS: Final = (RESTART, PAIRING)


@dataclass(frozen=True, slots=True)
class Command:
    """A command sent by SSM. `status` as SSM has it: Pending, InProgress, Success, Failed, TimedOut, …

    `output`: what it said, for people; `stdout` and `stderr`: all of it, each of at most 24,000 characters.
    """

    id: str
    status: str
    exit_code: int
    output: str = ""
    stdout: str = ""
    stderr: str = ""

    @property
    def ended(self) -> bool:
        """Return whether SSM will not change its status any more."""
        return self.status not in ("Pending", "InProgress", "Delayed", "Cancelling")


class SsmCommands(AwsClient):
    """Commands by SendCommand, and the documents that they run."""

    async def send_restart(
        self, instance_id: str, idempotency_key: str, patience: float, guard: BeforeEffect
    ) -> str:
        """Send the restart document (SendCommand), and return the command's id.

        SSM takes no idempotency token, so the key is the command's comment: `find_restart` finds it by that.
        """
        return await self._send(RESTART, instance_id, {}, idempotency_key, patience, guard)

    async def send_pairing(self, instance_id: str, code: str, comment: str, patience: float) -> str:
        """Send the pairing document, and return the command's id. `code`: admit them; "": list who asks.

        To send it twice is harmless: a code works once.
        """
        parameters = {"code": [code]}
        return await self._send(PAIRING, instance_id, parameters, comment[:100], patience, no_lease)

    async def _send(
        self,
        document: Document,
        instance_id: str,
        parameters: Mapping[str, list[str]],
        comment: str,
        patience: float,
        guard: BeforeEffect,
    ) -> str:
        """Send a document, which is registered where the account has not got it (any more)."""
        await self.must_be_managed("SendCommand", instance_id)

        def send() -> str:
            guard()
            answer = self._ssm_once.send_command(
                DocumentName=document.name,
                InstanceIds=[instance_id],
                Parameters=parameters,
                Comment=comment,
                TimeoutSeconds=max(30, int(patience)),  # SSM accepts no less than 30
            )
            return answer["Command"].get("CommandId", "")

        try:
            return await self._call("SendCommand", send)
        except AwsError as error:
            if error.code != "InvalidDocument":
                raise
        await self.register_document(document)
        return await self._call("SendCommand", send)

    async def register_document(self, document: Document) -> Registration:
        """Create or update a document of the account, also where an earlier call got half of the way."""
        request: Any = {"Name": document.name, "DocumentFormat": "JSON", "Content": document.content}
        content = json.loads(document.content)
        registered = await self._registered(document.name)
        if registered is None:
            try:
                await self._call(
                    "CreateDocument", lambda: self._ssm.create_document(**request, DocumentType="Command")
                )
                return "created"
            except AwsError as error:
                if error.code != "DocumentAlreadyExists":
                    raise
            # Another was faster, or the first answer to this very call was lost.
            registered = await self._registered(document.name)
            if registered is not None and registered[1] == content:
                return "created"
        if registered is not None and registered[1] == content:
            return "unchanged"
        latest = await self._registered(document.name, DocumentVersion="$LATEST")
        if latest is not None and latest[1] == content:  # it is no default only for want of the last step
            version = latest[0]
        else:
            updated = await self._call(
                "UpdateDocument", lambda: self._ssm.update_document(**request, DocumentVersion="$LATEST")
            )
            version = updated["DocumentDescription"]["DocumentVersion"]
        await self._call(
            "UpdateDocumentDefaultVersion",
            lambda: self._ssm.update_document_default_version(Name=document.name, DocumentVersion=version),
        )
        return "updated"

    async def _registered(self, name: str, **version: Any) -> tuple[str, object] | None:
        """Return number and parsed content of a document's default (or given) version; None if unknown."""
        try:
            answer = await self._call("GetDocument", lambda: self._ssm.get_document(Name=name, **version))
        except AwsError as error:
            if error.code == "InvalidDocument":
                return None
            raise
        return answer["DocumentVersion"], json.loads(answer["Content"])

    async def find_restart(self, instance_id: str, idempotency_key: str) -> str | None:
        """Return the id of the command that was sent under that key, if it was sent."""
        answer = await self._call(
            "ListCommands", lambda: self._ssm.list_commands(InstanceId=instance_id, MaxResults=50)
        )
        for command in answer["Commands"]:
            if command.get("Comment") == idempotency_key:
                return command.get("CommandId")
        return None

    async def command(self, instance_id: str, command_id: str) -> Command:
        """Return how a command is going.

        SSM does not know it for a moment after it was sent: then it is Pending.
        """
        try:
            answer = await self._call(
                "GetCommandInvocation",
                lambda: self._ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id),
            )
        except AwsError as error:
            if error.code == "InvocationDoesNotExist":
                return Command(command_id, "Pending", -1)
            raise
        stdout = answer.get("StandardOutputContent") or ""
        stderr = answer.get("StandardErrorContent") or ""
        code, output = answer.get("ResponseCode", -1), (stderr or stdout).strip()[:500]
        return Command(command_id, answer["Status"], code, output, stdout, stderr)
