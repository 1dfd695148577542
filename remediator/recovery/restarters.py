"""The ways to restart a bot's service, behind one interface: by SSM, or by SSH.

`restart` carries it out; `settle` is asked after a crash, or after an answer that was lost, whether it was.
Neither proves that it helped: that is the prober's.
"""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.engine.journal import Done, Failed, Outcome
from remediator.monitoring.prober import Prober
from remediator.recovery.tier_request import TierRequest
from remediator.settings import Settings

COMMAND_POLL: Final = 0.5  # seconds between two questions about a restart that is under way
SETTLE_POLL: Final = 1.0  # seconds between two questions about what a step in doubt came to
SENT_LATE: Final = 5.0  # seconds within which a command sent just before a crash is in SSM's list
STOPPED_LATE: Final = 90.0  # seconds: a bot that was told to stop has stopped by then (TimeoutStopSec)

SSH_FAILED: Final = 255  # ssh(1): the exit status of the command, or this if an error occurred
NEVER_SENT: Final = (
    "Host key verification failed",
    "Permission denied",
    "ssh: connect to host",
    "ssh: Could not resolve hostname",
    "kex_exchange_identification",
)


class Restarter(Protocol):
    """Restarts the service of a bot, once."""

    async def restart(self, request: TierRequest) -> Outcome:
        """Restart it, and wait until that is done or has failed."""

    async def settle(self, request: TierRequest) -> Outcome:
        """Find out whether it was restarted, and restart it only where it certainly was not."""


@dataclass(frozen=True, slots=True)
class SsmRestarter:
    """`systemctl restart bot.service` by a document without parameters. No key, no open port."""

    aws: Aws

    async def restart(self, request: TierRequest) -> Outcome:
        """Send the command. Done when it says that it succeeded."""
        patience = request.deadline - request.now()
        command_id = await self.aws.send_restart(
            request.instance_id, request.idempotency_key, patience, request.check_lease
        )
        return await self._wait(request, command_id)

    async def settle(self, request: TierRequest) -> Outcome:
        """Look the command up by its idempotency key: either it was sent, or it is sent now.

        It may have been sent long after the intent, where AWS was away: the wait for SSM's list begins here.
        """
        since = request.now()
        while True:
            listed_at = request.now()
            command_id = await self.aws.find_restart(request.instance_id, request.idempotency_key)
            if command_id is not None:
                return await self._wait(request, command_id)
            if listed_at >= since + SENT_LATE:
                return await self.restart(replace(request, began_at=listed_at))
            await asyncio.sleep(SETTLE_POLL)

    async def _wait(self, request: TierRequest, command_id: str) -> Outcome:
        while True:
            try:
                command = await self.aws.command(request.instance_id, command_id)
            except AwsError as error:
                if error.kind not in ("unavailable", "in_doubt"):
                    raise
            else:
                if command.status == "Success":
                    return Done({"command_id": command_id}, "the service was restarted")
                if command.ended:
                    reason = f"the restart ended as {command.status}, exit code {command.exit_code}"
                    return Failed(f"{reason}: {command.output}" if command.output else reason)
            if request.now() >= request.deadline:
                return Failed("the restart was still running at its deadline")
            await asyncio.sleep(COMMAND_POLL)


@dataclass(frozen=True, slots=True)
class SshRestarter:
    """By ssh(1), with a key whose forced command is the restart (`cloudinit.authorized`)."""

    aws: Aws
    prober: Prober
    user: str
    key_file: Path
    known_hosts_file: Path  # a line an instance: its id, and its key
    port: int = 22
    ssh: str = "ssh"

    async def restart(self, request: TierRequest) -> Outcome:
        """Run ssh. Done when the forced command ends well; a connection that was lost leaves it in doubt."""
        outcome = await self._send(request)
        return outcome if outcome is not None else await self.settle(request)

    async def settle(self, request: TierRequest) -> Outcome:
        """Compare the bot's started_at and boot_id. One that does not say is never restarted on a guess.

        A bot that runs on, so long after it was told to stop, was not told: it is now, this once.
        """
        until = min(request.deadline, request.began_at + STOPPED_LATE)
        while True:
            bot = await self.prober.probe_once(request.bot.target())
            if _differs(bot.started_at, request.started_at) or _differs(bot.boot_id, request.boot_id):
                return Done({}, "settled: the bot has started anew")
            if request.now() >= until:
                break
            await asyncio.sleep(SETTLE_POLL)
        if bot.started_at is None or bot.started_at != request.started_at:
            return Done({}, "in doubt, and not done again: the bot does not say since when it runs")
        outcome = await self._send(replace(request, began_at=request.now()))
        return outcome if outcome is not None else Failed("the connection was lost, twice")

    async def _send(self, request: TierRequest) -> Outcome | None:
        """Run ssh; return None where the restart may have been carried out, and may not."""
        await self.aws.must_be_managed("restart by SSH", request.instance_id)
        request.check_lease()
        process = await asyncio.create_subprocess_exec(
            *self._argv(request),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(max(1, request.deadline - request.now())):
                stdout, _ = await process.communicate()
        except TimeoutError:
            return Failed("the restart was still running at its deadline")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        output = " ".join(stdout.decode(errors="replace").split())[-500:]
        if process.returncode == 0:
            return Done({}, "the service was restarted")
        if process.returncode != SSH_FAILED:
            return Failed(f"the restart ended with exit code {process.returncode}: {output}")
        if not any(sign in output for sign in NEVER_SENT):
            return None
        remedy = self._remedy(request, output)
        return Failed(f"ssh to {request.instance_id} ({request.host}): {output}{remedy}")

    def _argv(self, request: TierRequest) -> list[str]:
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts_file,
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": request.instance_id,  # an address is given to another instance one day
            "ConnectTimeout": 10,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
            "LogLevel": "ERROR",
        }
        pairs = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        host = ["-i", str(self.key_file), "-p", str(self.port), "-l", self.user, "--", request.host]
        # The forced command is run whatever is asked for; the key is for the log of the instance.
        return [self.ssh, "-F", "none", "-T", *pairs, *host, request.idempotency_key]

    def _remedy(self, request: TierRequest, output: str) -> str:
        instance_id = request.instance_id
        if "Host key verification failed" in output:
            return (
                f"; put its key into {self.known_hosts_file} as a line that begins with {instance_id}:"
                f" aws ec2 get-console-output --latest --instance-id {instance_id} shows it"
            )
        if "Permission denied" in output:
            return (
                f"; {self.key_file} is not the key that {self.user} accepts there: an instance gets the"
                " SSH_PUBLIC_KEY of its deployment, so redeploy it"
            )
        return ""


def restarter_of(settings: Settings, aws: Aws, prober: Prober) -> Restarter:
    """Make the restarter that the settings name; they refuse SSH without its key and its known hosts."""
    key, hosts = settings.ssh_key_file, settings.ssh_known_hosts_file
    if settings.restarter == "ssm" or key is None or hosts is None:
        return SsmRestarter(aws)
    return SshRestarter(aws, prober, settings.ssh_user, key, hosts, settings.ssh_port)


def _differs(now: str | None, before: str | None) -> bool:
    return now is not None and before is not None and now != before
