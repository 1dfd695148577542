"""The bot of production for real: Node and OpenClaw take the configuration that instances get.

They are fetched (0.9 GB) in CI, or with OPENCLAW=1; elsewhere these tests run where `.cache` has them.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import templates
from exporter.probe import Reason, open_session, probe
from exporter.targets import Target
from remediator.cloudinit import INSTANCE, openclaw
from remediator.configuration import render
from sandbox.binaries import BinaryError
from sandbox.openclaw import OpenClaw, install, present
from sandbox.processes import Process, answers, free_port

pytestmark = pytest.mark.timeout(900)
SECCOMP = Path(__file__).with_name("seccomp.py")
TEMPLATES = templates.load()


@pytest.fixture(scope="module")
def program() -> OpenClaw:
    wanted = "CI" in os.environ or "OPENCLAW" in os.environ
    try:
        found = install() if wanted else present()
    except BinaryError as error:
        pytest.skip(f"this machine cannot have OpenClaw: {error}")
    if found is None:
        pytest.skip("OpenClaw is not in .cache/openclaw; OPENCLAW=1 (or CI) fetches its 0.9 GB")
    return found


def configuration(kind: str, environment: str) -> dict[str, Any]:
    return openclaw(render("forge", environment, TEMPLATES.get(kind, environment))[0])


def unit(home: Path, program: OpenClaw) -> dict[str, str]:
    """The environment that bot.service gives the bot, standing by, with its folders elsewhere."""
    text = (INSTANCE / "bot.service").read_text()
    pairs = [pair for line in re.findall(r"^Environment=(.+)$", text, re.M) for pair in line.split()]
    places = {"/opt/bot": str(program.home), "/etc/bot": str(home), "/var/lib/bot": str(home / "state")}
    made = {"OPENCLAW_GATEWAY_TOKEN": "0" * 64, "OPENCLAW_SKIP_CHANNELS": "1"}
    for key, _, value in (pair.partition("=") for pair in pairs):
        for there, here in places.items():
            value = value.replace(there, here)
        made[key] = value
    return made


def validate(program: OpenClaw, home: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What `openclaw config validate` says of it."""
    (home / "state").mkdir(parents=True)
    (home / "openclaw.json").write_text(json.dumps(content))
    argv = program.argv("config", "validate", "--json")
    said = subprocess.run(argv, env=unit(home, program), capture_output=True, text=True, check=False)
    verdict: dict[str, Any] = json.loads(said.stdout[said.stdout.index("{") :])
    assert (said.returncode == 0) == verdict["valid"]
    return verdict


def test_openclaw_accepts_the_configuration_of_every_template_in_every_environment(
    program: OpenClaw, tmp_path: Path
) -> None:
    """And would not accept one with a field that it does not know. Equal ones are asked about once."""
    rendered = [
        configuration(kind, environment) for kind in TEMPLATES.names for environment in templates.ENVIRONMENTS
    ]
    distinct = [json.loads(text) for text in sorted({json.dumps(one, sort_keys=True) for one in rendered})]
    wrong = {**distinct[0], "gateway": {"prot": 18790}}
    with ThreadPoolExecutor(2) as pool:
        *verdicts, refused = pool.map(
            lambda one: validate(program, tmp_path / str(one[0]), one[1]), enumerate([*distinct, wrong])
        )
    assert [one for one in verdicts if not one["valid"] or one["warnings"]] == []
    assert not refused["valid"]


def confined() -> list[str]:
    """A command that runs another with the system calls that bot.service allows; none where it cannot."""
    if shutil.which("systemd-analyze") is None or ctypes.util.find_library("seccomp") is None:
        return []
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.+)$", (INSTANCE / "bot.service").read_text(), re.M):
        named = set().union(*(calls(group) for group in line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return [sys.executable, "-I", "-S", str(SECCOMP), ",".join(sorted(allowed))]


def calls(group: str) -> set[str]:
    if not group.startswith("@"):
        return {group}
    argv = ["systemd-analyze", "syscall-filter", "--no-pager", group]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = [line.strip() for line in said.stdout.splitlines()[1:]]
    return set().union(*(calls(line) for line in lines if line and not line.startswith("#")))


async def test_the_gateway_answers_and_says_no_more_than_that_it_lives(
    program: OpenClaw, tmp_path: Path
) -> None:
    """With the configuration, the environment and the system calls that bot.service gives it, on loopback."""
    port = free_port()
    content = configuration("support", "production")
    assert content["gateway"]["bind"] == "lan"
    content["gateway"] |= {"port": port, "bind": "loopback"}
    (tmp_path / "state").mkdir()
    written = tmp_path / "openclaw.json"
    written.write_text(json.dumps(content))
    process = Process(
        [*confined(), *program.argv("gateway")],
        log=tmp_path / "log",
        env=unit(tmp_path, program),
        ready=answers(f"http://127.0.0.1:{port}/health"),
        ready_timeout=300,
        grace=1,
    )
    target = Target("forge", f"127.0.0.1:{port}")
    async with process, open_session() as session:
        seen = await probe(session, target, timeout=30)
        assert seen.health.ok, seen
        assert seen.health.payload == {"ok": True, "status": "live"}
        # Not a word of which configuration it runs: its launch is the only proof. See the README.
        assert (seen.config_sha, seen.boot_id, seen.started_at) == (None, None, None)
        assert (seen.mesh.ok, seen.mesh.reason) == (False, Reason.http_status), "it has no mesh"
    assert json.loads(written.read_text()) == content
