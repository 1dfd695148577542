"""Restarts by SSM's document, and by SSH against a real sshd whose forced command is the restart."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from mypy_boto3_ssm import SSMClient

from exporter.targets import Target
from remediator.aws.aws import Aws
from remediator.aws.ssm_commands import DOCUMENTS, PAIRING, RESTART
from remediator.engine.journal import Done, Failed
from remediator.monitoring.prober import Observation, Prober
from remediator.recovery import restarters
from remediator.recovery.restarters import SshRestarter, SsmRestarter, restarter_of
from remediator.settings import SettingsError, read_settings
from sandbox.process.binaries import BinaryError
from sandbox.process.waiting import wait_until
from tests.remediator.conftest import MAKE_CLIENT, Api, Remediator, World, credentials, settings_for
from tests.remediator.recovery.restart_requests import bot_at, restart_request
from tests.remediator.sshd import Sshd, run, run_sshd

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]
LOG = 'echo "$SSH_ORIGINAL_COMMAND" >>asked\n'
LOSE = "kill -9 $PPID\n"  # the sshd of this session
ONCE = "[ -e lost ] || { : >lost; " + LOSE.strip() + "; }\n"
ILL = Observation(False, "silent")
BOT = bot_at("127.0.0.1:18790", "i-0abc")
BEFORE: dict[str, Any] = {"boot_id": "b-1", "started_at": "100"}


class ManagedInstance:
    """An AWS that has this instance."""

    async def must_be_managed(self, operation: str, instance_id: str) -> None:
        assert (operation, instance_id) == ("restart by SSH", "i-0abc")


@dataclass
class FakeProber:
    """Gives the same observation for ever."""

    observation: Observation

    async def probe_once(self, _: Target) -> Observation:
        return self.observation


@pytest.fixture
async def sshd(request: pytest.FixtureRequest) -> AsyncIterator[Sshd]:
    """Run an sshd; the parameter is what its forced command does."""
    try:
        async with run_sshd(request.param) as server:
            (server.home / "known_hosts").write_text(server.known_as("i-0abc"))
            yield server
    except BinaryError as error:
        pytest.skip(f"there is no sshd: {error}")


def restarter(sshd: Sshd, observation: Observation = ILL, **changes: Any) -> SshRestarter:
    """Make a restarter that asks this sshd, and whose probes give this observation."""
    options = {"user": "bot-restart", "key_file": sshd.key, "known_hosts_file": sshd.home / "known_hosts"}
    prober = cast(Prober, FakeProber(observation))
    return SshRestarter(cast(Aws, ManagedInstance()), prober, **{**options, "port": sshd.port, **changes})


def commands(sshd: Sshd) -> list[str]:
    path = sshd.home / "asked"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("sshd", [LOG], indirect=True)
async def test_the_key_restarts_the_bot_and_can_do_nothing_else(sshd: Sshd) -> None:
    assert await restarter(sshd).restart(restart_request(BOT, **BEFORE)) == Done(
        {}, "the service was restarted"
    )
    assert commands(sshd) == ["rec-1 restart"]
    argv = restarter(sshd)._argv(restart_request(BOT, **BEFORE))
    for options, command in (
        ([], "cat /etc/shadow"),
        (["-tt"], ""),  # a shell
        (["-s"], "sftp"),
    ):
        completed = await run([*argv[:-3], *options, *argv[-3:-1], command])
        assert completed.stdout == "", command
    assert commands(sshd)[1:] == ["cat /etc/shadow", "", "internal-sftp"], (
        "it was the forced command that ran, each time"
    )
    tunnel = ["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"]
    refused = await run([*argv[:-3], *tunnel, *argv[-3:]])
    assert refused.returncode == 255
    assert "remote port forwarding failed" in refused.stderr


@pytest.mark.parametrize("sshd", [LOG], indirect=True)
@pytest.mark.parametrize(
    "known_hosts", ["", "i-0abc ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 43 + "\n"]
)
async def test_a_host_that_is_not_known_or_is_another_is_not_asked(sshd: Sshd, known_hosts: str) -> None:
    hosts = sshd.home / "known_hosts"
    hosts.write_text(known_hosts)
    outcome = await restarter(sshd).restart(restart_request(BOT, **BEFORE))
    assert isinstance(outcome, Failed)
    assert "Host key verification failed" in outcome.reason
    assert f"put its key into {hosts} as a line that begins with i-0abc" in outcome.reason
    assert not outcome.denied, "a reboot takes another way"
    assert commands(sshd) == []


@pytest.mark.parametrize("sshd", [LOG], indirect=True)
async def test_another_key_is_not_accepted_and_the_remedy_is_named(sshd: Sshd, tmp_path: Path) -> None:
    await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"])
    outcome = await restarter(sshd, key_file=tmp_path / "other").restart(restart_request(BOT, **BEFORE))
    assert isinstance(outcome, Failed)
    assert "Permission denied (publickey)" in outcome.reason
    assert "redeploy it" in outcome.reason
    assert commands(sshd) == []


@pytest.mark.parametrize("sshd", [LOG], indirect=True)
async def test_where_nothing_listens_the_restart_failed(sshd: Sshd) -> None:
    outcome = await restarter(sshd, port=9).restart(restart_request(BOT, **BEFORE))
    assert isinstance(outcome, Failed)
    assert (
        "ssh to i-0abc (127.0.0.1): ssh: connect to host 127.0.0.1 port 9: Connection refused"
        in outcome.reason
    )


@pytest.mark.parametrize("sshd", ["echo Unit bot.service not found. >&2; exit 5"], indirect=True)
async def test_a_restart_that_fails_says_how(sshd: Sshd) -> None:
    outcome = await restarter(sshd).restart(restart_request(BOT, **BEFORE))
    assert outcome == Failed("the restart ended with exit code 5: Unit bot.service not found.")


@pytest.mark.parametrize("sshd", ["echo $$ >pid; exec sleep 60"], indirect=True)
async def test_a_restart_that_does_not_end_is_given_up_at_its_deadline(sshd: Sshd) -> None:
    outcome = await restarter(sshd).restart(restart_request(BOT, **BEFORE, timeout=0))
    assert outcome == Failed("the restart was still running at its deadline")


@pytest.mark.parametrize("sshd", [LOG + LOSE], indirect=True)
async def test_a_connection_lost_on_the_way_is_settled_by_the_bot(sshd: Sshd) -> None:
    observation = Observation(True, "well", boot_id="b-1", started_at="200")
    outcome = await restarter(sshd, observation).restart(restart_request(BOT, **BEFORE))
    assert outcome == Done({}, "settled: the bot has started anew")
    assert len(commands(sshd)) == 1


@pytest.mark.parametrize("sshd", [LOG + ONCE], indirect=True)
async def test_a_bot_that_runs_on_was_not_restarted_and_is_now(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarters, "STOPPED_LATE", 0.0)
    observation = Observation(True, "well", boot_id="b-1", started_at="100")
    outcome = await restarter(sshd, observation).restart(restart_request(BOT, **BEFORE))
    assert outcome == Done({}, "the service was restarted")
    assert len(commands(sshd)) == 2


@pytest.mark.parametrize("sshd", [LOG + LOSE], indirect=True)
async def test_a_restart_in_doubt_is_not_tried_for_ever(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarters, "STOPPED_LATE", 0.0)
    observation = Observation(True, "well", boot_id="b-1", started_at="100")
    outcome = await restarter(sshd, observation).restart(restart_request(BOT, **BEFORE))
    assert outcome == Failed("the connection was lost, twice")
    assert len(commands(sshd)) == 2


@pytest.mark.parametrize("observation", [ILL, Observation(True, "well, and says no more")])
@pytest.mark.parametrize("sshd", [LOG], indirect=True)
async def test_after_a_crash_a_bot_that_does_not_say_is_not_restarted_on_a_guess(
    sshd: Sshd, observation: Observation
) -> None:
    outcome = await restarter(sshd, observation).settle(
        restart_request(BOT, **BEFORE, began_at=time.time() - 100)
    )
    assert isinstance(outcome, Done)
    assert outcome.detail.startswith("in doubt, and not done again")
    assert commands(sshd) == []


@asynccontextmanager
async def by_ssh(world: World, bot: str) -> AsyncIterator[tuple[Sshd, dict[str, Any]]]:
    """Let the bot hang, and run an sshd on its address whose forced command waits for `restarted`.

    Yield it and the settings of a remediator that uses it.
    """
    instance_id = await world.instance(bot)
    (machine,) = [machine for machine in await world.cloud.bots() if machine.bot == bot]
    await world.cloud.fault(bot, "hang", cured_by="restart")
    command = LOG + "while [ ! -e restarted ]; do sleep 0.05; done"
    try:
        async with run_sshd(command, machine.address.partition(":")[0]) as sshd:
            hosts = sshd.home / "known_hosts"
            hosts.write_text(sshd.known_as(instance_id))
            settings: dict[str, Any] = {"ssh_key_file": sshd.key, "ssh_public_key": sshd.public_key}
            settings |= {"restarter": "ssh", "ssh_known_hosts_file": hosts, "ssh_port": sshd.port}
            yield sshd, settings
    except BinaryError as error:
        pytest.skip(f"there is no sshd: {error}")


async def restart(world: World, bot: str, sshd: Sshd) -> None:
    """Restart the bot as systemd would: here the machine of the sandbox does it."""
    instance_id = await world.instance(bot)
    world.ssm.send_command(DocumentName=RESTART.name, InstanceIds=[instance_id])
    await world.until_did(bot, "restart")
    (sshd.home / "restarted").touch()


async def test_a_bot_is_recovered_by_ssh_end_to_end(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app() as app:
        await app.deployed(bot)
    async with by_ssh(world, bot) as (sshd, settings), run_app(**settings) as app:
        recovery = asyncio.create_task(app.recover(bot))
        await wait_until(lambda: has_command(sshd), what="the forced command")
        await restart(world, bot, sshd)
        ended = await recovery
        assert ended["status"] == "recovered", ended
        assert [(attempt["tier"], attempt["outcome"]) for attempt in ended["attempts"]] == [
            ("restart", "cured")
        ]
        assert commands(sshd) == [f"{ended['recoveryId']} restart"]


async def test_a_remediator_killed_during_a_restart_by_ssh_does_not_ask_for_another(
    run_app: RunApp, run_remediator: RunRemediator, world: World
) -> None:
    bot = world.name()
    async with run_app() as app:
        await app.deployed(bot)
    async with by_ssh(world, bot) as (sshd, settings), run_remediator(world.cloud, **settings) as remediator:
        begun = await remediator.api.post(f"/recover/{bot}", {"method": "restart"})
        await wait_until(lambda: has_command(sshd), what="the forced command")
        await remediator.kill9()
        await restart(world, bot, sshd)
        await remediator.start()
        ended = await remediator.api.until_ended(f"/recover/{begun.body['recoveryId']}")
        assert ended["status"] == "recovered", ended
        assert "settled: the bot has started anew" in str(await remediator.api.get(f"/audit?bot={bot}"))
        assert len(commands(sshd)) == (await world.actions(bot)).count("restart") == 1


async def has_command(sshd: Sshd) -> bool:
    return bool(commands(sshd))


def test_ssh_wants_its_key_its_public_half_and_the_hosts(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("-")
    settings: dict[str, Any] = {"ssh_key_file": key, "ssh_public_key": "ssh-ed25519 AAAA x"}
    settings |= {"restarter": "ssh", "ssh_known_hosts_file": tmp_path / "hosts"}
    for name, value in (
        ("SSH_KEY_FILE", None),
        ("SSH_KEY_FILE", tmp_path / "nowhere"),
        ("SSH_PUBLIC_KEY", None),
        ("SSH_PUBLIC_KEY", "AAAA"),
        ("SSH_PUBLIC_KEY", "ssh-ed25519 AAAA x\nssh-ed25519 BBBB y"),
        ("SSH_KNOWN_HOSTS_FILE", None),
    ):
        with pytest.raises(SettingsError, match=f"^BOT_REMEDIATOR_{name}: "):
            read_settings(**{**settings, name.lower(): value})
    aws, prober = cast(Aws, None), cast(Prober, None)
    assert isinstance(restarter_of(read_settings(**settings), aws, prober), SshRestarter)
    assert isinstance(restarter_of(read_settings(), aws, prober), SsmRestarter)


def test_the_document_takes_no_parameters_and_can_run_nothing_else() -> None:
    document = json.loads(RESTART.content)
    assert document.keys() == {"schemaVersion", "description", "mainSteps"}
    (step,) = document["mainSteps"]
    assert (step["action"], step["inputs"].keys()) == ("aws:runShellScript", {"runCommand"})
    assert "{{" not in RESTART.content, "that is how SSM writes a parameter"
    assert step["inputs"]["runCommand"][-1] == "systemctl restart bot.service"


async def test_the_documents_are_registered_and_brought_up_to_date(world: World, tmp_path: Path) -> None:
    region = "eu-north-1"
    settings = settings_for(tmp_path / "db", world.cloud, aws_region=region)
    # A client that asks again after its timeout finds its own document there: this one waits.
    aws = Aws(region=region, endpoint_url=settings.aws_endpoint_url, concurrency=2, timeout=100)
    environment = {
        "BOT_REMEDIATOR_AWS_REGION": region,
        "BOT_REMEDIATOR_AWS_ENDPOINT_URL": world.cloud.endpoint_url,
    }

    def register() -> str:
        argv = [sys.executable, "-W", "error", "-m", "remediator", "register-document"]
        merged = os.environ | credentials() | environment
        return subprocess.run(argv, env=merged, capture_output=True, text=True, check=True).stdout

    session = boto3.session.Session("sandbox", "sandbox", region_name=region)
    ssm: SSMClient = MAKE_CLIENT(session, "ssm", endpoint_url=world.cloud.endpoint_url)
    older = RESTART.content.replace("systemctl reset-failed bot.service", "true")
    ssm.create_document(Name=RESTART.name, Content=older, DocumentType="Command")
    outcomes = [f"{RESTART.name} in {region}: updated", f"{PAIRING.name} in {region}: created"]
    assert (await asyncio.to_thread(register)).splitlines() == outcomes
    for document in DOCUMENTS:
        registered = ssm.get_document(Name=document.name)["Content"]
        assert json.loads(registered) == json.loads(document.content)
        assert await aws.register_document(document) == "unchanged"
    # One who was killed between the two calls of an update left the newest version without being the default.
    ssm.update_document_default_version(Name=RESTART.name, DocumentVersion="1")
    assert await aws.register_document(RESTART) == "updated"
    assert await aws.register_document(RESTART) == "unchanged"
    ssm.delete_document(Name=RESTART.name)
    assert await aws.register_document(RESTART) == "created"
