"""Child processes: a session of their own, dead when we are, ready by a condition."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import aiohttp

DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
PORTS = range(20_000, 32_000)
"""Below Linux's ephemeral range (from 32768): no outgoing connection takes a port between test and use."""

Ready = Callable[["Process"], Awaitable[bool]]


class ProcessError(RuntimeError):
    """A child did not start, or did not become ready in time. The message holds the end of its log."""


class Process:
    """A child process. `start` and `kill9` may alternate as often as wanted; the log is kept across starts.

    Start it from a thread that lives as long as the child should: the kernel's "parent death" signal
    (prctl(2), PR_SET_PDEATHSIG) watches the *thread* that forked, not its process.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready: Ready | None = None,
        ready_timeout: float = 30,
        grace: float = 5,
    ) -> None:
        """Describe a child; `env` is added to ours at each start, `grace` is in seconds, until SIGKILL."""
        self.argv = [str(part) for part in argv]
        self.name = name or Path(self.argv[0]).name
        self.log = log
        self.env = dict(env or {})
        self._cwd = cwd
        self._ready = ready
        self._ready_timeout = ready_timeout
        self._grace = grace
        self._child: subprocess.Popen[bytes] | None = None
        self._group: int | None = None  # of processes, as long as some of it may be left
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self._child.pid if self._child is not None and self.alive else None

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def spawn(self) -> None:
        """Start it without waiting until it is ready."""
        if self.alive:
            raise ProcessError(f"{self.name}: already running")
        self._end_group()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid()), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                cwd=self._cwd,
                start_new_session=True,  # its own process group, and a terminal's Ctrl-C is ours alone
            )
        self._group = self._child.pid

    async def start(self) -> None:
        """Start it and wait until it is ready; a child that fails to is stopped again."""
        self.spawn()
        if self._ready is None:
            return
        try:
            await self._until_ready(self._ready)
        except BaseException:
            self.kill9()
            raise

    async def _until_ready(self, ready: Ready) -> None:
        deadline = time.monotonic() + self._ready_timeout
        while not await ready(self):
            if not self.alive:
                raise ProcessError(f"{self.name} exited with {self.returncode}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name} not ready in {self._ready_timeout:g} s\n{self.log_tail()}")
            await asyncio.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal to the child's whole process group; nothing happens if it is gone."""
        if self._child is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def pause(self) -> None:
        """Stop it (SIGSTOP): when this returns it does nothing, though the kernel still accepts for it."""
        self.signal(signal.SIGSTOP)
        while (pid := self.pid) is not None and state_of(pid) != "T":
            time.sleep(0.001)  # the kernel stops it as soon as it runs next

    def kill9(self) -> None:
        """Kill and reap it: when this returns it is gone, and so are the processes that it left behind."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
        self._end_group()

    def _end_group(self) -> None:
        """Kill what a child that is gone has left of its group, as systemd does with a control group."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
            self._group = None

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after the grace period. Blocks; `aclose` does not."""
        if self._child is not None and self.alive:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # as systemd does: a stopped process could not see the SIGTERM
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(self._grace)
        self.kill9()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.stop)

    async def __aenter__(self) -> Process:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def log_text(self) -> str:
        """Return what the child has written since its latest start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines since its latest start."""
        return "\n".join(self.log_text().splitlines()[-lines:])


def log_matches(pattern: str) -> Ready:
    """Make the condition that the log matches the pattern."""

    async def ready(process: Process) -> bool:
        return re.search(pattern, process.log_text()) is not None

    return ready


def answers(url: str) -> Ready:
    """Make the condition that a GET of the URL answers 200."""

    async def ready(process: Process) -> bool:
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return ready


def state_of(pid: int) -> str:
    """Return the kernel's letter for a process (proc(5): R, S, T, Z …), or nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    """Return whether there is no such process, or one that is dead and only waits to be reaped."""
    return state_of(pid) in ("", "Z")


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port nobody listens on, and that the kernel gives to no outgoing connection meanwhile."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return port
    raise ProcessError(f"no free port on {host} in {PORTS}")
