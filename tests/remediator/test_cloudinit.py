"""What an instance is told at its first boot, judged by cloud-init, by systemd, and by running it."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import templates
from remediator.cloudinit import INSTANCE, SOFTWARE, USER_DATA_LIMIT, openclaw, user_data
from remediator.configuration import render
from remediator.settings import read_settings
from sandbox.binaries import BinaryError, unpacked
from sandbox.openclaw import OpenClaw
from sandbox.processes import Process
from sandbox.waiting import wait_until
from tests.remediator.conftest import REGION, World, credentials

TOP_LEVEL = {
    *("users", "disable_root", "ssh_pwauth", "package_update", "packages", "swap", "write_files", "runcmd")
}
"""cloud-init's schema check misses a misspelt top-level key: an allow-list does not."""

TYPES = templates.load().names
UNITS = sorted(path.name for path in INSTANCE.glob("*.service"))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIplanted remediator"
PACKAGES = ("configobj", "jsonpatch", "json-pointer", "oauthlib", "serial", "six")
EXPOSURE = 25  # tenths, of 100: `systemd-analyze security` calls up to 3.0 well protected


def config(kind: str = "support", name: str = "forge") -> tuple[dict[str, Any], str]:
    return render(name, "production", templates.load().get(kind, "production"))


def told(kind: str = "support", name: str = "forge", **access: Any) -> str:
    parameter = f"/bots/{name}/telegram-token"
    return user_data(*config(kind, name), region=REGION, parameter=parameter, **access)


def document(**access: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(told(**access))
    return parsed


def files(**access: Any) -> dict[str, str]:
    return {file["path"]: file["content"] for file in document(**access)["write_files"]}


@pytest.mark.parametrize("kind", TYPES)
def test_the_bot_is_told_who_it_is(kind: str) -> None:
    rendered, config_sha = config(kind)
    assert json.loads(files(kind=kind)["/etc/bot/bot.json"]) == {
        "bot": "forge",
        "template": kind,
        "environment": "production",
        "port": rendered["probe"]["port"],
        "health_path": rendered["probe"]["health_path"],
        "mesh_path": rendered["probe"]["mesh_path"],
        "config_sha": config_sha,
        "model": rendered["model"],
    }


@pytest.mark.parametrize("access", [{}, {"login": True}, {"restart_key": KEY}])
@pytest.mark.parametrize("kind", TYPES)
def test_user_data_is_a_cloud_config_that_fits(kind: str, access: dict[str, Any]) -> None:
    text = told(kind, "n" * 63, **access)
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) <= USER_DATA_LIMIT
    parsed = yaml.safe_load(text)
    assert set(parsed) == TOP_LEVEL
    assert parsed["runcmd"][-1] == ["systemctl", "enable", "--now", "bot.service"]


def test_user_data_that_would_not_fit_is_refused_before_aws_is_asked() -> None:
    rendered, _ = config()
    with pytest.raises(ValueError, match="EC2 takes 16384"):
        user_data({**rendered, "model": "m" * 17_000}, "sha", region=REGION, parameter="/p")


def test_the_secret_is_handed_over_where_openclaw_looks_for_it() -> None:
    """systemd reads it as root and gives it to this unit alone, in memory."""
    (unit,) = re.findall(r"^LoadCredential=(\S+):(\S+)$", files()["/etc/systemd/system/bot.service"], re.M)
    assert unit == ("telegram-token", "/run/bot-secrets/telegram-token")
    assert openclaw(config()[0])["channels"]["telegram"] == {
        "enabled": True,
        "tokenFile": "/run/credentials/bot.service/telegram-token",
    }
    assert "PARAMETERS=/bots/forge/\n" in files()["/etc/bot/instance.env"]


def test_nothing_listens_for_ssh_unless_a_setting_says_so() -> None:
    closed, login, restart = document(), document(login=True), document(restart_key=KEY)
    assert ["systemctl", "mask", "ssh.socket", "ssh.service"] in closed["runcmd"]
    assert [user["name"] for user in closed["users"]] == ["bot"]
    for open_one in (login, restart):
        assert not any("ssh.service" in command for command in open_one["runcmd"])
        assert (open_one["disable_root"], open_one["ssh_pwauth"]) == (True, False)
    assert login["users"][0] == "default", "cloud-init gives EC2's key pair to that user"
    assert "default" not in restart["users"]


def test_the_key_of_the_remediator_may_restart_the_bot_and_nothing_else() -> None:
    (user,) = [user for user in document(restart_key=KEY)["users"] if user["name"] != "bot"]
    assert user["ssh_authorized_keys"] == [f'command="sudo -n /usr/local/sbin/bot-restart",restrict {KEY}']
    assert user["sudo"] == 'ALL=(root) NOPASSWD: /usr/local/sbin/bot-restart ""'
    assert user["lock_passwd"]
    assert "/usr/local/sbin/bot-restart" in files(restart_key=KEY)
    assert KEY not in told()
    assert "/usr/local/sbin/bot-restart" not in files()


# cloud-init


@pytest.fixture(scope="module")
def cloud_init() -> list[str]:
    """`cloud-init schema`, of this machine or of Debian's package; that one runs with our own Python."""
    if found := shutil.which("cloud-init"):
        return [found, "schema", "--config-file"]
    try:
        tree = unpacked("cloud-init", *(f"python3-{name}" for name in PACKAGES))
    except BinaryError as error:
        pytest.skip(f"there is no cloud-init: {error}")
    path = f"PYTHONPATH={tree}/usr/lib/python3/dist-packages"
    return ["env", path, sys.executable, "-m", "cloudinit.cmd.main", "schema", "--config-file"]


def schema(cloud_init: list[str], folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = folder / "user-data"
    path.write_text(text)
    return subprocess.run([*cloud_init, path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("access", [{}, {"login": True, "restart_key": KEY}])
def test_cloud_init_finds_no_fault_with_it(
    cloud_init: list[str], tmp_path: Path, access: dict[str, Any]
) -> None:
    said = schema(cloud_init, tmp_path, told(**access))
    assert said.returncode == 0, said.stdout + said.stderr


def test_cloud_init_would_find_a_fault(cloud_init: list[str], tmp_path: Path) -> None:
    said = schema(cloud_init, tmp_path, told().replace("runcmd:\n", "runcmd: 3\nbootcmd:\n"))
    assert said.returncode != 0
    assert "runcmd" in said.stdout + said.stderr


# systemd

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here (Debian: systemd)"
)


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, with the programs they start made to exist."""
    made = []
    for name in UNITS:
        path = tmp_path / name
        text = files()[f"/etc/systemd/system/{name}"]
        path.write_text(re.sub(r"^(ExecStart=\+?)\S+", r"\1/bin/true", text, flags=re.M))
        made.append(path)
    return made


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_finds_no_fault_with_the_units(units: list[Path]) -> None:
    said = analyze("verify", "--man=no", *units)
    assert not [line for line in said.stderr.splitlines() if any(name in line for name in UNITS)]


@needs_systemd
def test_systemd_would_find_a_fault(units: list[Path]) -> None:
    bot = next(unit for unit in units if unit.name == "bot.service")
    bot.write_text(bot.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    assert "ProtectHouse" in analyze("verify", "--man=no", *units).stderr


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_units_are_well_protected(units: list[Path], name: str) -> None:
    (unit,) = [unit for unit in units if unit.name == name]
    said = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert said.returncode == 0, said.stdout.splitlines()[-1]


def test_a_stop_is_over_long_before_a_restart_has_to_be() -> None:
    """OpenClaw drains for up to 330 s; the unit's own limit is what it keeps to."""
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", files()["/etc/systemd/system/bot.service"], re.M)
    assert int(seconds) * 3 <= read_settings().restart_timeout


def test_the_role_of_the_instance_is_out_of_the_bots_reach() -> None:
    """Only bot-secrets may ask the metadata service for it, and what is installed is not asked either."""
    barred = {
        name
        for name in UNITS
        if "\nIPAddressDeny=169.254.169.254 fd00:ec2::254\n" in files()[f"/etc/systemd/system/{name}"]
    }
    assert barred == {"bot.service", "bot-install.service"}


def test_the_units_start_what_is_there() -> None:
    """The programs are among the files, or are what bot-install makes (test_openclaw starts that one)."""
    written, started = files(), set()
    for name in UNITS:
        started |= set(re.findall(r"^ExecStart=\+?(\S+)", written[f"/etc/systemd/system/{name}"], re.M))
    assert started - written.keys() == {"/usr/bin/systemctl", "/opt/bot/node/bin/node"}
    bot = written["/etc/systemd/system/bot.service"]
    assert set(re.findall(r"/etc/bot/\S+", bot)) <= written.keys()
    (command,) = re.findall(r"^ExecStart=(.+)$", bot, re.M)
    assert command.split() == OpenClaw(Path("/opt/bot")).argv("gateway")


# bot-secrets


@pytest.fixture
def secrets(world: World, tmp_path: Path) -> Any:
    """Runs bot-secrets as its unit does, on the instance i-me, against the SSM of the cloud."""
    bot = world.name()
    (tmp_path / "instance-id").write_text("i-me\n")
    (tmp_path / "secrets").mkdir()

    class Secrets:
        folder = tmp_path / "secrets"
        argv = (sys.executable, str(INSTANCE / "bot-secrets"))

        def environment(self, **changes: str) -> dict[str, str]:
            made = {"AWS_REGION": REGION, "PARAMETERS": f"/bots/{bot}/", "PATIENCE": "0", "LOOK": "0.05"}
            made |= {"RUNTIME_DIRECTORY": str(self.folder), "AWS_ENDPOINT_URL": world.cloud.endpoint_url}
            return made | credentials() | {"INSTANCE_ID_FILE": str(tmp_path / "instance-id")} | changes

        def put(self, name: str, value: str) -> None:
            world.ssm.put_parameter(
                Name=f"/bots/{bot}/{name}", Value=value, Type="SecureString", Overwrite=True
            )

        def run(self, **changes: str) -> subprocess.CompletedProcess[str]:
            environment = os.environ | self.environment(**changes)
            return subprocess.run(self.argv, env=environment, capture_output=True, text=True, check=False)

        def read(self) -> dict[str, str]:
            return {path.name: path.read_text() for path in self.folder.iterdir()}

    return Secrets()


def test_the_secrets_are_fetched_for_nobody_else_to_read(secrets: Any) -> None:
    secrets.put("telegram-token", "42:planted")
    secrets.put("environment", "ANTHROPIC_API_KEY=planted-key")
    said = secrets.run()
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    found = secrets.read()
    assert found.keys() == {"telegram-token", "bot.env"}
    assert found["telegram-token"] == "42:planted"
    assert re.fullmatch(
        r"OPENCLAW_GATEWAY_TOKEN=[0-9a-f]{64}\nANTHROPIC_API_KEY=planted-key\n", found["bot.env"]
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.folder.iterdir()} == {0o600}


def test_a_bot_without_a_token_says_so(secrets: Any) -> None:
    said = secrets.run()
    assert said.returncode == 1
    assert said.stderr == "bot-secrets: there is no parameter telegram-token for this bot\n"


def test_a_bot_whose_token_is_another_instances_stands_by_until_it_is_its_own(secrets: Any) -> None:
    secrets.put("telegram-token", "42:planted")
    secrets.put("active", "i-other")
    assert secrets.run().returncode == 0
    assert "OPENCLAW_SKIP_CHANNELS=1\n" in secrets.read()["bot.env"]
    assert "standby" in secrets.read()
    secrets.put("active", "i-me")
    assert secrets.run().returncode == 0
    assert "OPENCLAW_SKIP_CHANNELS" not in secrets.read()["bot.env"]
    assert "standby" not in secrets.read()


async def test_the_wait_for_the_token_ends_when_it_is_this_instances(secrets: Any, tmp_path: Path) -> None:
    secrets.put("active", "i-other")
    process = Process([*secrets.argv, "--wait"], log=tmp_path / "log", env=secrets.environment(LOOK="0.2"))
    async with process:
        assert process.alive
        secrets.put("active", "i-me")

        async def ended() -> bool:
            return not process.alive

        await wait_until(ended, what="the wait")
        assert process.returncode == 0


def test_a_restart_while_aws_is_away_keeps_the_secrets_of_the_start_before(secrets: Any) -> None:
    nowhere = "http://127.0.0.1:9"
    assert secrets.run(AWS_ENDPOINT_URL=nowhere).returncode == 1
    secrets.put("telegram-token", "42:planted")
    secrets.run()
    before = secrets.read()
    said = secrets.run(AWS_ENDPOINT_URL=nowhere)
    assert said.returncode == 0
    assert "Could not connect" in said.stderr
    assert secrets.read() == before


# bot-install: what it does when all is well is in test_openclaw


def test_software_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    curl = tmp_path / "bin/curl"
    curl.write_text('#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\necho evil >"$2"\n')
    curl.chmod(0o755)
    environment = {**SOFTWARE, "PATH": f"{curl.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    argv = ["sh", str(INSTANCE / "bot-install"), str(tmp_path / "opt")]
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "node.tar: FAILED" in said.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
