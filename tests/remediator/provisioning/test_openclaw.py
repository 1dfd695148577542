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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import templates
from exporter.probing.probe import open_session, probe
from remediator.aws.ssm_commands import PAIRING, Command
from remediator.provisioning.cloudinit import INSTANCE, SOFTWARE
from remediator.provisioning.pairing import NO_SUCH_CODE, approved_in, requests_in, valid_code
from sandbox.cloud.run_command import lines_of, words_of
from sandbox.process.binaries import BinaryError
from sandbox.process.gateway import SKIP, configuration, run_gateway, unit_environment
from sandbox.process.openclaw import OpenClaw, install, present

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[3]
SECCOMP = Path(__file__).with_name("seccomp.py")
TEMPLATES = templates.load()


@pytest.fixture(scope="module")
def program() -> OpenClaw:
    fetch = "CI" in os.environ or "OPENCLAW" in os.environ
    try:
        installed = install() if fetch else present()
    except BinaryError as error:
        pytest.skip(f"this machine cannot have OpenClaw: {error}")
    if installed is None:
        pytest.skip("OpenClaw is not in .cache/openclaw; OPENCLAW=1 (or CI) fetches its 0.9 GB")
    return installed


def validate(program: OpenClaw, home: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict of `openclaw config validate`."""
    (home / "state").mkdir(parents=True)
    (home / "openclaw.json").write_text(json.dumps(content))
    argv = program.argv("config", "validate", "--json")
    result = subprocess.run(
        argv, env={**unit_environment(home, program), SKIP: "1"}, capture_output=True, text=True, check=False
    )
    verdict: dict[str, Any] = json.loads(result.stdout[result.stdout.index("{") :])
    assert (result.returncode == 0) == verdict["valid"]
    return verdict


def test_openclaw_accepts_the_configuration_of_every_template_in_every_environment(
    program: OpenClaw, tmp_path: Path
) -> None:
    """And would not accept one with a field that it does not know. Equal ones are asked about once."""
    rendered = [
        configuration(kind, environment) for kind in TEMPLATES.names for environment in templates.ENVIRONMENTS
    ]
    distinct = [
        json.loads(text) for text in sorted({json.dumps(content, sort_keys=True) for content in rendered})
    ]
    wrong = {**distinct[0], "gateway": {"prot": 18790}}
    with ThreadPoolExecutor(2) as pool:
        *verdicts, refused = pool.map(
            lambda item: validate(program, tmp_path / str(item[0]), item[1]), enumerate([*distinct, wrong])
        )
    assert [verdict for verdict in verdicts if not verdict["valid"] or verdict["warnings"]] == []
    assert not refused["valid"]


TALKED_TO = {"allow_from": [123456789], "groups": [-1001234567890], "group_allow_from": [5, 6]}
FALLBACKS = ["openai/gpt-5.5", "anthropic/claude-sonnet-4-20250514"]


def test_openclaw_accepts_everybody_who_may_be_let_in_and_warns_where_it_would_drop_all(
    program: OpenClaw, tmp_path: Path
) -> None:
    configurations = [
        configuration(overrides={**TALKED_TO, "fallbacks": FALLBACKS}),
        configuration(overrides={"dm_policy": "open", "group_policy": "open"}),
        configuration(overrides={"dm_policy": "allowlist"}),
    ]
    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(
            lambda item: validate(program, tmp_path / str(item[0]), item[1]), enumerate(configurations)
        )
    assert [(verdict["valid"], len(verdict["warnings"])) for verdict in verdicts] == [
        (True, 0),
        (True, 0),
        (True, 1),
    ]


ASK = """
import { upsertChannelPairingRequest as ask } from "%s";
const meta = { firstName: "Jo", username: "jo" };
console.log((await ask({ channel: "telegram", id: "123456789", accountId: "default", meta })).code);
"""


def test_who_wrote_to_it_is_listed_and_admitted_by_the_words_of_the_document(
    program: OpenClaw, tmp_path: Path
) -> None:
    """OpenClaw's own code has somebody write, and a shell runs the document, all but systemd-run."""
    (tmp_path / "state").mkdir()
    (tmp_path / "openclaw.json").write_text(json.dumps(configuration("support", "production")))
    variables = {**unit_environment(tmp_path, program), SKIP: "1"}
    sdk = program.home / "openclaw/node_modules/openclaw/dist/plugin-sdk/conversation-runtime.js"
    (tmp_path / "ask.mjs").write_text(ASK % sdk)

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)

    def paired(code: str) -> Command:
        """Run what systemd-run is given for a code."""
        lines = lines_of(json.loads(PAIRING.content), {"code": [code]} if code else {})
        result = run(*program.argv("pairing", *words_of(lines)))
        return Command("", "", result.returncode, "", result.stdout, result.stderr)

    code = run(str(program.home / "node/bin/node"), str(tmp_path / "ask.mjs")).stdout.split()[-1]
    assert valid_code(code) == code
    (waiting,) = requests_in(paired("").stdout)
    assert (waiting.code, waiting.sender, waiting.name) == (code, "123456789", "Jo @jo")
    approved = paired(code)
    assert approved_in(approved.stdout) == "123456789"
    assert (approved.exit_code, "OPENCLAW_CONFIG_READONLY" in approved.stderr) == (1, True)
    again = paired(code)
    assert (approved_in(again.stdout), NO_SUCH_CODE in again.stderr) == (None, True)
    assert requests_in(paired("").stdout) == []


def test_the_list_of_models_is_that_of_its_catalogue(program: OpenClaw) -> None:
    assert program.home.exists()
    argv = [sys.executable, "scripts/models.py", "--check"]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def confined() -> list[str]:
    """Return a command that runs another with the system calls that bot.service allows; [] without one."""
    if shutil.which("systemd-analyze") is None or ctypes.util.find_library("seccomp") is None:
        return []
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.+)$", (INSTANCE / "bot.service").read_text(), re.M):
        group = set().union(*(calls(name) for name in line.removeprefix("~").split()))
        allowed = allowed - group if line.startswith("~") else allowed | group
    return [sys.executable, "-I", "-S", str(SECCOMP), ",".join(sorted(allowed))]


def calls(group: str) -> set[str]:
    """Return the system calls of a group of systemd's, or the one of that name."""
    if not group.startswith("@"):
        return {group}
    argv = ["systemd-analyze", "syscall-filter", "--no-pager", group]
    result = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = [line.strip() for line in result.stdout.splitlines()[1:]]
    return set().union(*(calls(line) for line in lines if line and not line.startswith("#")))


async def test_the_gateway_lives_and_tells_of_itself_on_mesh(program: OpenClaw, tmp_path: Path) -> None:
    """With the system calls that bot.service allows; tests/conformance asks more of it."""
    content = configuration("support", "production")
    assert content["gateway"]["bind"] == "lan"
    before = datetime.now(UTC)
    standby = run_gateway(program, tmp_path, content, standby=True, wrapper=confined())
    async with standby as gateway, open_session() as session:
        written = (tmp_path / "openclaw.json").read_text()
        result = await probe(session, gateway.target, timeout=30)
        assert result.health.ok, result
        assert result.mesh.ok, result
        assert result.version == SOFTWARE["OPENCLAW_VERSION"]
        assert result.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert result.started_at is not None
        assert before <= datetime.fromisoformat(result.started_at) <= datetime.now(UTC)
        assert result.facts.requests == 0
        assert result.facts.context_usage is None, "no turn was made"
    assert (tmp_path / "openclaw.json").read_text() == written
