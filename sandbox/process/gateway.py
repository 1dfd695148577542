"""A real bot on loopback: OpenClaw's gateway, with the configuration and the environment of an instance."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

import templates
from exporter.targets import Target
from remediator.configuration.rendering import merge_patch, render
from remediator.provisioning.cloudinit import BRIDGE, INSTANCE, openclaw
from sandbox.process.openclaw import OpenClaw
from sandbox.process.processes import Process, Ready, free_port

SKIP: Final = "OPENCLAW_SKIP_CHANNELS"
PLANTED: Final = "42:planted"
START_SECONDS: Final = 300.0  # one start takes 10 s; several at once on a machine that others use take longer
STOP_SECONDS: Final = 1.0  # it drains for half a minute: longer than a test has


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that runs. `home` has its `openclaw.json`, its `state` and its `log`."""

    bot: str
    home: Path
    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> Target:
        return Target(self.bot, f"127.0.0.1:{self.port}")

    async def restart(self, *, standby: bool = False, environment: Mapping[str, str] | None = None) -> None:
        """Do as systemd does; returns once it is ready. `standby`: without its channels."""
        await self.process.aclose()
        self.process.env |= {SKIP: "1" if standby else "", **(environment or {})}
        await self.process.start()


def configuration(
    kind: str = "support",
    environment: str = "production",
    bot: str = "forge",
    overrides: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Return OpenClaw's configuration as an instance gets it, with the path of the plugin here."""
    config, config_sha = render(bot, environment, templates.load().get(kind, environment), overrides)
    content = openclaw(config, config_sha)
    content["plugins"]["load"]["paths"] = [str(INSTANCE / BRIDGE)]
    return content


def open_to_all(models: str) -> dict[str, Any]:
    """Return the configuration of a bot that answers whoever writes to it, by models at that URL."""
    provider = {"api": "anthropic-messages", "baseUrl": models, "models": []}
    return merge_patch(
        configuration(),
        {
            "channels": {"telegram": {"dmPolicy": "open", "allowFrom": ["*"]}},
            "models": {"providers": {"anthropic": provider}},
        },
    )


def unit_environment(home: Path, program: OpenClaw) -> dict[str, str]:
    """Return the environment that bot.service gives the bot, with its folders elsewhere."""
    text = (INSTANCE / "bot.service").read_text()
    pairs = [pair for line in re.findall(r"^Environment=(.+)$", text, re.M) for pair in line.split()]
    folders = {"/opt/bot": str(program.home), "/etc/bot": str(home), "/var/lib/bot": str(home / "state")}
    variables = {"OPENCLAW_GATEWAY_TOKEN": "0" * 64}
    for key, _, value in (pair.partition("=") for pair in pairs):
        for folder, elsewhere in folders.items():
            value = value.replace(folder, elsewhere)
        variables[key] = value
    return variables


def tells(url: str) -> Ready:
    """Make the condition that the bridge says that the gateway works; it answers /health long before."""

    async def ready(_: Process) -> bool:
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
                return response.status == 200 and (await response.json())["ok"] is True
        except (aiohttp.ClientError, TimeoutError):
            return False

    return ready


@asynccontextmanager
async def run_gateway(
    program: OpenClaw,
    home: Path,
    content: Mapping[str, Any],
    *,
    bot: str = "forge",
    telegram: str = "",
    token: str = PLANTED,
    standby: bool = False,
    environment: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
) -> AsyncIterator[Gateway]:
    """Run a gateway with a configuration of `configuration()`, until the end of the block.

    `telegram`: the URL of a Bot API, to which the token belongs. `standby`: without its channels. `wrapper`:
    a command that runs it. Patch the rest into the configuration, such as a provider of models, before.
    """
    port = free_port()
    (home / "state").mkdir(parents=True, exist_ok=True)
    (home / "token").write_text(token)
    channel = {"tokenFile": str(home / "token"), **({"apiRoot": telegram} if telegram else {})}
    here = {
        "gateway": {"port": port, "bind": "loopback"},
        "channels": {"telegram": channel},
        "agents": {"defaults": {"workspace": str(home / "state/workspace")}},
        "logging": {"file": str(home / "openclaw.log")},  # else below /tmp
    }
    (home / "openclaw.json").write_text(json.dumps(merge_patch(dict(content), here)))
    process = Process(
        [*wrapper, *program.argv("gateway")],
        name=f"gateway {bot}",
        log=home / "log",
        env={**unit_environment(home, program), SKIP: "1" if standby else "", **(environment or {})},
        cwd=home,
        ready=tells(f"http://127.0.0.1:{port}/mesh"),
        ready_timeout=START_SECONDS,
        grace=STOP_SECONDS,
    )
    async with process:
        yield Gateway(bot, home, port, process)
