"""A client of the cloud in a box: start it, list its bots, make them ill."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp

from sandbox.cloud.faults import ApiFaultKind, CuredBy, FaultKind
from sandbox.process.processes import Process, log_matches

LISTENING = r"listening url=(\S+)\n"


class CloudError(RuntimeError):
    """The cloud refused, or is not there; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class SandboxBot:
    """A bot of an instance."""

    bot: str
    instance_id: str
    address: str  # host:port
    state: str  # of the instance, in EC2's words
    pid: int | None
    boot_id: str
    fault: FaultKind | None


@dataclass(frozen=True, slots=True)
class Effect:
    """An action on an instance, as the cloud recorded it."""

    at: float  # unix seconds
    action: str  # run, restart, reboot, terminate, stop, start, pairing
    instance_id: str
    bot: str


class Cloud:
    """A running cloud, known by its URL, which is also boto3's `endpoint_url` for EC2 and SSM."""

    def __init__(self, endpoint_url: str, process: Process | None = None) -> None:
        self.endpoint_url = endpoint_url.rstrip("/")
        self.process = process

    async def bots(self) -> list[SandboxBot]:
        """List the bots of all instances that are not terminated, oldest first."""
        return [SandboxBot(**bot) for bot in await self._call("GET", "bots")]

    async def fault(
        self,
        bot: str,
        kind: FaultKind,
        *,
        cured_by: CuredBy = "restart",
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Make a bot ill. `seconds` is how late a slow one answers, `reason` why calls of a mute one fail."""
        body = {"bot": bot, "kind": kind, "cured_by": cured_by, "seconds": seconds, "reason": reason}
        await self._call("POST", "fault", {name: value for name, value in body.items() if value is not None})

    async def heal(self, bot: str | None = None) -> None:
        """Heal one bot, or all; what died is started again."""
        await self._call("POST", "heal", {"bot": bot})

    async def forget(self) -> None:
        """Forget terminated instances, as EC2 does after about an hour."""
        await self._call("POST", "forget", {})

    async def ask_to_pair(self, bot: str, sender: int, name: str = "") -> str:
        """Write to a bot as somebody whom it does not know; return the code that it gives."""
        answer = await self._call("POST", "pair", {"bot": bot, "sender": sender, "name": name})
        return str(answer["code"])

    async def effects(self, bot: str | None = None) -> list[Effect]:
        """List everything that was ever done to the fleet, or to that bot's instances, oldest first."""
        return [Effect(**effect) for effect in await self._call("GET", "effects", {"bot": bot})]

    async def break_api(
        self,
        action: str,
        how: ApiFaultKind,
        *,
        code: str = "InternalError",
        message: str = "",
        seconds: float = 0,
        times: int = 1,
    ) -> None:
        """Refuse, delay, or leave without an answer the next `times` calls of that AWS action."""
        fault = {"how": how, "code": code, "message": message, "seconds": seconds, "times": times}
        await self._call("POST", "break", {"action": action, **fault})

    async def _call(self, method: str, name: str, payload: Mapping[str, Any] | None = None) -> Any:
        url = f"{self.endpoint_url}/_sandbox/{name}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
                session.request(method, url, json=payload) as response,
            ):
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CloudError(f"{url}: {str(error) or 'no answer'}") from error
        if response.status != 200:
            raise CloudError(answer["error"])
        return answer


@asynccontextmanager
async def run_cloud(
    state: Path, *, boot_seconds: float = 0.3, openclaw: Sequence[str] = ()
) -> AsyncIterator[Cloud]:
    """Run a cloud in a process of its own, on a free port; it and its bots are gone at the end.

    `openclaw`: the bots are real ones, and these are the URLs of Telegram's and of Anthropic's API for them.
    """
    argv: list[str | Path] = [
        sys.executable,
        "-m",
        "sandbox",
        "cloud",
        "--state",
        state,
        "--listen",
        "127.0.0.1:0",
    ]
    process = Process(
        [*argv, "--boot-seconds", str(boot_seconds), *(("--openclaw", *openclaw) if openclaw else ())],
        name="cloud",
        log=state / "cloud.log",
        cwd=Path(__file__).parents[2],
        ready=log_matches(LISTENING),
    )
    async with process:
        url = cast(re.Match[str], re.search(LISTENING, process.log_text()))[1]
        yield Cloud(url, process)
