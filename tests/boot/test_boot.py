"""The user data exactly as the product makes it, booted, and what an instance lives through afterwards.

In this order: each test leaves a bot that is well. What cannot be seen so: MemoryHigh= and MemoryMax= (the
machine has no memory controller; test_memory.py has one), the SSM agent and snap, Ubuntu's own systemd 255.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import pytest

from exporter.result import Facts
from remediator.aws.aws import Aws
from remediator.aws.ssm_commands import PAIRING, RESTART
from remediator.monitoring.prober import Prober
from remediator.provisioning.cloudinit import INSTANCE, SOFTWARE
from remediator.provisioning.pairing import requests_in
from remediator.recovery.restarters import SshRestarter
from sandbox.cloud.run_command import lines_of
from sandbox.process.waiting import wait_until
from templates import BUNDLED
from tests.boot.conftest import FIRST_BOOT, START, TOKEN, Instance
from tests.boot.machine import INSTANCE_ID, MachineError
from tests.remediator.recovery.restart_requests import bot_at, restart_request

MEMORY: Final = Path("/sys/fs/cgroup/memory")
UNITS: Final = sorted(path.name for path in INSTANCE.glob("*.service"))
EXPOSURE: Final = {"bot.service": 15}  # tenths, of 100, by `systemd-analyze security`
RESTART_DOCUMENT: Final = json.loads(RESTART.content)


def any_answer(_: object) -> bool:
    return True


async def test_the_user_data_brings_up_a_bot_that_tells_of_itself(
    instance: Instance, report: dict[str, Any]
) -> None:
    """/mesh is filled, and the score can be full."""
    began, started = time.monotonic(), datetime.now(UTC)
    await instance.until(any_answer, FIRST_BOOT)
    report["first_boot_seconds"] = round(time.monotonic() - began)
    result = await instance.until(
        lambda result: result.mesh.ok and result.peers_up_ratio == 1, what="its channel up"
    )
    facts = result.facts
    assert facts.version == SOFTWARE["OPENCLAW_VERSION"]
    assert facts.config_sha == instance.config_sha
    assert facts.boot_id is not None
    assert facts.started_at is not None
    assert started <= datetime.fromisoformat(facts.started_at) <= datetime.now(UTC)
    assert (facts.requests, facts.input_tokens, facts.output_tokens) == (0, 0, 0)
    assert result.event_loop_ratio is not None
    restarts = instance.machine.show("bot.service", "NRestarts", "Result")
    assert restarts == {"NRestarts": "0", "Result": "success"}
    report["version"], report["systemd"] = (
        facts.version,
        instance.machine.run("systemctl", "--version").split()[1],
    )


async def test_its_token_is_read_by_the_role_and_used(instance: Instance) -> None:
    read = {request["name"] for request in instance.machine.requests("ssm")}
    own = {f"/bots/forge/{name}" for name in ("telegram-token", "environment", "active")}
    assert {name for name in read if not name.startswith("/files/")} == own
    assert all(request["by_role"] for request in instance.machine.requests("ssm"))
    assert all(request["trusted"] for request in instance.machine.requests("metadata"))
    await polled(instance, 0)  # a channel counts as up while it still connects
    assert all(call["known"] for call in instance.machine.requests("telegram"))
    disk = instance.machine.run(
        "grep", "-rlF", TOKEN, "/etc", "/var/lib", "/opt/bot/openclaw.json", check=False
    )
    assert disk == "", "the token lies in memory alone"


def polls_of(instance: Instance) -> int:
    calls = instance.machine.requests("telegram")
    return sum(call["method"].lower() == "getupdates" for call in calls)


async def polled(instance: Instance, before: int) -> None:
    """Wait until the bot has asked Telegram for messages more often than before."""

    async def more() -> bool:
        return polls_of(instance) > before

    await wait_until(more, START, "a bot that hears", every=0.25)


async def test_the_files_of_its_type_are_there_before_it_starts(instance: Instance) -> None:
    """OpenClaw seeds what is missing beside them, and takes their SOUL.md for its own."""
    asked = [request for request in instance.machine.requests("ssm") if request["name"].startswith("/files/")]
    assert len(asked) == 1, "fetched once, and by the role"
    assert asked[0]["by_role"]
    workspace = "/var/lib/bot/workspace"
    soul = instance.machine.run("cat", f"{workspace}/SOUL.md")
    assert soul.strip() == (BUNDLED / "support/workspace/SOUL.md").read_text().strip()
    assert instance.machine.run("stat", "--format=%U", f"{workspace}/SOUL.md").strip() == "bot"
    assert instance.machine.run("stat", "--format=%U", "/opt/bot-files/workspace/SOUL.md").strip() == "root"


async def test_the_bot_cannot_reach_the_role(instance: Instance) -> None:
    """What runs in its control group is not let through to the metadata service; what runs beside it is."""
    ask = (
        "exec curl --silent --max-time 3 --output /dev/null --write-out %{http_code} http://169.254.169.254/"
    )
    group = "/sys/fs/cgroup/system.slice/bot.service/cgroup.procs"
    assert instance.machine.run("sh", "-c", ask) == "401"
    assert instance.machine.run("sh", "-c", f"echo $$ >{group}; {ask}", check=False) == "000"


def test_systemd_knows_every_setting_and_finds_little_exposed(instance: Instance) -> None:
    units = [f"/etc/systemd/system/{name}" for name in UNITS]
    assert instance.machine.run("sh", "-c", f"systemd-analyze verify --man=no {' '.join(units)} 2>&1") == ""
    for name in UNITS:
        instance.machine.run("systemd-analyze", "security", f"--threshold={EXPOSURE.get(name, 25)}", name)


async def restarted(instance: Instance, before: Facts, seconds: float = START) -> float:
    """Wait for the bot to have started anew, on the same boot; gives the seconds from now."""
    began = time.monotonic()
    result = await instance.until(
        lambda result: result.started_at not in (None, before.started_at), seconds, "a bot that started anew"
    )
    assert result.boot_id == before.boot_id
    assert result.config_sha == before.config_sha
    return round(time.monotonic() - began, 1)


async def test_a_bot_that_is_killed_starts_again(instance: Instance, report: dict[str, Any]) -> None:
    before = (await instance.until(any_answer)).facts
    instance.machine.run("kill", "-9", str(instance.main_pid()))
    report["killed_seconds"] = await restarted(instance, before)


async def test_the_ssm_documents_command_restarts_it(instance: Instance, report: dict[str, Any]) -> None:
    """Also where it failed so often that systemd had given it up."""
    before = (await instance.until(any_answer)).facts
    (step,) = RESTART_DOCUMENT["mainSteps"]
    instance.machine.run("sh", "-c", "\n".join(step["inputs"]["runCommand"]))
    report["restarted_seconds"] = await restarted(instance, before)


async def test_the_ssm_documents_command_lists_who_waits(instance: Instance, report: dict[str, Any]) -> None:
    """As the bot's user, in a unit of its own, without a network."""
    await instance.until(any_answer)
    began = time.monotonic()
    listed = instance.machine.run("sh", "-c", "\n".join(lines_of(json.loads(PAIRING.content), {})))
    report["pairing_seconds"] = round(time.monotonic() - began, 1)
    assert requests_in(listed) == []


async def test_the_forced_command_restarts_it_and_the_key_does_nothing_else(
    instance: Instance, tmp_path: Path, report: dict[str, Any]
) -> None:
    """By the remediator's own restarter, over OpenSSH's server as cloud-init left it."""

    class Managed:
        async def must_be_managed(self, *_: str) -> None: ...

    class NeverAsked:
        async def probe_once(self, _: object) -> Any:
            raise AssertionError("nothing was in doubt")

    host_key = instance.machine.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    known = tmp_path / "known_hosts"
    known.write_text(f"{INSTANCE_ID} {' '.join(host_key)}\n")
    port = instance.machine.ports[22]
    aws, prober = cast(Aws, Managed()), cast(Prober, NeverAsked())
    restarter = SshRestarter(aws, prober, "bot-restart", instance.key, known, port)
    before = await instance.until(any_answer)
    bot = bot_at(instance.target.address, INSTANCE_ID)
    request = restart_request(bot, started_at=before.facts.started_at, timeout=120)
    outcome = await restarter.restart(request)
    assert type(outcome).__name__ == "Done", outcome
    report["ssh_seconds"] = await restarted(instance, before.facts)


async def test_a_bot_whose_token_is_another_instances_stands_by(
    instance: Instance, report: dict[str, Any]
) -> None:
    """It lives without its channels, and has them soon after the token becomes its own."""
    before = (await instance.until(any_answer)).facts
    instance.put(active="i-0another0instance")
    instance.machine.run("systemctl", "restart", "bot.service")
    await restarted(instance, before)
    standby = await instance.until(lambda result: result.mesh.ok, what="a bot that stands by")
    assert standby.mesh.payload is not None
    assert standby.mesh.payload["peers"] == []
    polls = polls_of(instance)
    began = time.monotonic()
    instance.put(active=INSTANCE_ID)
    result = await instance.until(lambda result: result.peers_up_ratio == 1, what="an active bot")
    report["activated_seconds"] = round(time.monotonic() - began, 1)
    assert result.started_at != standby.started_at
    await polled(instance, polls)


async def test_a_full_disk_is_survived(instance: Instance, report: dict[str, Any]) -> None:
    """The bot cannot start while its state cannot be written, and does by itself when there is room again."""
    machine, state = instance.machine, "/var/lib/bot"
    before = (await instance.until(any_answer)).facts
    machine.run("systemctl", "stop", "bot.service")
    machine.run("cp", "-a", state, "/var/lib/bot.before")
    machine.run("mount", "-t", "tmpfs", "-o", "size=256m,mode=0700", "none", state)
    machine.run("sh", "-c", f"cp -a /var/lib/bot.before/. {state}; chown bot: {state}")
    machine.run("sh", "-c", f"cat /dev/zero >{state}/full", check=False)
    machine.run("systemctl", "start", "--no-block", "bot.service")
    await failed(instance, "bot.service")
    report["full_disk_exit_code"] = machine.show("bot.service", "ExecMainStatus")["ExecMainStatus"]
    machine.run("rm", f"{state}/full")
    report["after_full_disk_seconds"] = await restarted(instance, before)


async def test_a_bot_that_the_kernel_kills_for_its_memory_starts_again(
    instance: Instance, report: dict[str, Any]
) -> None:
    """By the OOM killer itself: the bot is put into a control group in which it gets no further page."""
    if not (MEMORY / "memory.limit_in_bytes").exists():
        pytest.skip("no memory controller of cgroup v1 is here, and the machine has v2's without one")
    group = MEMORY / f"oom-{instance.machine.internet.pid}"
    before = (await instance.until(any_answer)).facts
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text("1")
        (group / "cgroup.procs").write_text(str(instance.machine.outside(instance.main_pid())))

        async def killed() -> bool:
            await instance.look()  # an answer takes memory
            return "oom_kill 0" not in (group / "memory.oom_control").read_text()

        await wait_until(killed, START, "the kernel's OOM killer", every=0.25)
        report["out_of_memory_seconds"] = await restarted(instance, before)
    finally:
        (group / "memory.limit_in_bytes").write_text("-1")
        with contextlib.suppress(OSError):  # a bot that lives is in it, where the test failed
            group.rmdir()


async def test_a_reboot_shows_another_boot_id(instance: Instance, report: dict[str, Any]) -> None:
    before = (await instance.until(any_answer)).facts
    instance.machine.run("systemctl", "--no-block", "reboot")

    async def off() -> bool:
        return instance.machine.off

    await wait_until(off, 120, "the machine off")
    began = time.monotonic()
    instance.machine.power_on()
    result = await instance.until(lambda result: result.started_at not in (None, before.started_at))
    report["rebooted_seconds"] = round(time.monotonic() - began, 1)
    assert result.config_sha == instance.config_sha
    assert result.boot_id not in (None, before.boot_id)
    report["boot_id_changed"] = True


async def test_a_first_boot_without_a_network_is_made_up_for(
    make_instance: Callable[..., Instance], report: dict[str, Any]
) -> None:
    """Until all that fetches has failed, cloud-init too, which tries only once: the package is not there."""
    instance = make_instance("cut-off")
    instance.machine.purge("python3-boto3")
    instance.machine.cut_off()
    instance.machine.power_on()
    await failed(instance, "bot-install.service", "bot-secrets.service")
    instance.machine.reconnect()
    began = time.monotonic()
    result = await instance.until(lambda result: result.mesh.ok, FIRST_BOOT, "a bot that tells of itself")
    report["after_no_network_seconds"] = round(time.monotonic() - began)
    assert result.config_sha == instance.config_sha


async def failed(instance: Instance, *units: str) -> None:
    """Wait until each of the units has failed at least once."""

    async def restarting() -> bool:
        try:
            counts = [instance.machine.show(unit, "NRestarts").get("NRestarts", "0") for unit in units]
        except MachineError:
            return False  # it has only just been switched on
        return all(int(count) > 0 for count in counts)

    await wait_until(restarting, 200, f"failures of {', '.join(units)}", every=0.5)
