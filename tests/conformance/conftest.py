"""What the suite asks: the sandbox's bot, and real gateways in several versions, on loopback."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from exporter.targets import Target
from sandbox.cloud.bot import INPUT_TOKENS, OUTPUT_TOKENS
from sandbox.cloud.machines import BOT_PROGRAM
from sandbox.process.binaries import BinaryError
from sandbox.process.gateway import PLANTED, open_to_all, run_gateway
from sandbox.process.openclaw import EARLIER, PINNED, OpenClaw, install, newest, present
from sandbox.process.processes import Process, answers, free_port
from sandbox.stack import model_provider
from sandbox.stack.model_provider import CACHED_TOKENS, FaultKind, run_model_provider
from sandbox.stack.telegram import run_telegram

SANDBOX: Final = "sandbox"
RELEASES: Final = {"pinned": PINNED, "earlier": EARLIER}
# Those of RELEASES are fetched in CI; the newest of npm is asked where OPENCLAW=newest is set.
BOTS: Final = (SANDBOX, *RELEASES, "newest")


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot that runs, and what is done to it. `config_sha` is what it was given, `version` what it is.

    `tokens`: of the input and of the output of a call of its model that ends well.
    """

    target: Target
    config_sha: str
    version: str
    tokens: tuple[int, int]
    restart: Callable[[bool], Awaitable[None]]
    """Restart it; True: it stands by."""
    speak: Callable[[], Awaitable[None]]
    """Write to it, so that it begins a turn."""
    hold: Callable[[], Awaitable[None]]
    """Let calls of its model that begin from now on not end, and write to it."""
    release: Callable[[], Awaitable[None]]
    """Let them end, and well."""
    deafen: Callable[[], Awaitable[None]]
    """Take its channel away."""
    silence: Callable[[], Awaitable[None]]
    """Let calls of its model fail as where the provider no longer has the model."""
    rob: Callable[[], Awaitable[None]]
    """Take the key of its model away, and write to it: its turns fail before they call the model."""

    @property
    def url(self) -> str:
        return f"http://{self.target.address}"


def program(name: str) -> OpenClaw:
    """Return the OpenClaw of that name; skips with the reason where there is none."""
    fetch = "CI" in os.environ or "OPENCLAW" in os.environ
    if name == "newest" and os.environ.get("OPENCLAW") != name:
        pytest.skip("OPENCLAW=newest asks npm's newest OpenClaw too")
    try:
        release = newest() if name == "newest" else RELEASES[name]
        installed = install(release=release) if fetch else present(release=release)
    except BinaryError as error:
        pytest.skip(f"this machine cannot have OpenClaw: {error}")
    if installed is None:
        pytest.skip(
            f"OpenClaw {release.version} is not in .cache/openclaw; OPENCLAW=1 (or CI) fetches its 0.9 GB"
        )
    return installed


@asynccontextmanager
async def sandbox_bot(home: Path) -> AsyncIterator[Bot]:
    port = free_port()
    (home / "bot.json").write_text(json.dumps({"bot": "forge", "port": port, "config_sha": "c0ffee"}))
    argv: list[str | Path] = [sys.executable, "-I", "-S", BOT_PROGRAM, home, "127.0.0.1", str(uuid.uuid4())]
    process = Process(argv, log=home / "log", ready=answers(f"http://127.0.0.1:{port}/health"))

    async def restart(standby: bool) -> None:
        await process.aclose()
        (home / "standby").touch() if standby else (home / "standby").unlink(missing_ok=True)
        await process.start()

    async def show(kind: str, reason: str = "model_not_found") -> None:
        (home / "fault.new").write_text(json.dumps({"kind": kind, "reason": reason}))
        (home / "fault.new").replace(home / "fault")

    async def nothing() -> None:
        """Do nothing: it calls its model all the time."""

    async def heal() -> None:
        (home / "fault").unlink()

    async with process:
        yield Bot(
            Target("forge", f"127.0.0.1:{port}"),
            config_sha="c0ffee",
            version="sandbox-1",
            tokens=(INPUT_TOKENS, OUTPUT_TOKENS),
            restart=restart,
            speak=nothing,
            hold=lambda: show("stuck"),
            release=heal,
            deafen=lambda: show("deaf"),
            silence=lambda: show("mute"),
            rob=lambda: show("mute", "auth"),
        )


@asynccontextmanager
async def real_bot(openclaw: OpenClaw, home: Path) -> AsyncIterator[Bot]:
    async with run_telegram() as telegram, run_model_provider() as models:
        content = open_to_all(models.url)
        config_sha = content["plugins"]["entries"]["bot-bridge"]["config"]["config_sha"]
        key = {"ANTHROPIC_API_KEY": "planted"}
        async with run_gateway(openclaw, home, content, telegram=telegram.url, environment=key) as gateway:

            async def restart(standby: bool) -> None:
                await gateway.restart(standby=standby)

            async def speak() -> None:
                telegram.write(PLANTED, "Are you there?")

            async def fail(kind: FaultKind) -> None:
                models.fail(kind)
                await speak()

            async def release() -> None:
                models.mend()

            async def rob() -> None:
                await gateway.restart(environment={"ANTHROPIC_API_KEY": ""})
                await speak()

            async def deafen() -> None:
                telegram.refused[PLANTED] = 401

            yield Bot(
                gateway.target,
                config_sha=config_sha,
                version=openclaw.version,
                tokens=(model_provider.INPUT_TOKENS + CACHED_TOKENS, model_provider.OUTPUT_TOKENS),
                restart=restart,
                speak=speak,
                hold=lambda: fail("hang"),
                release=release,
                deafen=deafen,
                silence=lambda: fail("model_not_found"),
                rob=rob,
            )


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BOTS)
async def bot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bot]:
    home = tmp_path_factory.mktemp(request.param)
    async with AsyncExitStack() as stack:
        runs = sandbox_bot(home) if request.param == SANDBOX else real_bot(program(request.param), home)
        yield await stack.enter_async_context(runs)
