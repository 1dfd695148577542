"""User data and the files in them, judged by cloud-init, by systemd, and by running them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import stat
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import templates
from remediator.aws.user_data import unpack
from remediator.configuration.rendering import render, warnings
from remediator.provisioning.cloudinit import (
    ARM64,
    BRIDGE,
    BRIDGE_FOLDER,
    INSTANCE,
    SOFTWARE,
    USER_DATA_LIMIT,
    largest_field,
    openclaw,
    user_data,
)
from remediator.settings import read_settings
from sandbox.process.binaries import BinaryError
from sandbox.process.binaries import unpacked as unpacked_packages
from sandbox.process.openclaw import OpenClaw
from sandbox.process.processes import Process
from sandbox.process.waiting import wait_until
from templates.facts import OPENCLAW_TURN_MB, RETIRED_MODELS
from templates.instance_types import INSTANCE_TYPES
from tests.remediator.conftest import REGION, World, credentials

TOP_LEVEL = {
    *("users", "disable_root", "ssh_pwauth", "package_update", "packages", "swap", "write_files", "runcmd")
}
"""cloud-init's schema check misses a misspelt top-level key: an allow-list does not."""

TYPES = templates.load().names
UNITS = sorted(path.name for path in INSTANCE.glob("*.service"))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIplanted remediator"
PACKAGES = ("configobj", "jsonpatch", "json-pointer", "oauthlib", "serial", "six")
BUDGET = 8 * 1024  # bytes: what we ship, with a bot of a bundled type, leaves half to what people ask for
EXPOSURE = 25  # tenths, of 100: `systemd-analyze security` calls up to 3.0 well protected


def config(kind: str = "support", name: str = "forge") -> tuple[dict[str, Any], str]:
    return render(name, "production", templates.load().get(kind, "production"))


def packed(kind: str = "support", name: str = "forge", **access: Any) -> bytes:
    parameter = f"/bots/{name}/telegram-token"
    return user_data(*config(kind, name), region=REGION, parameter=parameter, **access)


def unpacked(kind: str = "support", name: str = "forge", **access: Any) -> str:
    return unpack(packed(kind, name, **access))


def of_type(instance_type: str) -> str:
    template = templates.load().get("support", "production")
    rendered = render("forge", "production", template, {"instance_type": instance_type})
    return unpack(user_data(*rendered, region=REGION, parameter="/bots/forge/telegram-token"))


def document(**access: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(unpacked(**access))
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
def test_user_data_is_a_cloud_config_that_leaves_room(kind: str, access: dict[str, Any]) -> None:
    content = packed(kind, "n" * 63, **access)
    assert len(content) <= BUDGET < USER_DATA_LIMIT
    text = gzip.decompress(content).decode()
    assert text.startswith("#cloud-config\n")
    parsed = yaml.safe_load(text)
    assert set(parsed) == TOP_LEVEL
    assert parsed["runcmd"][-1] == ["systemctl", "enable", "--now", "bot.service"]


@pytest.mark.parametrize(
    ("kind", "swap_gib"), [("t4g.micro", 2), ("t3.micro", 2), ("t3.small", 1), ("m7g.large", 1)]
)
def test_memory_and_swap_hold_a_turn(kind: str, swap_gib: float) -> None:
    assert yaml.safe_load(of_type(kind))["swap"]["size"] == swap_gib * 1024**3
    gib = INSTANCE_TYPES[kind].memory_gib + swap_gib
    assert gib * 1024 > OPENCLAW_TURN_MB + 1024, "a GiB is the system's"


@pytest.mark.parametrize(
    ("kind", "digest"), [("t3.micro", SOFTWARE["NODE_SHA256"]), ("t4g.micro", ARM64["NODE_SHA256"])]
)
def test_the_hash_of_node_is_that_of_the_architecture(kind: str, digest: str) -> None:
    content = of_type(kind)
    assert f"NODE_SHA256={digest}\n" in content
    assert content.count("NODE_SHA256=") == 1


def test_the_machine_outlives_a_bot_that_takes_all_memory() -> None:
    lines = files()["/etc/systemd/system/bot.service"].splitlines()
    assert {"MemoryHigh=75%", "MemoryMax=90%", "MemorySwapMax=1536M", "OOMPolicy=continue"} <= set(lines)


def test_user_data_that_would_not_fit_is_refused_before_aws_is_asked() -> None:
    rendered, _ = config()
    noise = "".join(random.Random(1).choices("0123456789abcdef", k=34_000))  # it cannot be packed to half
    with pytest.raises(ValueError, match="more than the 16384 that EC2 takes"):
        user_data({**rendered, "model": noise}, "sha", region=REGION, parameter="/p")
    assert largest_field({**rendered, "model": noise}) == "model"


def test_user_data_is_the_same_at_every_time() -> None:
    """A repeated RunInstances has to be the same request; a time in it (RFC 1952) would differ."""
    assert packed() == packed()
    assert packed()[4:8] == bytes(4)


@pytest.mark.parametrize("content", [b"\x1f\x8b", b"\x1f\x8bbroken", packed()[:-9], packed()[:200]])
def test_broken_gzip_is_no_user_data(content: bytes) -> None:
    assert unpack(content) == ""


def test_the_plugin_that_answers_mesh_is_written_and_loaded() -> None:
    shipped = {path.name: path.read_text() for path in (INSTANCE / BRIDGE).iterdir()}
    code = [line for line in shipped["index.js"].splitlines() if not line.lstrip().startswith("//")]
    shipped["index.js"] = "".join(f"{line.partition(' // ')[0].rstrip()}\n" for line in code)
    assert shipped.keys() == {"index.js", "openclaw.plugin.json", "package.json"}
    assert {path: text for path, text in files().items() if BRIDGE in path} == {
        f"{BRIDGE_FOLDER}/{name}": text for name, text in shipped.items()
    }
    rendered, config_sha = config()
    assert openclaw(rendered, config_sha)["plugins"] == {
        "load": {"paths": [BRIDGE_FOLDER]},
        "entries": {
            BRIDGE: {
                "enabled": True,
                "hooks": {"allowConversationAccess": True},
                "config": {"config_sha": config_sha},
            }
        },
    }


@pytest.mark.parametrize(("name", "model"), RETIRED_MODELS.items())
def test_a_retired_model_is_replaced_where_openclaw_reads_it_and_nowhere_else(name: str, model: str) -> None:
    """What was asked for stays in the configuration, and so in its hash."""
    rendered, _ = config()
    rendered["model"] = name
    assert openclaw(rendered, "sha")["agents"]["defaults"]["model"] == model
    (warning,) = [warning for warning in warnings(rendered) if warning.startswith("model:")]
    assert name in warning
    assert model in warning


def test_fallbacks_are_asked_in_turn_each_by_the_name_of_today_and_once() -> None:
    rendered, _ = config()
    rendered["fallbacks"] = [
        "anthropic/claude-sonnet-4-20250514",
        rendered["model"],
        "anthropic/claude-sonnet-5",
    ]
    assert openclaw(rendered, "sha")["agents"]["defaults"]["model"] == {
        "primary": rendered["model"],
        "fallbacks": ["anthropic/claude-sonnet-5"],
    }


@pytest.mark.parametrize("kind", TYPES)
def test_all_that_a_template_takes_fits_into_user_data(kind: str) -> None:
    """The longest lists of the longest values, an RSA key for restarts, and a bucket for the files."""
    chance = random.Random(1)

    def noise(length: int) -> str:
        return "".join(chance.choices(string.ascii_lowercase + string.digits, k=length))

    people, others, groups = ([chance.randrange(1 << 51, 1 << 52) for _ in range(16)] for _ in range(3))
    model, *fallbacks = (f"{noise(63)}/{noise(100)}" for _ in range(9))
    overrides: dict[str, Any] = {
        "allow_from": people,
        "group_allow_from": others,
        "groups": [-id_ for id_ in groups],
    }
    overrides |= {"model": model, "fallbacks": fallbacks}
    template = templates.load().get(kind, "production")
    rendered, sha = render("n" * 63, "production", template, overrides)
    key = f"ssh-rsa {noise(716)} remediator"
    files = f"s3://{noise(63)}/{noise(64)}"
    assert user_data(rendered, sha, region=REGION, parameter="/p", restart_key=key, files=files)


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"allow_from": [3_141_592_653_589, 2_718_281_828_459, 1_618_033_988_749]}, "allow_from"),
        ({"groups": [-3_141_592_653_589, -2_718_281_828_459, -1_618_033_988_749]}, "groups"),
        ({"probe": {"health_path": "/kq3vx8w1m5zt7c2p9d0b4n6h8j1g3f5s7a9y2u4i6o8e0r"}}, "probe"),
    ],
)
def test_what_takes_most_of_user_data_is_found(overrides: dict[str, Any], field: str) -> None:
    rendered, _ = render("n", "production", templates.load().get("support", "production"), overrides)
    assert largest_field(rendered) == field


def test_the_secret_is_handed_over_where_openclaw_looks_for_it() -> None:
    """systemd reads it as root and gives it to this unit alone, in memory."""
    (unit,) = re.findall(r"^LoadCredential=(\S+):(\S+)$", files()["/etc/systemd/system/bot.service"], re.M)
    assert unit == ("telegram-token", "/run/bot-secrets/telegram-token")
    assert openclaw(*config())["channels"]["telegram"] == {
        "enabled": True,
        "tokenFile": "/run/credentials/bot.service/telegram-token",
        "dmPolicy": "pairing",
    }
    assert "PARAMETERS=/bots/forge/\n" in files()["/etc/bot/instance.env"]


def test_nothing_listens_for_ssh_unless_a_setting_says_so() -> None:
    closed, login, restart = document(), document(login=True), document(restart_key=KEY)
    assert ["systemctl", "mask", "ssh.socket", "ssh.service"] in closed["runcmd"]
    assert [user["name"] for user in closed["users"]] == ["bot"]
    for opened in (login, restart):
        assert not any("ssh.service" in command for command in opened["runcmd"])
        assert (opened["disable_root"], opened["ssh_pwauth"]) == (True, False)
    assert login["users"][0] == "default", "cloud-init gives EC2's key pair to that user"
    assert "default" not in restart["users"]


def test_the_key_of_the_remediator_may_restart_the_bot_and_nothing_else() -> None:
    (user,) = [user for user in document(restart_key=KEY)["users"] if user["name"] != "bot"]
    assert user["ssh_authorized_keys"] == [f'command="sudo -n /usr/local/sbin/bot-restart",restrict {KEY}']
    assert user["sudo"] == 'ALL=(root) NOPASSWD: /usr/local/sbin/bot-restart ""'
    assert user["lock_passwd"]
    assert "/usr/local/sbin/bot-restart" in files(restart_key=KEY)
    assert KEY not in unpacked()
    assert "/usr/local/sbin/bot-restart" not in files()


# cloud-init


@pytest.fixture(scope="module")
def cloud_init() -> list[str]:
    """Return the command of `cloud-init schema`: this machine's, or Debian's package with our own Python."""
    if path := shutil.which("cloud-init"):
        return [path, "schema", "--config-file"]
    try:
        tree = unpacked_packages("cloud-init", *(f"python3-{name}" for name in PACKAGES))
    except BinaryError as error:
        pytest.skip(f"there is no cloud-init: {error}")
    python_path = f"PYTHONPATH={tree}/usr/lib/python3/dist-packages"
    return ["env", python_path, sys.executable, "-m", "cloudinit.cmd.main", "schema", "--config-file"]


def schema(cloud_init: list[str], folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = folder / "user-data"
    path.write_text(text)
    return subprocess.run([*cloud_init, path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("access", [{}, {"login": True, "restart_key": KEY}])
def test_cloud_init_finds_no_fault_with_it(
    cloud_init: list[str], tmp_path: Path, access: dict[str, Any]
) -> None:
    result = schema(cloud_init, tmp_path, unpacked(**access))
    assert result.returncode == 0, result.stdout + result.stderr


def test_cloud_init_would_find_a_fault(cloud_init: list[str], tmp_path: Path) -> None:
    result = schema(cloud_init, tmp_path, unpacked().replace("runcmd:\n", "runcmd: 3\nbootcmd:\n"))
    assert result.returncode != 0
    assert "runcmd" in result.stdout + result.stderr


def test_nothing_that_fails_for_a_while_is_given_up() -> None:
    """A start limit, or an exit code that is not restarted from, would leave a bot dead for ever."""
    for name in UNITS:
        text = files()[f"/etc/systemd/system/{name}"]
        assert re.search(r"^Restart=(always|on-failure)$", text, re.M), name
        assert "RestartPreventExitStatus" not in text, name
    assert "\nStartLimitIntervalSec=0\n" in files()["/etc/systemd/system/bot.service"]
    for name in ("bot-install", "bot-secrets", "bot-files"):  # bot.service requires them
        assert "\nRestartMode=direct\n" in files()[f"/etc/systemd/system/{name}.service"]


# systemd

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here (Debian: systemd)"
)


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Write the units, with programs that exist."""
    paths = []
    for name in UNITS:
        path = tmp_path / name
        text = files()[f"/etc/systemd/system/{name}"]
        path.write_text(re.sub(r"^(ExecStart(Pre)?=\+?)\S+", r"\1/bin/true", text, flags=re.M))
        paths.append(path)
    return paths


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_finds_no_fault_with_the_units(units: list[Path]) -> None:
    """Of the keys that this machine's systemd knows; the boot test asks that of an instance."""
    result = analyze("verify", "--man=no", *units)
    newer = re.compile(r"Unknown key( name)? '(RestartMode|RestartSteps|RestartMaxDelaySec)'")  # systemd 254
    lines = [line for line in result.stderr.splitlines() if not newer.search(line)]
    assert not [line for line in lines if any(name in line for name in UNITS)]


@needs_systemd
def test_systemd_would_find_a_fault(units: list[Path]) -> None:
    bot = next(unit for unit in units if unit.name == "bot.service")
    bot.write_text(bot.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    assert "ProtectHouse" in analyze("verify", "--man=no", *units).stderr


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_units_are_well_protected(units: list[Path], name: str) -> None:
    (unit,) = [unit for unit in units if unit.name == name]
    result = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert result.returncode == 0, result.stdout.splitlines()[-1]


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
        started |= set(
            re.findall(r"^ExecStart(?:Pre)?=\+?(\S+)", written[f"/etc/systemd/system/{name}"], re.M)
        )
    assert started - written.keys() == {"/usr/bin/systemctl", "/opt/bot/node/bin/node"}
    bot = written["/etc/systemd/system/bot.service"]
    assert set(re.findall(r"/etc/bot/\S+", bot)) <= written.keys()
    (command,) = re.findall(r"^ExecStart=(.+)$", bot, re.M)
    node, *arguments = OpenClaw(Path("/opt/bot")).argv("gateway")
    assert command.split() == [node, "--max-old-space-size-percentage=80", *arguments]


# bot-secrets


@pytest.fixture
def secrets(world: World, tmp_path: Path) -> Any:
    """Run bot-secrets as its unit does, on the instance i-me, against the SSM of the cloud."""
    bot = world.name()
    (tmp_path / "instance-id").write_text("i-me\n")
    (tmp_path / "secrets").mkdir()

    class Secrets:
        folder = tmp_path / "secrets"
        argv = (sys.executable, str(INSTANCE / "bot-secrets"))

        def environment(self, **changes: str) -> dict[str, str]:
            variables = {"AWS_REGION": REGION, "PARAMETERS": f"/bots/{bot}/", "PATIENCE": "0", "LOOK": "0.05"}
            variables |= {"RUNTIME_DIRECTORY": str(self.folder), "AWS_ENDPOINT_URL": world.cloud.endpoint_url}
            return variables | credentials() | {"INSTANCE_ID_FILE": str(tmp_path / "instance-id")} | changes

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
    result = secrets.run()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    contents = secrets.read()
    assert contents.keys() == {"telegram-token", "bot.env"}
    assert contents["telegram-token"] == "42:planted"
    assert re.fullmatch(
        r"OPENCLAW_GATEWAY_TOKEN=[0-9a-f]{64}\nANTHROPIC_API_KEY=planted-key\n", contents["bot.env"]
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.folder.iterdir()} == {0o600}


def test_a_bot_without_a_token_says_so(secrets: Any) -> None:
    result = secrets.run()
    assert result.returncode == 1
    assert result.stderr == "bot-secrets: there is no parameter telegram-token for this bot\n"


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
    result = secrets.run(AWS_ENDPOINT_URL=nowhere)
    assert result.returncode == 0
    assert "Could not connect" in result.stderr
    assert secrets.read() == before


# bot-install: what it does when all is well is in test_openclaw


@pytest.mark.parametrize(("machine", "archive"), [("x86_64", "linux-x64"), ("aarch64", "linux-arm64")])
def test_node_is_that_of_the_machine(tmp_path: Path, machine: str, archive: str) -> None:
    """A curl that writes what it was asked for, and a uname that says what is to be seen."""
    (tmp_path / "bin").mkdir()
    for name, script in {
        "uname": f"echo {machine}",
        "curl": "for a; do case $a in https*) url=$a ;; esac; done\n"
        'while [ "$1" != --output ]; do shift; done\nprintf %s "$url" >"$2"',
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    url = f"https://nodejs.org/dist/v{SOFTWARE['NODE_VERSION']}/node-v{SOFTWARE['NODE_VERSION']}-{archive}.tar.gz"
    digest = hashlib.sha256(url.encode()).hexdigest()
    environment = {**SOFTWARE, "NODE_SHA256": digest, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    argv = ["sh", str(INSTANCE / "bot-install"), str(tmp_path / "opt")]
    result = subprocess.run(
        argv, env={**environment, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert "node.tar: FAILED" not in result.stdout, "the archive of this machine"
    assert "openclaw.tgz: FAILED" in result.stdout, "which is what is fetched after it"


def test_software_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    curl = tmp_path / "bin/curl"
    curl.write_text('#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\necho evil >"$2"\n')
    curl.chmod(0o755)
    environment = {**SOFTWARE, "PATH": f"{curl.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    argv = ["sh", str(INSTANCE / "bot-install"), str(tmp_path / "opt")]
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "node.tar: FAILED" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
