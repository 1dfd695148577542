"""An AWS that refuses, is busy, is slow, or does it and loses the answer: at each call of a recovery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from itertools import product
from typing import Any

import pytest

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import Api, World, firing, serve, settings_for

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
THROTTLED: dict[str, Any] = {"code": "RequestLimitExceeded", "message": "Request limit exceeded."}
DENIED: dict[str, Any] = {
    "code": "UnauthorizedOperation",
    "message": "You are not authorized to perform this operation.",
}


CALLS = {
    "restart": ["SendCommand", "GetCommandInvocation"],
    "reboot": ["RebootInstances", "DescribeInstances"],
    "redeploy": ["RunInstances", "CreateTags", "TerminateInstances"],
}
"""The calls that each tier makes."""

DONE = {"restart": ["restart"], "reboot": ["reboot"], "redeploy": ["run", "terminate"]}
BREAKINGS: list[dict[str, Any]] = [
    {"how": "refuse", **THROTTLED},
    {"how": "lose_answer"},
    {"how": "delay", "seconds": 0.3},
]


@pytest.mark.parametrize("method", CALLS)
async def test_throttled_or_lost_or_late_a_call_is_carried_out_once(
    app: Api, world: World, method: str
) -> None:
    """One bot, recovered again and again; each time one call is broken in one way."""
    bot = world.name()
    await app.deployed(bot)
    for call, breaking in product(CALLS[method], BREAKINGS):
        before = await world.actions(bot)
        await world.cloud.break_api(call, **breaking)
        run = await app.recover(bot, method)
        assert (run["status"], run["reason"]) == ("recovered", f"{method} cured it"), (call, breaking, run)
        assert (await world.actions(bot))[len(before) :] == DONE[method], (call, breaking)
        assert len(await world.live(bot)) == 1


@pytest.mark.parametrize(
    ("method", "call"), [(method, call) for method, calls in CALLS.items() for call in calls]
)
async def test_what_we_may_not_do_climbs_no_ladder_and_says_so(
    app: Api, world: World, method: str, call: str
) -> None:
    bot = world.name()
    await app.deployed(bot)
    before = await world.instance(bot)
    await world.cloud.fault(bot, "error")
    await world.cloud.break_api(call, "refuse", **DENIED)
    run = await app.recover(bot, method)
    assert run["status"] == "escalated"
    assert [attempt["tier"] for attempt in run["attempts"]] == [method]
    assert "UnauthorizedOperation: You are not authorized" in run["reason"]
    done = await world.actions(bot)
    assert "reboot" not in done
    assert done.count("restart") == (call == "GetCommandInvocation")
    if call == "TerminateInstances":  # the new one runs and is registered; the old one waits for a person
        assert "the old one could not be ended" in run["reason"]

        assert before in await world.live(bot)
        assert (await app.call("DELETE", f"/bots/{bot}/quarantine")).status == 200

        async def ended() -> bool:
            return before not in await world.live(bot)

        await wait_until(ended, what="the end of the old one")
        assert len(await world.live(bot)) == 1
    else:
        assert await world.live(bot) == [before], "whatever was launched is gone again"


async def test_an_aws_without_capacity_leaves_the_old_instance_alone(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    before = await world.instance(bot)
    no_room: dict[str, Any] = {
        "code": "InsufficientInstanceCapacity",
        "message": "There is no Spot or other capacity.",
    }
    await world.cloud.break_api("RunInstances", "refuse", **no_room)
    run = await app.recover(bot, "redeploy")
    assert run["status"] == "escalated"
    assert "InsufficientInstanceCapacity" in run["reason"]
    assert await world.actions(bot) == ["run"]
    assert await world.instance(bot) == before


# a bot's whole life

DEPLOY = ["PutParameter", "RunInstances", "DescribeInstances", "CreateTags"]
DEPLOY += ["DescribeAddresses", "AllocateAddress", "AssociateAddress"]
RETIRE = ["StopInstances", "DescribeInstances", "CreateSnapshot", "DescribeSnapshots"]
RETIRE += ["TerminateInstances", "ReleaseAddress", "DeleteParameter"]
"""The calls of a deployment, and of a retirement with a snapshot."""

PASSING: dict[str, dict[str, Any]] = {
    "throttled": {"how": "refuse", **THROTTLED},
    "answer lost": {"how": "lose_answer"},
}
TIMED_OUT = [("RunInstances", "TerminateInstances"), ("AllocateAddress", "CreateSnapshot")]


def left(world: World, bot: str) -> list[str]:
    """Return what of the bot still costs."""
    of_bot: Any = [{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}]
    volumes = world.ec2.describe_volumes(Filters=of_bot)["Volumes"]
    addresses = world.ec2.describe_addresses(Filters=of_bot)["Addresses"]
    token = ["its token"] if world.has_token(bot) else []
    ids = [str(volume.get("VolumeId")) for volume in volumes]
    return ids + [address["PublicIp"] for address in addresses] + token


def snapshots(world: World, bot: str) -> int:
    """Count the snapshots of the bot's disks."""
    of_bot: Any = [{"Name": "tag:bot-orchestrator:bot", "Values": [bot]}]
    return len(world.ec2.describe_snapshots(OwnerIds=["self"], Filters=of_bot)["Snapshots"])


async def retired(app: Api, bot: str) -> Any:
    answer = await app.call("DELETE", f"/bots/{bot}?snapshot=true")
    assert answer.status == 202, answer
    return await app.until_ended(f"/deploy/{answer.body['deploymentId']}")


async def live_and_end(app: Api, world: World, calls: tuple[str, str], breaking: Mapping[str, Any]) -> None:
    """Deploy a bot and retire it, with one fault in each."""
    bot = world.name()
    await world.cloud.break_api(calls[0], **breaking)
    await app.deployed(bot)
    assert await world.actions(bot) == ["run"], calls
    assert len(left(world, bot)) == 3
    await world.cloud.break_api(calls[1], **breaking)
    ended = await retired(app, bot)
    assert ended["status"] == "retired", (calls, ended)
    assert await world.actions(bot) == ["run", "stop", "terminate"], calls
    assert (left(world, bot), snapshots(world, bot)) == ([], 1), calls
    assert bot not in [orphan["bot"] for orphan in await app.get("/orphans")]


@pytest.mark.parametrize("breaking", PASSING)
async def test_a_life_with_a_fault_at_each_call_has_one_instance_and_leaves_nothing(
    run_app: RunApp, world: World, breaking: str
) -> None:
    """Another pair of calls for each bot."""
    async with run_app(elastic_ip=True) as app:
        for calls in zip(DEPLOY, RETIRE, strict=True):
            await live_and_end(app, world, calls, PASSING[breaking])


async def test_a_life_whose_calls_time_out_has_one_instance_and_leaves_nothing(
    run_app: RunApp, world: World
) -> None:
    """They are carried out, after we have given them up."""
    async with run_app(elastic_ip=True, aws_timeout=3.0) as app:
        for calls in TIMED_OUT:
            await live_and_end(app, world, calls, {"how": "delay", "seconds": 4})


async def test_a_deployment_that_may_not_make_a_call_says_which_and_leaves_nothing(
    run_app: RunApp, world: World
) -> None:
    bots = world.names(len(DEPLOY))
    async with run_app(elastic_ip=True, launch_grace=0.3) as app:
        for bot, call in zip(bots, DEPLOY, strict=True):
            await world.cloud.break_api(call, "refuse", **DENIED)
            answer = await app.begin_deploy(bot)
            if call == "PutParameter":
                assert answer.status == 502
                assert "ssm:PutParameter" in answer.body["error"]["message"]
                continue
            ended = await app.until_ended(f"/deploy/{answer.body['deploymentId']}")
            assert ended["status"] == "failed", call
            assert f"{call}: UnauthorizedOperation" in ended["reason"]
            assert await world.live(bot) == []
            assert left(world, bot) == [], call
        assert not [orphan for orphan in await app.get("/orphans") if orphan["bot"] in bots]


async def test_a_retirement_that_may_not_make_a_call_says_which_and_is_asked_again(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(elastic_ip=True) as app:
        await app.deployed(bot)
        for call in RETIRE:
            await world.cloud.break_api(call, "refuse", **DENIED)
            ended = await retired(app, bot)
            assert ended["status"] == "failed", call
            assert f"{call}: UnauthorizedOperation" in ended["reason"], call
        assert (await retired(app, bot))["status"] == "retired"
        assert await world.live(bot) == []
        assert left(world, bot) == []


# a redeploy beside the old instance

REDEPLOY = ["PutParameter", "RunInstances", "DescribeInstances", "CreateTags"]
REDEPLOY += ["StopInstances", "DescribeAddresses", "AssociateAddress"]
"""Its calls until it is done; the old instance is terminated by the next redeploy, or later."""


async def redeployed(app: Api, bot: str) -> Any:
    answer = await app.post(f"/bots/{bot}/redeploy", {"reason": "to see it fail"})
    assert answer.status == 202, answer
    return await app.until_ended(f"/deploy/{answer.body['deploymentId']}")


async def running(world: World, bot: str) -> list[str]:
    """Return the ids of the bot's running instances."""
    machines = await world.cloud.bots()
    return [machine.instance_id for machine in machines if machine.bot == bot and machine.state == "running"]


async def redeploy_once(app: Api, world: World, bot: str, call: str, breaking: Mapping[str, Any]) -> None:
    """Redeploy with one fault in one call, and it is as if there had been none."""
    before, (old,) = await world.actions(bot), await running(world, bot)
    await world.cloud.break_api(call, **breaking)
    ended = await redeployed(app, bot)
    assert ended["status"] == "deployed", (call, ended)
    done = (await world.actions(bot))[len(before) :]
    assert (done.count("run"), done.count("start")) == (1, 0), (call, done)
    (new,) = await running(world, bot)
    assert new != old, call
    assert len(await world.live(bot)) <= 2, call


@pytest.mark.parametrize("breaking", PASSING)
async def test_a_redeploy_with_a_fault_at_each_call_is_done_once(
    run_app: RunApp, world: World, breaking: str
) -> None:
    bot = world.name()
    async with run_app(elastic_ip=True) as app:
        await app.deployed(bot)
        for call in [*REDEPLOY, "TerminateInstances"]:
            await redeploy_once(app, world, bot, call, PASSING[breaking])


async def test_a_redeploy_whose_calls_time_out_is_done_once(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app(elastic_ip=True, aws_timeout=3.0) as app:
        await app.deployed(bot)
        for call in ("RunInstances", "StopInstances", "AssociateAddress"):
            await redeploy_once(app, world, bot, call, {"how": "delay", "seconds": 4})


async def test_a_redeploy_that_may_not_make_a_call_says_which_and_leaves_the_bot_as_it_was(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(elastic_ip=True, launch_grace=0.3) as app:
        await app.deployed(bot)
        (old,), costs = await running(world, bot), len(left(world, bot))
        for call in REDEPLOY:
            await world.cloud.break_api(call, "refuse", **DENIED)
            ended = await redeployed(app, bot)
            assert ended["status"] == "failed", call
            assert f"{call}: UnauthorizedOperation" in ended["reason"], (call, ended["reason"])
            assert await running(world, bot) == [old], (call, ended)
            assert len(left(world, bot)) == costs, call
        assert not [orphan for orphan in await app.get("/orphans") if orphan["bot"] == bot]


# a launch nobody answered


async def test_a_launch_that_was_never_answered_is_looked_for_and_ended(
    run_app: RunApp, world: World
) -> None:
    """EC2 did it, and we may not see it for a moment."""
    bot = world.name()
    async with run_app(launch_grace=5, redeploy_timeout=6) as app:
        await world.cloud.break_api("RunInstances", "lose_answer")
        await world.cloud.break_api("DescribeInstances", "refuse", **DENIED)
        began = await app.begin_deploy(bot)
        ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
        assert ended["status"] == "failed"
    assert await world.actions(bot) == ["run", "terminate"]
    assert await world.live(bot) == []


async def test_the_first_restart_of_all_makes_the_document(own_world: World, tmp_path: Any) -> None:
    bot = own_world.name()
    settings = settings_for(tmp_path / "remediator.db", own_world.cloud)
    async with serve(settings) as app:
        await app.deployed(bot)
        await own_world.cloud.fault(bot, "die")
        (run_id,) = await app.alert(firing(bot))
        assert (await app.until_ended(f"/recover/{run_id}"))["reason"] == "restart cured it"
    document = own_world.ssm.describe_document(Name="BotOrchestrator-RestartBot")["Document"]
    assert document.get("Parameters", []) == []
    assert await own_world.actions(bot) == ["run", "restart"]


async def test_a_clean_up_that_failed_is_said(run_app: RunApp, world: World) -> None:
    """The candidate cannot be ended: it costs money, so people hear of it."""
    bot = world.name()
    async with run_app() as app:
        await app.deployed(bot)
        await world.cloud.break_api("CreateTags", "refuse", **DENIED)
        await world.cloud.break_api("TerminateInstances", "refuse", **DENIED)
        run = await app.recover(bot, "redeploy")
        assert run["status"] == "escalated"
        assert "what was launched could not be ended, and still costs: TerminateInstances" in run["reason"]
