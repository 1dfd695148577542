"""No panel is empty: the sandbox goes through every state, and each panel's query finds it in Prometheus."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from dashboards.__main__ import GENERATED, ROOT
from sandbox.cloud import run_cloud
from sandbox.stack import Stack, run_stack
from sandbox.story import Act, Stage, deploy, is_deployed, play
from sandbox.waiting import wait_until
from sandbox.watch import watching

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


@dataclass(frozen=True, slots=True)
class Question:
    """A query of a panel or an annotation, as Grafana sends it."""

    name: str
    expr: str
    instant: bool


def questions() -> Iterator[Question]:
    for path in sorted((ROOT / GENERATED).glob("*.json")):
        board = json.loads(path.read_text())
        bot = ONE if board["uid"] == "bot-detail" else ".*"
        chosen = {
            "__rate_interval": "15s",
            "__range": "5m",
            "environment": ".*",
            "template": ".*",
            "bot": bot,
        }

        def sent(expr: str, chosen: dict[str, str] = chosen) -> str:
            return re.sub(r"\$(\w+)", lambda found: chosen[found[1]], expr)

        for annotation in board["annotations"]["list"]:
            yield Question(f"{path.stem}: {annotation['name']}", sent(annotation["expr"]), instant=False)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                name = f"{path.stem}: {panel['title']} {target['refId']}"
                yield Question(name, sent(target["expr"]), target["instant"])


async def shows(stack: Stack, question: Question, since: float) -> bool:
    """Whether it has a series: now where the panel asks for now, else at any time since."""
    if question.instant:
        return bool(await stack.query(question.expr))
    span = {"start": str(since), "end": str(time.time()), "step": "1"}
    url = f"{stack.prometheus_url}/api/v1/query_range"
    async with stack.session.post(url, data={"query": question.expr, **span}) as response:
        answer = await response.json()
    assert answer["status"] == "success", f"{question.name}: {answer}"
    return bool(answer["data"]["result"])


async def look(stack: Stack, waiting: set[Question], since: float) -> None:
    """Ask again and again, for what is now may be gone soon; strike out what was answered."""
    while waiting:
        for question in sorted(waiting, key=lambda question: not question.instant):
            if await shows(stack, question, since):
                waiting.discard(question)
        await asyncio.sleep(0.2)


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with run_cloud(tmp_path / "cloud") as cloud, run_stack(tmp_path, cloud) as running:
        yield running


async def change(stack: Stack) -> None:
    """A budget, a launch that EC2 throttles, a change rolled back, a rolling update, and drift."""
    await stack.call("PUT", "/budgets/fleet/all", {"usd": 100})
    await stack.cloud.break_api("RunInstances", "refuse", code="RequestLimitExceeded")
    why = {"reason": "to be seen on a dashboard"}
    changed = await stack.call(
        "POST", "/bots/dot/config", {"overrides": {"heartbeat": "45m"}, "apply": True} | why
    )
    rolling = await stack.call("POST", "/rollouts", {"bots": ["gil"]} | why)
    await wait_until(partial(is_deployed, stack, changed["deploymentId"]), PATIENCE, "changed")
    back = await stack.call("POST", "/bots/dot/rollback", why)
    await wait_until(partial(is_deployed, stack, back["deploymentId"]), PATIENCE, "rolled back")
    await wait_until(partial(is_rolled_out, stack, rolling["rolloutId"]), PATIENCE, "rolled out")
    (one,) = [bot for bot in await stack.cloud.bots() if bot.bot == ONE]
    account = {"region_name": "us-west-1", "aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}
    ec2: Any = boto3.client("ec2", endpoint_url=stack.cloud.endpoint_url, **account)  # type: ignore[call-overload]
    tags: Any = [{"Key": "bot-orchestrator:config-sha", "Value": "by hand"}]
    await asyncio.to_thread(ec2.create_tags, Resources=[one.instance_id], Tags=tags)


async def is_rolled_out(stack: Stack, rollout: str) -> bool:
    return bool((await stack.call("GET", f"/rollouts/{rollout}"))["status"] == "completed")


@pytest.mark.timeout(360)
async def test_no_panel_is_empty(stack: Stack) -> None:
    since, waiting = time.time(), set(questions())
    looking = asyncio.create_task(look(stack, waiting, since))
    try:
        deployed = [await deploy(stack, bot, template) for bot, template in BOTS.items()]
        for deployment in deployed:
            await wait_until(partial(is_deployed, stack, deployment), PATIENCE, "deployed")
        async with watching(stack) as watcher:
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
