"""The demo as a person runs it: a program that is interrupted, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.demo import show
from sandbox.process.binaries import BinaryError
from sandbox.process.processes import is_gone

PATIENCE = 120


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes that came from it."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    pids = [pid]
    for parent in pids:
        pids += [child for child, its_parent in pairs if its_parent == parent]
    return pids[1:]


async def interrupt(demo: asyncio.subprocess.Process, moment: bytes, number: int) -> tuple[list[int], bytes]:
    """Send a signal at a line of its log; returns the processes of that moment, and the whole output."""
    assert demo.stderr is not None
    while moment not in await demo.stderr.readline():
        assert not demo.stderr.at_eof()
    pids = descendants(demo.pid)
    demo.send_signal(number)
    output, _ = await demo.communicate()
    return pids, output


@pytest.mark.parametrize(
    ("moment", "number", "running"),
    [
        (b"starting Prometheus", signal.SIGTERM, 1),  # the cloud
        (
            b"are deployed",
            signal.SIGINT,
            12,
        ),  # and four services, eight bots, one of which may be dead by now
    ],
)
async def test_an_interrupted_demo_tidies_up(moment: bytes, number: int, running: int) -> None:
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", "demo", "--check"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        pids, output = await asyncio.wait_for(interrupt(demo, moment, number), PATIENCE)
    finally:
        if demo.returncode is None:
            demo.kill()
    assert len(pids) >= running
    assert demo.returncode == 130
    assert all(is_gone(pid) for pid in pids)
    verdict = json.loads(output.splitlines()[-1])
    assert verdict["ok"] is False
    assert verdict["acts"] == []


def test_without_openclaw_the_real_one_says_why_and_plays_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def install() -> None:
        raise BinaryError("OpenClaw could not be installed: there is no curl")

    monkeypatch.setattr(show, "install", install)
    assert show.demo(tmp_path, None, check=True, real=True) == 1
    written = capsys.readouterr()
    assert "demo: OpenClaw could not be installed: there is no curl\n" in written.err
    assert json.loads(written.out)["acts"] == []


def test_a_program_without_a_command_says_what_there_is() -> None:
    done = subprocess.run([sys.executable, "-m", "sandbox"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


@pytest.mark.parametrize("command", ["cloud", "bots", "fault", "heal", "effects", "binaries", "up", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    argv = [sys.executable, "-m", "sandbox", command, "--help"]
    assert "usage" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_cloud_that_is_not_there_is_a_clear_error() -> None:
    argv = [sys.executable, "-m", "sandbox", "bots", "--url", "http://127.0.0.1:9"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: http://127.0.0.1:9")
    assert "Traceback" not in done.stderr
