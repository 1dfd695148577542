"""The whole path, nothing simulated: process → exporter → Prometheus → Alertmanager → remediator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from sandbox.cloud.client import run_cloud
from sandbox.cloud.faults import CuredBy, FaultKind
from sandbox.demo.story import Act, Stage, deploy, is_deployed, play
from sandbox.process.processes import is_gone
from sandbox.process.waiting import wait_until
from sandbox.stack.snapshot import Snapshot, Watcher, watch
from sandbox.stack.stack import ALERTMANAGER_BOT, REMEDIATOR_BOT, Stack, run_stack

BOTS = {"ada": "support", "bob": "designer", "cyd": "tool-builder", "dot": "manager"}
PATIENCE = 90  # seconds, on a machine that is busy with other things
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Run a stack with four bots, deployed through the API and well. Nothing of it is left afterwards."""
    folder = tmp_path_factory.mktemp("stack")
    async with run_cloud(folder / "cloud") as cloud:
        async with run_stack(folder, cloud) as running:
            for deployment in [await deploy(running, bot, kind) for bot, kind in BOTS.items()]:
                await wait_until(partial(is_deployed, running, deployment), PATIENCE, "deployed")
            pids = [process.pid or 0 for process in running.processes]
            yield running
        assert 0 not in pids
        assert all(is_gone(pid) for pid in pids)


@pytest_asyncio.fixture(loop_scope="module")
async def watcher(stack: Stack) -> AsyncIterator[Watcher]:
    async with watch(stack) as watcher:
        await watcher.until(lambda now: now.calm and len(now.bots) == len(BOTS), PATIENCE, "calm")
        yield watcher


async def fall_ill(stack: Stack, watcher: Watcher, bot: str, kind: FaultKind, cured_by: CuredBy) -> float:
    """Make a bot ill in the cloud alone, which the stack has to notice; returns the Unix time of it."""
    at = watcher.now.at
    await stack.cloud.fault(bot, kind, cured_by=cured_by)
    return at


def ended(now: Snapshot, bot: str) -> dict[str, Any] | None:
    newest = next((run for run in now.recoveries if run["botId"] == bot), None)
    return newest if newest and newest["finishedAt"] else None


async def test_deployed_bots_are_seen_by_the_exporter_and_people_are_told(
    stack: Stack, watcher: Watcher
) -> None:
    async def scraped() -> bool:
        series = await stack.query("bot_info")
        return {entry["metric"]["bot"]: entry["metric"]["template"] for entry in series} == BOTS

    await wait_until(scraped, PATIENCE, "every bot in Prometheus")
    texts = [message.text for message in stack.telegram.messages if message.token == REMEDIATOR_BOT]
    for bot in BOTS:
        assert any(f"{bot} is deployed" in text for text in texts)


async def test_a_killed_bot_is_noticed_and_restarted(stack: Stack, watcher: Watcher) -> None:
    since = await fall_ill(stack, watcher, "ada", "die", "restart")
    await watcher.until(lambda now: now.is_firing("BotHealthScoreCritical", "ada"), PATIENCE, "the alert")
    run = await watcher.until(lambda now: ended(now, "ada"), PATIENCE, "the recovery's end")
    assert (run["status"], run["tier"], run["trigger"]) == ("recovered", "restart", "alert")
    await watcher.until(lambda now: now.calm, PATIENCE, "calm")
    assert [effect.action for effect in watcher.now.actions(since, "ada")] == ["restart"]
    assert any(m.token == ALERTMANAGER_BOT and "ada" in m.text for m in stack.telegram.messages)


async def test_a_remediator_killed_in_mid_recovery_goes_on_and_repeats_nothing(
    stack: Stack, watcher: Watcher
) -> None:
    since = await fall_ill(stack, watcher, "bob", "error", "reboot")
    await watcher.until(lambda now: now.actions(since, "bob"), PATIENCE, "the restart")
    stack.remediator.kill9()
    await stack.remediator.start()
    run = await watcher.until(lambda now: ended(now, "bob"), PATIENCE, "the recovery's end")
    assert (run["status"], run["tier"]) == ("recovered", "reboot")
    assert [effect.action for effect in watcher.now.actions(since, "bob")] == ["restart", "reboot"]


async def test_an_outage_is_held_back_and_says_so(stack: Stack, watcher: Watcher) -> None:
    act = Act("outage", "most die at once", ("ada", "bob", "cyd"), "die", "restart", outcome="held back")
    result = await play(act, Stage(stack, watcher, narrate=lambda text: None))
    assert result.problems == []
    assert result.outcome == "held back"


async def test_rules_and_routing_of_the_running_services_are_the_repositorys(stack: Stack) -> None:
    names = await stack.rules()
    assert {"BotHealthScoreCritical", "BotDown", "BotFleetOutage", "Watchdog"} <= set(names)
