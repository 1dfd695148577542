"""`kill -9` of the real process, then a new one: the run ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from sandbox.process.processes import ProcessError
from sandbox.process.waiting import wait_until
from sandbox.stack.telegram import Telegram
from tests.remediator.conftest import Remediator, World, firing, resolved

RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]


async def test_killed_while_a_restart_is_on_its_way(run_remediator: RunRemediator, world: World) -> None:
    """SSM gets the command when we are dead. The alert comes twice at once, and again after the kill."""
    bot = world.name()
    async with run_remediator(world.cloud) as remediator:
        await remediator.api.deployed(bot)
        await world.cloud.fault(bot, "die")
        await world.cloud.break_api("SendCommand", "delay", seconds=1.5)
        twice = await asyncio.gather(*(remediator.api.alert(firing(bot)) for _ in range(2)))
        (run_id,) = {run_id for ids in twice for run_id in ids}
        await remediator.until_step(run_id, "restart", "intended")
        await remediator.kill9()
        await remediator.start()
        assert await remediator.api.alert(firing(bot)) == []
        run = await remediator.api.until_ended(f"/recover/{run_id}")
        assert (run["status"], run["reason"]) == ("recovered", "restart cured it")
        assert await remediator.api.alert(firing(bot), resolved(firing(bot))) == [run_id]
        assert len(await remediator.api.recoveries()) == 1
        assert await world.actions(bot) == ["run", "restart"]


async def test_killed_in_each_step_of_a_redeploy_and_in_its_verification(
    run_remediator: RunRemediator, world: World
) -> None:
    bot = world.name()
    async with run_remediator(world.cloud) as remediator:
        await remediator.api.deployed(bot)
        old = await world.instance(bot)
        await world.cloud.break_api("RunInstances", "delay", seconds=1)
        await world.cloud.break_api("TerminateInstances", "delay", seconds=1)
        answer = await remediator.api.post(f"/recover/{bot}", {"method": "redeploy"})
        run_id = answer.body["recoveryId"]
        for step in ("launch", "moved", "retired", "activated"):
            await remediator.until_step(run_id, step)
            await remediator.kill9()
            await remediator.start()
        await remediator.until_step(run_id, "redeploy", "acted", "cured")
        await remediator.kill9()
        await remediator.start()
        run = await remediator.api.until_ended(f"/recover/{run_id}")
        assert (run["status"], run["reason"]) == ("recovered", "redeploy cured it")
        assert await world.actions(bot) == ["run", "run", "terminate"]
        assert await world.instance(bot) != old
        (registered,) = await remediator.api.get("/sd")
        assert registered["labels"]["instance_id"] == await world.instance(bot)


async def test_killed_in_the_steps_of_a_deployment(run_remediator: RunRemediator, world: World) -> None:
    bot = world.name()
    async with run_remediator(world.cloud) as remediator:
        await world.cloud.break_api("RunInstances", "delay", seconds=1)
        answer = await remediator.api.begin_deploy(bot)
        run_id = answer.body["deploymentId"]
        for step in ("launch", "healthy"):
            await remediator.until_step(run_id, step)
            await remediator.kill9()
            await remediator.start()
        run = await remediator.api.until_ended(f"/deploy/{run_id}")
        assert run["status"] == "deployed", run
        assert await world.actions(bot) == ["run"]
        assert world.deployments(bot) == [run_id]


async def test_killed_in_the_redeploys_of_a_rolling_update(
    run_remediator: RunRemediator, world: World
) -> None:
    bots = world.names(2)
    async with run_remediator(world.cloud, soak_window=2.0) as remediator:
        await remediator.api.deployed(*bots)
        body = {"bots": bots, "batchSize": 1, "maxUnavailable": 1, "reason": "a newer image"}
        answer = await remediator.api.post("/rollouts", body)
        path = answer.headers["Location"]
        for bot, steps in zip(bots, (("launch", "stopped"), ("activated", "soaked")), strict=True):
            run_id = await started(remediator, bot, "redeploy")
            for step in steps:
                await remediator.until_step(run_id, step)
                await remediator.kill9()
                await remediator.start()
        ended = await remediator.api.until_ended(path)
        assert (ended["status"], ended["reason"]) == ("completed", "2 of 2 bots redeployed")
        for bot in bots:
            assert await world.actions(bot) == ["run", "run", "stop"]
            instances = [instance for instance in await world.cloud.bots() if instance.bot == bot]
            assert sorted(instance.state for instance in instances) == ["running", "stopped"]


async def test_killed_before_the_token_reached_aws(run_remediator: RunRemediator, world: World) -> None:
    """The token is gone with the process, so the deployment has failed, says so, and frees the name."""
    bot = world.name()
    async with run_remediator(world.cloud) as remediator:
        await world.cloud.break_api("PutParameter", "refuse", code="ThrottlingException", times=4)
        asking = asyncio.create_task(remediator.api.begin_deploy(bot))
        run_id = await started(remediator, bot, "deploy")
        await remediator.until_step(run_id, "token", "intended")
        await remediator.kill9()
        await asyncio.gather(asking, return_exceptions=True)
        await remediator.start()
        run = await remediator.api.until_ended(f"/deploy/{run_id}")
        assert run["status"] == "failed"
        assert run["reason"] == (
            "the Telegram token did not reach SSM before a crash; send the request again; "
            "nothing had been launched"
        )
        await drained(world)
        await remediator.api.deployed(bot)
        assert await world.actions(bot) == ["run"]


async def started(remediator: Remediator, bot: str, kind: str) -> str:
    """Return the id of the bot's run of that kind, once it is on disk."""

    async def run_id() -> str:
        rows = remediator.rows("select id from runs where bot = ? and kind = ?", bot, kind)
        return str(rows[0][0]) if rows else ""

    return await wait_until(run_id, what=f"a {kind} run of {bot}", every=0.003)


async def drained(world: World) -> None:
    """Use up what is left of PutParameter's fault."""
    for _ in range(8):
        try:
            world.ssm.put_parameter(Name="/drain", Value="x", Type="String", Overwrite=True)
        except world.ssm.exceptions.ClientError:
            continue
        return


async def test_asked_to_stop_in_the_middle_it_exits_with_zero_and_goes_on_later(
    run_remediator: RunRemediator, world: World, telegram: Telegram
) -> None:
    """SIGTERM while one run verifies, one waits at a gate, and a person waits for an answer."""
    ill, blocked, requested = world.names(3)
    channel: Any = {
        "telegram_api_url": telegram.url,
        "telegram_token": "7:bot-secret",
        "telegram_chat_id": "1",
    }
    async with run_remediator(world.cloud, max_in_flight=1, **channel) as remediator:
        await remediator.api.deployed(ill, blocked, requested)
        for bot in (ill, blocked):
            await world.cloud.fault(bot, "error", cured_by="nothing")
        (first,) = await remediator.api.alert(firing(ill))
        await remediator.until_step(first, "restart", "acted")
        (second,) = await remediator.api.alert(firing(blocked))
        await remediator.api.until_status(f"/recover/{second}", "blocked")
        waiting = asyncio.create_task(
            remediator.api.post(f"/recover/{requested}?wait=60", {"method": "restart"})
        )
        await remediator.api.until_status(
            f"/recover/{(await started(remediator, requested, 'recover'))}", "blocked"
        )
        remediator.process.signal(signal.SIGTERM)
        await wait_until(remediator.stopped, what="its end")
        assert remediator.process.returncode == 0, remediator.log()
        answer = await waiting
        assert (answer.status, answer.body["status"]) == (202, "blocked"), "whoever waits is answered"
        assert await world.actions(blocked) == ["run"]

        await world.cloud.heal()
        await remediator.start()
        assert (await remediator.api.until_ended(f"/recover/{first}"))["reason"] == "restart cured it"
        assert (await remediator.api.until_ended(f"/recover/{second}"))["status"] == "unneeded"
        assert await world.actions(ill) == ["run", "restart"]
        await wait_until(lambda: has_message(telegram, "is healthy again"), what="the message")
        log = remediator.log()
        assert "Traceback" not in log
        assert "bot-secret" not in log
        assert "api-token" not in log


async def has_message(telegram: Telegram, words: str) -> bool:
    return any(words in message.text for message in telegram.messages)


async def test_the_second_process_is_refused_while_the_first_lives(
    run_remediator: RunRemediator, world: World
) -> None:
    async with run_remediator(world.cloud) as first:
        with pytest.raises(ProcessError, match=rf"in use by another remediator \(pid {first.process.pid}\)"):
            async with run_remediator(world.cloud):
                pytest.fail("two processes over one database")
        assert (await first.api.get("/health"))["status"] == "healthy"
