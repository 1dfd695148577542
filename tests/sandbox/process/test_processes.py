"""A child is started, is ready, is stopped by force if need be, and never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.process.processes import Process, ProcessError, free_port, is_gone, log_matches
from sandbox.process.waiting import wait_until

PLAIN = "import time; print('up', flush=True); time.sleep(99)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {PLAIN}"


def child(tmp_path: Path, program: str = PLAIN, grace: float = 5, ready: str = "up") -> Process:
    argv = [sys.executable, "-c", program]
    return Process(argv, log=tmp_path / "child.log", ready=log_matches(ready), ready_timeout=20, grace=grace)


async def test_a_child_is_ready_when_it_says_so_and_gone_at_the_end(tmp_path: Path) -> None:
    async with child(tmp_path) as process:
        assert process.pid is not None
        pid = process.pid
        assert "up" in process.log_text()
        assert os.getpgid(pid) == pid != os.getpgid(0)
    assert is_gone(pid)
    assert process.returncode == -signal.SIGTERM


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async with child(tmp_path, STUBBORN, grace=0.1) as process:
        pass
    assert process.returncode == -signal.SIGKILL


async def test_a_stopped_child_can_be_ended(tmp_path: Path) -> None:
    async with child(tmp_path) as process:
        process.signal(signal.SIGSTOP)
    assert process.returncode == -signal.SIGTERM


async def test_a_killed_child_can_be_started_again_and_its_log_is_kept(tmp_path: Path) -> None:
    async with child(tmp_path) as process:
        first = process.pid
        process.kill9()
        assert not process.alive
        assert process.returncode == -signal.SIGKILL
        await process.start()
        assert process.pid not in (None, first)
        assert process.log_text() == "up\n"
    assert (tmp_path / "child.log").read_text() == "up\nup\n"


async def test_a_grandchild_goes_with_the_child(tmp_path: Path) -> None:
    grandchild = "print('up', os.getpid(), flush=True); time.sleep(99)"
    program = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os, time; ' {grandchild!r}])"
    )
    async with child(tmp_path, program, ready=r"up \d+\n") as process:
        pids = [process.pid or 0, int(process.log_text().split()[1])]
        assert not any(is_gone(pid) for pid in pids)
        process.kill9()
        await wait_until(lambda: all_gone(pids))


@pytest.mark.parametrize("end", [Process.stop, Process.kill9])
async def test_a_grandchild_that_a_child_left_behind_goes_too(
    tmp_path: Path, end: Callable[[Process], None]
) -> None:
    """The child ends in peace; what it started ignores SIGTERM, and had been stopped."""
    grandchild = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    grandchild += "print('up', os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(99)"
    program = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {grandchild!r}])"
    async with child(tmp_path, f"{program}; time.sleep(99)", ready=r"up \d+\n") as process:
        pid = int(process.log_text().split()[1])
        os.kill(process.pid or 0, signal.SIGTERM)
        await wait_until(lambda: has_ended(process), what="the child's end")
        end(process)
        await wait_until(lambda: all_gone([pid]), what="the grandchild's end")


async def has_ended(process: Process) -> bool:
    return not process.alive


async def all_gone(pids: list[int]) -> bool:
    return all(is_gone(pid) for pid in pids)


async def test_a_child_that_exits_early_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="exited with 3\nno luck"):
        await child(tmp_path, "print('no luck'); raise SystemExit(3)").start()


async def test_a_child_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    process = Process(
        [sys.executable, "-c", PLAIN], log=tmp_path / "log", ready=log_matches("never"), ready_timeout=0.2
    )
    with pytest.raises(ProcessError, match="not ready"):
        await process.start()
    assert not process.alive


async def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    process = Process(["/no/such/program"], log=tmp_path / "log", ready=log_matches("up"))
    with pytest.raises(ProcessError, match="No such file"):
        await process.start()


async def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = f"""
import time, sys
from pathlib import Path
from sandbox.process.processes import Process
process = Process([sys.executable, "-c", {STUBBORN!r}], log=Path({str(tmp_path / "child.log")!r}))
process.spawn()
print(process.pid, flush=True)
time.sleep(99)
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    log = tmp_path / "child.log"

    async def up() -> bool:
        return log.exists() and log.read_text() == "up\n"

    await wait_until(up)
    assert not is_gone(pid)
    parent.kill()
    await parent.wait()
    await wait_until(lambda: all_gone([pid]))


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] < 32768
