"""Remediators as real processes on one database, that can be killed, frozen and thawed."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.process.processes import Process, answers, free_port
from tests.remediator.conftest import QUICK, REPOSITORY, TOKEN, Api, environment

LEASE = 3.0  # seconds


@dataclass
class Replica:
    process: Process
    api: Api

    async def start(self) -> None:
        await self.process.start()

    def kill9(self) -> None:
        self.process.kill9()

    def freeze(self) -> None:
        """Stop the process with SIGSTOP."""
        self.process.pause()

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the log of all its lives."""
        return self.process.log.read_text()


@asynccontextmanager
async def run_replica(folder: Path, name: str, database_url: str, **changes: Any) -> AsyncIterator[Replica]:
    """Run `python -m remediator`, with short times, until the block ends."""
    address = f"127.0.0.1:{free_port()}"
    settings = {
        **QUICK,
        "lease": LEASE,
        "listen": address,
        "token": TOKEN,
        "database_url": database_url,
        **changes,
    }
    process = Process(
        [sys.executable, "-W", "error", "-m", "remediator"],
        name=name,
        log=folder / f"{name}.log",
        cwd=REPOSITORY,
        env=environment(settings),
        ready=answers(f"http://{address}/-/ready"),
        ready_timeout=60,
        grace=20,
    )
    async with process, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield Replica(process, Api(f"http://{address}", session))
