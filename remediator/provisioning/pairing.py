"""Pairing: who wrote to a bot and waits to be admitted, and admitting them, by OpenClaw's own command.

It is run on the instance by SSM, with a document that can do nothing else.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.ssm_commands import Command
from remediator.errors import Refused
from remediator.model import Bot

PATIENCE: Final = 120.0  # seconds; OpenClaw's command takes 4 to 17, and longer where memory is short
POLL: Final = 0.5
CODE: Final = re.compile(r"[A-HJ-NP-Z2-9]{8}")  # OpenClaw's pairing-store
_APPROVED: Final = re.compile(r"^Approved telegram sender (\d+)\.$", re.M)
NO_SUCH_CODE: Final = "No pending pairing request found"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody who wrote to the bot. Times are ISO 8601; the code is good for an hour."""

    code: str
    sender: str  # their numeric Telegram id
    name: str
    asked_at: str
    last_seen_at: str


def valid_code(code: str) -> str:
    """Return the code as OpenClaw spells it. ValueError where it is none."""
    spelt = code.strip().upper()
    if not CODE.fullmatch(spelt):
        raise ValueError("must be the 8 letters and digits that the bot gave, without I, O, 0 and 1")
    return spelt


def requests_in(stdout: str) -> list[Waiting]:
    """Read the answer of `openclaw pairing list telegram --json`. ValueError where it is none."""
    start = stdout.find("{")
    try:
        return [_request(entry) for entry in json.loads(stdout[start:] if start >= 0 else "")["requests"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no list of requests: {error}") from None


def _request(entry: Any) -> Waiting:
    meta = entry.get("meta") or {}
    names = [
        meta.get("firstName"),
        meta.get("lastName"),
        f"@{meta['username']}" if "username" in meta else "",
    ]
    return Waiting(
        code=str(entry["code"]),
        sender=str(meta.get("senderId") or entry["id"]),
        name=" ".join(str(name) for name in names if name)[:200],
        asked_at=str(entry["createdAt"]),
        last_seen_at=str(entry["lastSeenAt"]),
    )


def approved_in(stdout: str) -> str | None:
    """Return the id of whom `openclaw pairing approve` admitted.

    It says so and then, where nobody owns its commands, fails to write that into its configuration, which is
    ours: its exit code is 1 all the same (seen with 2026.9.6).
    """
    match = _APPROVED.search(stdout)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Pairing:
    """Asks a bot's instance, and waits for its answer."""

    aws: Aws
    clock: Callable[[], float]  # monotonic, in seconds
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    patience: float = PATIENCE

    async def waiting(self, bot: Bot) -> list[Waiting]:
        """Return who waits to be admitted, oldest first. Raise Refused (unavailable), AwsError."""
        command = await self._run(bot, "")
        try:
            if command.status != "Success":
                raise ValueError
            return requests_in(command.stdout)
        except ValueError:
            raise _failed(command) from None

    async def approve(self, bot: Bot, code: str) -> str:
        """Admit whom the bot gave this code; return their id. Raise Refused (unknown, unavailable)."""
        command = await self._run(bot, code)
        if (sender := approved_in(command.stdout)) is not None:
            return sender
        if NO_SUCH_CODE in command.stderr:
            remedy = f"a code is good for an hour: botctl pairing list {bot.name} shows those that are"
            raise Refused("unknown", "nobody waits with this code", field="code", remedy=remedy)
        raise _failed(command)

    async def _run(self, bot: Bot, code: str) -> Command:
        """Send the command, and return it once it has ended."""
        deadline = self.clock() + self.patience
        try:
            command_id = await self.aws.send_pairing(
                bot.instance_id, code, f"pairing of {bot.name}", self.patience
            )
        except AwsError as error:
            if error.code != "InvalidInstanceId":
                raise
            remedy = (
                "see that its SSM agent is online: aws ssm describe-instance-information lists those that are"
            )
            raise Refused(
                "unavailable", "SSM does not reach its instance", field="bot", remedy=remedy
            ) from None
        while True:
            command = await self.aws.command(bot.instance_id, command_id)
            if command.ended:
                return command
            if self.clock() >= deadline:
                remedy = f"ask again; aws ssm get-command-invocation shows {command_id}"
                message = f"its instance did not answer within {self.patience:.0f} s"
                raise Refused("unavailable", message, field="bot", remedy=remedy)
            await self.sleep(POLL)


def _failed(command: Command) -> Refused:
    output = f": {command.output}" if command.output else ""
    return Refused(
        "unavailable",
        f"the command ended as {command.status}, exit code {command.exit_code}{output}",
        field="bot",
        remedy="see that its instance was deployed by this service and that bot.service runs there",
    )
