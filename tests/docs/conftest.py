"""The demo's stack for the documents' command lines: real services over a cloud in a box."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.cloud.client import run_cloud
from sandbox.demo.story import is_deployed
from sandbox.process.waiting import wait_until
from sandbox.stack.stack import Stack, run_stack
from tests.docs.tools import make_tools

PATIENCE = 90  # seconds, on a machine that is busy with other things
FIRST = "ada"  # a bot that is there on every page
SETTINGS = {
    "MODES": "*=approve",  # what an alert asks for waits for a person
    "RESTART_TIMEOUT": "60s",  # not the sixtieth part: a loaded machine starts a bot no faster
    "REBOOT_TIMEOUT": "60s",
    "REDEPLOY_TIMEOUT": "60s",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Run a stack with a bot, on a clock sixty times as fast."""
    folder = tmp_path_factory.mktemp("stack")
    async with (
        run_cloud(folder / "cloud", boot_seconds=0.1) as cloud,
        run_stack(folder, cloud, settings=SETTINGS) as running,
    ):
        await deploy(running, {FIRST: "tool-builder"})
        yield running


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder for PATH with all the programs that the documents call."""
    return make_tools(tmp_path_factory.mktemp("tools") / "bin")


async def deploy(stack: Stack, bots: dict[str, str]) -> None:
    """Deploy bots, each of its template, and wait until all are there."""

    async def deploy_one(bot: str, template: str) -> None:
        request = {"botName": bot, "botType": template, "environment": "production", "telegramToken": "1:x"}
        answer = await stack.call("POST", "/deploy", request)
        await wait_until(partial(is_deployed, stack, answer["deploymentId"]), PATIENCE, f"{bot} deployed")

    await asyncio.gather(*(deploy_one(bot, template) for bot, template in bots.items()))
