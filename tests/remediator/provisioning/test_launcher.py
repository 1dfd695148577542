"""Launching over a cloud: what becomes of each error of EC2."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.remediator.conftest import Api, World

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
NO_CAPACITY: dict[str, Any] = {"code": "InsufficientInstanceCapacity", "message": "There is no capacity."}


async def test_without_room_the_next_zone_is_tried_as_an_attempt_of_its_own(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(zones="us-west-1a us-west-1b", instance_types="t3.2xlarge") as app:
        await world.cloud.break_api("RunInstances", "refuse", **NO_CAPACITY)
        began = await app.begin_deploy(bot)
        ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
        assert ended["status"] == "deployed", ended
        steps = {step["name"]: step for step in ended["steps"]}
        assert steps["launch"]["status"] == "failed"
        assert "name more subnets" in steps["launch"]["detail"]
        assert steps["launch-2"]["status"] == "done"
        assert await app.metric('bot_launch_errors_total{kind="capacity"}') == 1
        answer = world.ec2.describe_instances(InstanceIds=[await world.instance(bot)])
        instance = answer["Reservations"][0]["Instances"][0]
        assert instance["Placement"].get("AvailabilityZone") == "us-west-1b"
        assert instance.get("ClientToken") == f"{began.body['deploymentId']}-2"


@pytest.mark.parametrize(
    ("fault", "attempts", "kind", "remedy"),
    [
        (NO_CAPACITY, 2, "capacity", "no room anywhere; "),
        ({"code": "VcpuLimitExceeded"}, 1, "capacity", "ask AWS for a higher quota"),
        ({"code": "UnauthorizedOperation"}, 1, "denied", "allow ec2:RunInstances to this service"),
        ({"code": "InvalidAMIID.NotFound"}, 1, "refused", "see the settings AMI and AMI_ARM64"),
        ({"code": "IdempotentInstanceTerminated"}, 1, "gone", "CloudTrail says who ended"),
    ],
)
async def test_an_error_that_does_not_pass_ends_the_deployment_and_says_the_remedy(
    run_app: RunApp, world: World, fault: dict[str, Any], attempts: int, kind: str, remedy: str
) -> None:
    bot = world.name()
    async with run_app(zones="us-west-1a us-west-1b") as app:
        await world.cloud.break_api("RunInstances", "refuse", **fault, times=attempts)
        began = await app.begin_deploy(bot)
        ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
        assert ended["status"] == "failed"
        assert fault["code"] in ended["reason"]
        assert remedy in ended["reason"]
        assert await app.metric(f'bot_launch_errors_total{{kind="{kind}"}}') == attempts
    assert await world.actions(bot) == []
    assert not world.has_token(bot)


async def test_an_answer_that_was_lost_is_found_by_its_tag(app: Api, world: World) -> None:
    bot = world.name()
    await world.cloud.break_api("RunInstances", "lose_answer")
    began = await app.begin_deploy(bot)
    ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
    assert ended["status"] == "deployed"
    (launch,) = [step for step in ended["steps"] if step["name"] == "launch"]
    assert launch["detail"].endswith("found by its tag")
    assert await world.actions(bot) == ["run"]


async def test_a_throttled_launch_is_sent_again(app: Api, world: World) -> None:
    bot = world.name()
    await world.cloud.break_api("RunInstances", "refuse", code="RequestLimitExceeded", times=2)
    await app.deployed(bot)
    assert await app.metric('bot_launch_errors_total{kind="throttled"}') == 2
    assert await world.actions(bot) == ["run"]
