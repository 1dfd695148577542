""".ci/newest, and how npm is asked for the newest OpenClaw, as far as they go without the network."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.process.binaries import BinaryError
from sandbox.process.openclaw import PINNED, newest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
[ -z "$UNREACHABLE" ] || exit 1
echo "The newest OpenClaw is 2030.1.2"
"""
MAKE = """#!/bin/sh
echo "$CI $OPENCLAW: make $*"
"""

Npm = Callable[[str], Path]


def put(path: Path, text: str) -> None:
    """Write an executable file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run_newest(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the job in a tree where Python says the version, and make what it was called with."""
    (checkout / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/newest", checkout / ".ci/newest")
    put(checkout / ".venv/bin/python", PYTHON)
    put(checkout / "bin/make", MAKE)
    environment = {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        [checkout / ".ci/newest"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_job_names_the_version_and_asks_it_everything(tmp_path: Path) -> None:
    done = run_newest(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "true newest: make setup",
        "The newest OpenClaw is 2030.1.2",
        "true newest: make test WORKERS=1 ARGS=tests/conformance -k newest",
    ]


def test_the_job_fails_where_npm_cannot_be_asked(tmp_path: Path) -> None:
    done = run_newest(tmp_path, UNREACHABLE="1")
    assert done.returncode == 1
    assert "make test" not in done.stdout


@pytest.fixture
def npm(tmp_path: Path) -> Npm:
    """Make a cache with a pinned OpenClaw whose npm runs a line of shell."""

    def cache(line: str) -> Path:
        put(PINNED.home(tmp_path) / "node/bin/npm", f"#!/bin/sh\n{line}\n")
        return tmp_path

    return cache


def test_the_newest_release_has_the_version_and_the_hash_that_npm_tells(npm: Npm) -> None:
    integrity = "sha512-" + base64.b64encode(b"\x01" * 64).decode()
    facts = json.dumps({"version": "2030.1.2", "dist.integrity": integrity})
    release = newest(npm(f"echo '{facts}'"))
    assert (release.version, release.sha512) == ("2030.1.2", "01" * 64)


@pytest.mark.parametrize(
    "line",
    ["echo 'npm error network' >&2; exit 1", "echo '<html>'", "echo '{}'"],
    ids=["error", "page", "empty"],
)
def test_an_npm_that_does_not_tell_is_an_error_with_a_name(npm: Npm, line: str) -> None:
    with pytest.raises(BinaryError, match="npm did not tell its newest OpenClaw"):
        newest(npm(line))
