"""No panel is empty: the sandbox goes through every state, and each panel's query finds it in Prometheus."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from sandbox.cloud.client import run_cloud
from sandbox.demo.story import Act, Stage, deploy, is_deployed, play
from sandbox.process.waiting import wait_until
from sandbox.stack.snapshot import watch
from sandbox.stack.stack import Stack, run_stack
from tests.dashboards.questions import look, questions

BOTS = {
    "ada": "manager", "bob": "support", "cyd": "support", "dot": "designer", "eve": "designer",
    "fay": "tool-builder", "gil": "tool-builder",
}  # fmt: skip
ONE = "ada"  # the bot whose page is looked at: it gets the worst of it
PATIENCE = 90  # seconds, on a machine that is busy with other things

# Most die at once and recovery is held back; then one is incurable while another only needs a restart.
OUTAGE = Act("outage", "most die at once", (ONE, "bob", "cyd"), "die", "restart", outcome="held back")
INCURABLE = Act(
    "incurable", "nothing helps", (ONE,), "die", "nothing", ("restart", "reboot", "run"), outcome="escalated"
)
KILLED = Act("killed", "a restart cures it", ("fay",), "die", "restart", ("restart",))


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with run_cloud(tmp_path / "cloud") as cloud, run_stack(tmp_path, cloud) as running:
        yield running


async def change(stack: Stack) -> None:
    """Set a budget; bring about a throttled launch, a change rolled back, a rolling update, and drift."""
    await stack.call("PUT", "/budgets/fleet/all", {"usd": 100})
    await stack.cloud.break_api("RunInstances", "refuse", code="RequestLimitExceeded")
    reason = {"reason": "to be seen on a dashboard"}
    changed = await stack.call(
        "POST", "/bots/dot/config", {"overrides": {"heartbeat": "45m"}, "apply": True} | reason
    )
    rolling = await stack.call("POST", "/rollouts", {"bots": ["gil"]} | reason)
    await wait_until(partial(is_deployed, stack, changed["deploymentId"]), PATIENCE, "changed")
    back = await stack.call("POST", "/bots/dot/rollback", reason)
    await wait_until(partial(is_deployed, stack, back["deploymentId"]), PATIENCE, "rolled back")
    await wait_until(partial(is_rolled_out, stack, rolling["rolloutId"]), PATIENCE, "rolled out")
    (instance,) = [bot for bot in await stack.cloud.bots() if bot.bot == ONE]
    account = {"region_name": "us-west-1", "aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}
    ec2: Any = boto3.client("ec2", endpoint_url=stack.cloud.endpoint_url, **account)  # type: ignore[call-overload]
    tags: Any = [{"Key": "bot-orchestrator:config-sha", "Value": "by hand"}]
    await asyncio.to_thread(ec2.create_tags, Resources=[instance.instance_id], Tags=tags)


async def is_rolled_out(stack: Stack, rollout: str) -> bool:
    return bool((await stack.call("GET", f"/rollouts/{rollout}"))["status"] == "completed")


@pytest.mark.timeout(360)
async def test_no_panel_is_empty(stack: Stack) -> None:
    since, waiting = time.time(), set(questions(ONE))
    looking = asyncio.create_task(look(stack, waiting, since))
    try:
        deployed = [await deploy(stack, bot, template) for bot, template in BOTS.items()]
        for deployment in deployed:
            await wait_until(partial(is_deployed, stack, deployment), PATIENCE, "deployed")
        async with watch(stack) as watcher:
            calm: Callable[[Any], bool] = lambda now: now.calm and len(now.bots) == len(BOTS)  # noqa: E731
            await watcher.until(calm, PATIENCE, "calm")
            await change(stack)
            await watcher.until(calm, PATIENCE, "calm again")
            stage = Stage(stack, watcher, narrate=lambda text: None)
            await play(OUTAGE, stage)
            await asyncio.gather(play(INCURABLE, stage), play(KILLED, stage))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(looking), 15)
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    assert sorted(question.name for question in waiting) == []
