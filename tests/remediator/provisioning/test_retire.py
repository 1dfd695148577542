"""Retirements: nothing is left of a bot but the snapshot that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.remediator.conftest import Api, Remediator, World, firing
from tests.remediator.provisioning.lifecycle import DENIED, retire, snapshots, volumes

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
RunRemediator = Callable[..., AbstractAsyncContextManager[Remediator]]


async def test_a_retired_bot_leaves_nothing_but_the_snapshot_that_was_asked_for(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(elastic_ip=True) as app:
        await app.deployed(bot)
        instance_id = await world.instance(bot)
        (volume,) = volumes(world, bot)
        ended = await retire(app, bot, "?snapshot=true&by=ann")
        assert ended["status"] == "retired", ended
        assert [step["name"] for step in ended["steps"]] == [
            "asked",
            "stopped",
            "snapshot",
            "snapshot complete",
            "terminated",
            "address released",
            "token deleted",
        ]
        assert await world.actions(bot) == ["run", "stop", "terminate"]
        assert await world.live(bot) == []
        assert volumes(world, bot) == []
        assert world.ec2.describe_addresses()["Addresses"] == []
        (snapshot,) = snapshots(world, bot)
        assert (snapshot["VolumeId"], snapshot["State"]) == (volume["VolumeId"], "completed")
        assert not world.has_token(bot)
        assert await app.get("/sd") == []
        trail = [entry["event"] for entry in await app.get(f"/audit?bot={bot}")]
        assert "retire.asked" in trail
        assert "run.retired" in trail
        assert instance_id in ended["reason"]
        assert (await app.begin_deploy(bot)).status == 202, "the name is free again"


async def test_without_a_snapshot_none_is_taken_and_an_instance_that_is_gone_is_no_hindrance(
    app: Api, world: World
) -> None:
    bot = world.name()
    await app.deployed(bot)
    world.ec2.terminate_instances(InstanceIds=[await world.instance(bot)])
    ended = await retire(app, bot)
    assert ended["status"] == "retired", ended
    assert snapshots(world, bot) == []
    assert not world.has_token(bot)


async def test_a_retirement_that_failed_is_said_and_goes_on_when_asked_again(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.break_api("TerminateInstances", "refuse", **DENIED)
    ended = await retire(app, bot)
    assert ended["status"] == "failed"
    assert "allow ec2:TerminateInstances" in ended["reason"]
    assert ended["reason"].endswith(f"DELETE /bots/{bot} goes on with it")
    registry = (await app.get("/dashboard"))["registry"]
    (registered,) = [entry for entry in registry if entry["bot"] == bot]
    assert registered["state"] == "quarantined"
    assert await app.alert(firing(bot)) == [], "nobody starts again what is being retired"
    assert (await retire(app, bot))["status"] == "retired"
    assert await world.actions(bot) == ["run", "stop", "terminate"]


async def test_a_bot_in_other_hands_is_not_retired(app: Api, world: World) -> None:
    bot = world.name()
    await world.cloud.break_api("RunInstances", "delay", seconds=1)
    began = await app.begin_deploy(bot)
    answer = await app.call("DELETE", f"/bots/{bot}")
    assert (answer.status, answer.field) == (409, "bot")
    await app.until_ended(f"/deploy/{began.body['deploymentId']}")
    assert (await app.call("DELETE", "/bots/nobody")).status == 404
    assert (await app.call("DELETE", f"/bots/{bot}?snapshot=perhaps")).field == "snapshot"


@pytest.mark.parametrize("step", ["stopped", "snapshot", "snapshot complete", "terminated", "token deleted"])
async def test_killed_at_a_step_a_retirement_goes_on(
    run_remediator: RunRemediator, world: World, step: str
) -> None:
    bot = world.name()
    async with run_remediator(world.cloud, elastic_ip=True) as remediator:
        app = remediator.api
        await app.deployed(bot)
        began = await app.call("DELETE", f"/bots/{bot}?snapshot=true")
        await remediator.until_step(began.body["deploymentId"], step)
        await remediator.kill9()
        await remediator.start()
        ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
        assert ended["status"] == "retired", ended
    assert await world.actions(bot) == ["run", "stop", "terminate"]
    assert len(snapshots(world, bot)) == 1
    assert world.ec2.describe_addresses()["Addresses"] == []
    assert not world.has_token(bot)
