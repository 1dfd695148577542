"""The ways to restart a bot's service, behind one interface: by SSM, or by SSH.

`restart` carries it out; `settle` is asked after a crash, or after an answer that was lost, whether it was.
Neither sees whether it helped: that is for the prober.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from remediator.ec2 import Aws, AwsError
from remediator.journal import Done, Failed, Outcome
from remediator.prober import Look
from remediator.settings import Settings

COMMAND_POLL: Final = 0.5  # seconds between two looks at a restart that is under way
SETTLE_POLL: Final = 1.0
SENT_LATE: Final = 5.0  # seconds within which a command sent just before a crash is in SSM's list
STOPPED_LATE: Final = 90.0  # seconds: a bot that was told to stop has stopped by then (TimeoutStopSec)


@dataclass(frozen=True, slots=True)
class Order:
    """One restart of one bot. Its intent is on disk."""

    instance_id: str
    host: str
    comment: str  # of this attempt alone
    before: Mapping[str, Any]  # the bot's boot_id and started_at, as far as they were known
    began_at: float  # Unix time of the intent
    timeout: float  # seconds from then to the deadline
    now: Callable[[], float]
    guard: Callable[[], None]  # asked in the last moment; raises where it must not be done any more
    look: Callable[[], Awaitable[Look]]

    @property
    def deadline(self) -> float:
        return self.began_at + self.timeout


class Restarter(Protocol):
    async def restart(self, order: Order) -> Outcome: ...
    async def settle(self, order: Order) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class SsmRestarter:
    """`systemctl restart bot.service` by a document without parameters. No key, no open port."""

    aws: Aws

    async def restart(self, order: Order) -> Outcome:
        """Done when the command says that it succeeded."""
        patience = order.deadline - order.now()
        command_id = await self.aws.send_restart(order.instance_id, order.comment, patience, order.guard)
        return await self._ended(order, command_id)

    async def settle(self, order: Order) -> Outcome:
        """SSM keeps the commands it was sent, with our comment: either it was sent, or it is sent now.

        It may have been sent long after the intent, where AWS was away: the wait for SSM's list begins here.
        """
        since = order.now()
        while True:
            seen_at = order.now()
            found = await self.aws.find_restart(order.instance_id, order.comment)
            if found is not None:
                return await self._ended(order, found)
            if seen_at >= since + SENT_LATE:
                return await self.restart(replace(order, began_at=seen_at))
            await asyncio.sleep(SETTLE_POLL)

    async def _ended(self, order: Order, command_id: str) -> Outcome:
        while True:
            try:
                command = await self.aws.command(order.instance_id, command_id)
            except AwsError as error:
                if error.kind not in ("unavailable", "in_doubt"):
                    raise
            else:
                if command.status == "Success":
                    return Done({"command_id": command_id}, "the service was restarted")
                if command.ended:
                    why = f"the restart ended as {command.status}, exit code {command.exit_code}"
                    return Failed(f"{why}: {command.output}" if command.output else why)
            if order.now() >= order.deadline:
                return Failed("the restart was still running at its deadline")
            await asyncio.sleep(COMMAND_POLL)


@dataclass(frozen=True, slots=True)
class SshRestarter:
    """By ssh(1), with a key whose forced command is the restart (`cloudinit.authorized`)."""

    aws: Aws
    user: str
    key_file: Path
    known_hosts_file: Path  # a line an instance: its id, and its key
    port: int = 22
    ssh: str = "ssh"

    async def restart(self, order: Order) -> Outcome:
        """Done when the forced command ends well. A connection lost on the way leaves it to be settled."""
        outcome = await self._send(order)
        return outcome if outcome is not None else await self.settle(order)

    async def settle(self, order: Order) -> Outcome:
        """The bot's started_at (or boot_id) settles it. One that does not say is never restarted on a guess.

        A bot that runs on, so long after it was told to stop, was not told: it is now, this once.
        """
        until = min(order.deadline, order.began_at + STOPPED_LATE)
        while True:
            look = await order.look()
            if any(_differs(getattr(look, key), order.before.get(key)) for key in ("started_at", "boot_id")):
                return Done({}, "settled: the bot has started anew")
            if order.now() >= until:
                break
            await asyncio.sleep(SETTLE_POLL)
        if look.started_at is None or look.started_at != order.before.get("started_at"):
            return Done({}, "in doubt, and not done again: the bot does not say since when it runs")
        outcome = await self._send(replace(order, began_at=order.now()))
        return outcome if outcome is not None else Failed("the connection was lost, twice")

    async def _send(self, order: Order) -> Outcome | None:
        """None: it may have been carried out, and may not."""
        await self.aws.must_be_managed("restart by SSH", order.instance_id)
        order.guard()
        process = await asyncio.create_subprocess_exec(
            *self._argv(order),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(max(1, order.deadline - order.now())):
                output, _ = await process.communicate()
        except TimeoutError:
            return Failed("the restart was still running at its deadline")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        said = " ".join(output.decode(errors="replace").split())[-500:]
        if process.returncode == 0:
            return Done({}, "the service was restarted")
        if process.returncode != SSH_FAILED:
            return Failed(f"the restart ended with exit code {process.returncode}: {said}")
        if not any(sign in said for sign in NEVER_SENT):
            return None
        return Failed(f"ssh to {order.instance_id} ({order.host}): {said}{self._remedy(order, said)}")

    def _argv(self, order: Order) -> list[str]:
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts_file,
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": order.instance_id,  # an address is given to another instance one day
            "ConnectTimeout": 10,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
            "LogLevel": "ERROR",
        }
        pairs = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        where = ["-i", str(self.key_file), "-p", str(self.port), "-l", self.user, "--", order.host]
        # The forced command is run whatever is asked for; the comment is for the log of the instance.
        return [self.ssh, "-F", "none", "-T", *pairs, *where, order.comment]

    def _remedy(self, order: Order, said: str) -> str:
        if "Host key verification failed" in said:
            return (
                f"; put its key into {self.known_hosts_file} as a line that begins with {order.instance_id}:"
                f" aws ec2 get-console-output --latest --instance-id {order.instance_id} shows it"
            )
        if "Permission denied" in said:
            return (
                f"; {self.key_file} is not the key that {self.user} accepts there: an instance gets the"
                " SSH_PUBLIC_KEY of its deployment, so redeploy it"
            )
        return ""


SSH_FAILED: Final = 255  # ssh(1): the exit status of the command, or this if an error occurred
NEVER_SENT: Final = (
    "Host key verification failed",
    "Permission denied",
    "ssh: connect to host",
    "ssh: Could not resolve hostname",
    "kex_exchange_identification",
)


def restarter_of(settings: Settings, aws: Aws) -> Restarter:
    key, hosts = settings.ssh_key_file, settings.ssh_known_hosts_file
    if settings.restarter == "ssm" or key is None or hosts is None:  # the settings refuse ssh without them
        return SsmRestarter(aws)
    return SshRestarter(aws, settings.ssh_user, key, hosts, settings.ssh_port)


def _differs(now: str | None, before: object) -> bool:
    return now is not None and before is not None and now != before
