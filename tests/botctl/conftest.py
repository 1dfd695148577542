"""A real remediator over a cloud in a box, and botctl as a person runs it."""

import asyncio
import contextlib
import io
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from botctl.__main__ import main
from sandbox.cloud.client import Cloud, run_cloud
from sandbox.process.processes import Process, answers, free_port
from tests.remediator.conftest import QUICK, REPOSITORY, TOKEN, environment


@dataclass(frozen=True)
class Service:
    """A remediator over a cloud of its own."""

    cloud: Cloud
    url: str
    token_file: Path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Run one service for all these tests; each has bots of its own."""
    folder = tmp_path_factory.mktemp("service")
    address = f"127.0.0.1:{free_port()}"
    async with run_cloud(folder / "cloud", boot_seconds=0.2) as cloud:
        settings = {
            **QUICK,
            "listen": address,
            "token": TOKEN,
            "database_url": f"sqlite:///{folder}/remediator.db",
            "aws_endpoint_url": cloud.endpoint_url,
            "modes": "production:restart=approve",
        }
        process = Process(
            [sys.executable, "-m", "remediator"],
            name="remediator",
            log=folder / "remediator.log",
            cwd=REPOSITORY,
            env=environment(settings),
            ready=answers(f"http://{address}/-/ready"),
            grace=20,
        )
        (folder / "token").write_text(TOKEN + "\n")
        async with process:
            yield Service(cloud, f"http://{address}", folder / "token")


@dataclass(frozen=True)
class Result:
    """How botctl ended, and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Botctl(Protocol):
    async def __call__(self, *words: str, stdin: str = "") -> Result: ...


def run(words: tuple[str, ...], stdin: str = "") -> Result:
    """Run botctl in this process, with streams of bytes and no terminal."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(words))
    finally:
        sys.stdin = before
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Result(code, *texts)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, service: Service) -> Mapping[str, str]:
    """Set the environment that names the service, and return it."""
    variables = {
        "BOTCTL_URL": service.url,
        "BOTCTL_TOKEN_FILE": str(service.token_file),
        "XDG_STATE_HOME": str(service.token_file.parent),  # where there is no token of another service
        "COLUMNS": "160",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def botctl(at: Mapping[str, str]) -> Botctl:
    async def call(*words: str, stdin: str = "") -> Result:
        return await asyncio.to_thread(run, words, stdin)

    return call


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def forge(service: Service) -> str:
    """Deploy a bot for tests that only read it, and return its name."""
    options = ("--url", service.url, "--token-file", str(service.token_file))
    deploy = ("deploy", "forge", "--type", "support", "-e", "staging", "--telegram-token-file", "-")
    result = await asyncio.to_thread(run, (*options, *deploy), "42:telegram\n")
    assert result.code == 0, result
    return "forge"


DEFAULT_SIGNALS = ("env", "--default-signal=INT,QUIT")  # what a shell starts in the background ignores them


class Terminal:
    """botctl at a pseudo-terminal of its own: what it prints, what is typed."""

    def __init__(self, at: Mapping[str, str], *words: str) -> None:
        self._master, slave = pty.openpty()
        self.output = b""
        self._process = subprocess.Popen(
            [*DEFAULT_SIGNALS, "setsid", "--ctty", "--wait", sys.executable, "-m", "botctl", *words],
            env={**os.environ, **at, "TERM": "xterm-256color", "LINES": "40"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def until(self, text: bytes) -> None:
        """Read until it prints that."""
        while text not in self.output and self._read():
            pass
        assert text in self.output, self.output

    def _read(self, patience: float = 60) -> bool:
        """Read what it prints next; return whether there may be more."""
        if not select.select([self._master], [], [], patience)[0]:
            return False
        try:
            self.output += os.read(self._master, 4096)
        except OSError:  # it has ended
            return False
        return True

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as often as it takes: Python loses one that comes just before it waits for a key."""
        for _ in range(30):
            self.type("\x03")
            while self._read(2):
                pass
            if self._process.poll() is not None:
                return

    def end(self) -> int:
        while self._read():
            pass
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._master)
