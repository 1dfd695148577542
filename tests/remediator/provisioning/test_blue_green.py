"""Redeploys over a cloud: two instances side by side, the move, the soak, and every way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import Api, World

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
STEPS = [
    *("plan", "reserved", "image", "launch", "running", "healthy"),
    *("stopped", "activated", "moved", "soaked", "kept"),
]


async def redeploy(app: Api, bot: str, **fields: Any) -> str:
    """Begin a redeploy; return the path of its deployment."""
    answer = await app.post(f"/bots/{bot}/redeploy", {"reason": "a newer image", **fields})
    assert answer.status == 202, answer
    assert answer.headers["Location"] == f"/deploy/{answer.body['deploymentId']}"
    return answer.headers["Location"]


def role(world: World, instance_id: str) -> str:
    """Return the role that the instance's tag names."""
    (instance,) = world.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
    return next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "bot-orchestrator:role")


def holder(world: World, bot: str) -> str:
    """Return the id of the instance that may use the bot's Telegram token."""
    return world.ssm.get_parameter(Name=f"/bots/{bot}/active")["Parameter"]["Value"]


async def states(world: World, bot: str) -> dict[str, str]:
    """Return the state of each instance of the bot, by id."""
    machines = await world.cloud.bots()
    return {machine.instance_id: machine.state for machine in machines if machine.bot == bot}


async def registered(app: Api, bot: str) -> tuple[str, str]:
    """Return the bot's instance and its address, as service discovery has them."""
    (group,) = [group for group in await app.get("/sd") if group["labels"]["bot"] == bot]
    return group["labels"]["instance_id"], group["targets"][0]


async def answers(app: Api, address: str) -> Any:
    async with app.session.get(f"http://{address}/mesh") as response:
        return await response.json()


async def test_a_redeploy_from_the_request_to_the_end_of_the_rollback_window(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app() as app:
        await app.deployed(bot)
        old = await world.instance(bot)
        path = await redeploy(app, bot, by="ann")
        ended = await app.until_ended(path)
        assert ended["status"] == "deployed", ended
        assert [step["name"] for step in ended["steps"]] == STEPS
        assert {step["status"] for step in ended["steps"]} == {"done"}
        new, address = await registered(app, bot)
        assert new != old
        assert await states(world, bot) == {old: "stopped", new: "running"}
        assert holder(world, bot) == new
        assert (role(world, old), role(world, new)) == ("standby", "active")
        assert (await answers(app, address))["config_sha"] == registered_sha(await app.get("/dashboard"), bot)
        assert await world.actions(bot) == ["run", "run", "stop"]
        again = await app.until_ended(await redeploy(app, bot))
        assert again["status"] == "deployed", again
        assert old not in await states(world, bot), "a bot has two instances at most"
        assert await world.actions(bot) == ["run", "run", "stop", "terminate", "run", "stop"]
    async with run_app(rollback_window=0) as app:
        await app.until_ended(await redeploy(app, bot))

        async def alone() -> bool:
            return len(await states(world, bot)) == 1

        await wait_until(alone, what="the end of the rollback window")
        assert await world.instance(bot) == (await registered(app, bot))[0]

        audit = f"/audit?bot={bot}&limit=1000"

        async def audited() -> bool:
            return any(entry["event"] == "standby.ended" for entry in await app.get(audit))

        await wait_until(audited, what="the end of the standby in the trail")
        trail = await app.get(audit)
        assert next(entry["actor"] for entry in trail if entry["event"] == "redeploy.asked") == "ann"


def registered_sha(dashboard: Any, bot: str) -> str:
    return str(next(entry["config_sha"] for entry in dashboard["registry"] if entry["bot"] == bot))


async def test_the_old_bot_serves_until_the_new_one_is_proved_and_is_stopped_before_it_is_active(
    app: Api, world: World
) -> None:
    """Held up at StopInstances: the candidate is healthy, stands by, and the bot is still the old one."""
    bot = world.name()
    await app.deployed(bot)
    old, address = await registered(app, bot)
    await world.cloud.break_api("StopInstances", "delay", seconds=1)
    path = await redeploy(app, bot)

    async def proved() -> bool:
        return any(step["name"] == "stopped" for step in (await app.get(path))["steps"])

    await wait_until(proved, what="the step that stops the old instance", every=0.01)
    assert set((await states(world, bot)).values()) == {"running"}
    assert len(await states(world, bot)) == 2
    assert holder(world, bot) == old
    assert await registered(app, bot) == (old, address)
    assert (await answers(app, address))["ok"]
    ended = await app.until_ended(path)
    at = {step["name"]: step for step in ended["steps"]}
    assert at["healthy"]["finishedAt"] <= at["stopped"]["startedAt"]
    assert at["stopped"]["finishedAt"] <= at["activated"]["startedAt"]


@pytest.mark.parametrize(
    ("call", "code", "done"),
    [
        ("RunInstances", "UnauthorizedOperation", []),
        ("StopInstances", "UnauthorizedOperation", ["run", "terminate"]),
    ],
)
async def test_a_failure_before_the_old_one_is_stopped_leaves_it_alone(
    app: Api, world: World, call: str, code: str, done: list[str]
) -> None:
    bot = world.name()
    await app.deployed(bot)
    before = await registered(app, bot)
    await world.cloud.break_api(call, "refuse", code=code, message="You may not.")
    ended = await app.until_ended(await redeploy(app, bot))
    assert ended["status"] == "failed"
    assert f"{call}: {code}: You may not." in ended["reason"]
    assert await registered(app, bot) == before
    assert await world.actions(bot) == ["run", *done]
    assert holder(world, bot) == before[0]
    assert (await answers(app, before[1]))["ok"]


async def test_a_candidate_that_never_gets_well_is_ended_and_the_old_one_left_alone(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(redeploy_timeout=2) as app:
        await app.deployed(bot)
        before = await registered(app, bot)
        await world.cloud.fault(bot, "error", cured_by="nothing")  # the name's: it follows to the candidate
        ended = await app.until_ended(await redeploy(app, bot))
        assert ended["status"] == "failed"
        assert "not healthy" in ended["reason"]
        assert ended["reason"].endswith("the old instance was left alone")
        assert await registered(app, bot) == before
        assert await world.actions(bot) == ["run", "run", "terminate"]


async def test_ill_in_the_soak_it_moves_back_to_the_old_instance(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app(soak_window=30) as app:
        await app.deployed(bot)
        old, address = await registered(app, bot)
        path = await redeploy(app, bot)

        async def soaking() -> bool:
            return any(step["name"] == "soaked" for step in (await app.get(path))["steps"])

        await wait_until(soaking, what="the soak", every=0.01)
        new, _ = await registered(app, bot)
        assert new != old
        await world.cloud.fault(bot, "error", cured_by="reboot")  # it dies with the candidate
        ended = await app.until_ended(path)
        assert ended["status"] == "failed"
        assert "not well" in ended["reason"]
        assert ended["reason"].endswith(f"it is back on {old}")
        assert await registered(app, bot) == (old, address)
        assert await states(world, bot) == {old: "running"}
        assert holder(world, bot) == old
        assert (await answers(app, address))["ok"]
        assert await world.actions(bot) == ["run", "run", "stop", "terminate", "start"]
        registry = (await app.get("/dashboard"))["registry"]
        (entry,) = [entry for entry in registry if entry["bot"] == bot]
        assert entry["state"] == "active"


# Elastic IPs


async def test_an_elastic_ip_stays_the_bots_while_its_instances_change(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app(elastic_ip=True, address="public", soak_window=30) as app:
        await app.deployed(bot)
        old, address = await registered(app, bot)
        (elastic,) = elastic_ips(world, bot)
        assert address == f"{elastic['PublicIp']}:18790"
        first = (await answers(app, address))["boot_id"]
        path = await redeploy(app, bot)

        async def soaking() -> bool:
            return any(step["name"] == "soaked" for step in (await app.get(path))["steps"])

        await wait_until(soaking, what="the soak", every=0.01)
        new, same = await registered(app, bot)
        assert new != old
        assert same == address
        assert (await answers(app, address))["boot_id"] != first
        await world.cloud.fault(bot, "error", cured_by="reboot")
        ended = await app.until_ended(path)
        assert ended["reason"].endswith(f"it is back on {old}")
        assert await registered(app, bot) == (old, address)
        assert [address["InstanceId"] for address in elastic_ips(world, bot)] == [old]
        assert (await answers(app, address))["ok"]


async def test_a_deployment_that_fails_gives_its_elastic_ip_back(run_app: RunApp, world: World) -> None:
    """And the answer to AllocateAddress was lost: it is found again, not allocated twice."""
    bot = world.name()
    async with run_app(elastic_ip=True, address="public") as app:
        await world.cloud.break_api("AllocateAddress", "lose_answer")
        await world.cloud.break_api("AssociateAddress", "refuse", code="UnauthorizedOperation", message="No.")
        answer = await app.begin_deploy(bot)
        ended = await app.until_ended(f"/deploy/{answer.body['deploymentId']}")
        assert "AssociateAddress: UnauthorizedOperation: No." in ended["reason"]
        assert elastic_ips(world, bot) == []
        assert await world.live(bot) == []


def elastic_ips(world: World, bot: str) -> list[Any]:
    of_bot: Any = [{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}]
    return list(world.ec2.describe_addresses(Filters=of_bot)["Addresses"])
