"""The demo as a person runs it: a program that is interrupted, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

import pytest

from sandbox.processes import is_gone

PATIENCE = 120


def descendants(pid: int) -> list[int]:
    """Process ids of all that came from it."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found[1:]


async def interrupt(demo: asyncio.subprocess.Process, moment: bytes, number: int) -> tuple[list[int], bytes]:
    """When it says that; all that ran then, and what it said in the end."""
    assert demo.stderr is not None
    while moment not in await demo.stderr.readline():
        assert not demo.stderr.at_eof()
    pids = descendants(demo.pid)
    demo.send_signal(number)
    said, _ = await demo.communicate()
    return pids, said


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
        pids, said = await asyncio.wait_for(interrupt(demo, moment, number), PATIENCE)
    finally:
        if demo.returncode is None:
            demo.kill()
    assert len(pids) >= running
    assert demo.returncode == 130
    assert all(is_gone(pid) for pid in pids)
    verdict = json.loads(said.splitlines()[-1])
    assert verdict["ok"] is False
    assert verdict["acts"] == []


def test_a_program_without_a_command_says_what_there_is() -> None:
    said = subprocess.run([sys.executable, "-m", "sandbox"], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "COMMAND" in said.stderr


@pytest.mark.parametrize("command", ["cloud", "bots", "fault", "heal", "effects", "binaries", "up", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    argv = [sys.executable, "-m", "sandbox", command, "--help"]
    assert "usage" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_a_cloud_that_is_not_there_is_a_clear_error() -> None:
    argv = [sys.executable, "-m", "sandbox", "bots", "--url", "http://127.0.0.1:9"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert said.stderr.startswith("sandbox: http://127.0.0.1:9")
    assert "Traceback" not in said.stderr
