"""Launching: where, how often, and what becomes of each error of EC2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.model import Run
from remediator.places import MEMORY_GIB, Place, places
from remediator.settings import SettingsError, read_settings
from remediator.store import Store
from remediator.turns import FACT, take_turn, turn
from tests.remediator.conftest import Api, World

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
NO_ROOM: dict[str, Any] = {"code": "InsufficientInstanceCapacity", "message": "There is no capacity."}


def where(config: dict[str, Any], **settings: Any) -> list[str]:
    return [str(place) for place in places(config, read_settings(**settings))]


def test_every_zone_is_tried_with_the_own_type_before_another_type_is() -> None:
    assert where({"instance_type": "t3.small"}) == ["t3.small in any zone"]
    assert where({"instance_type": "t3.small"}, zones="a b", instance_types="t3a.small m6i.large") == [
        "t3.small in a",
        "t3.small in b",
        "t3a.small in a",
        "t3a.small in b",
        "m6i.large in a",
        "m6i.large in b",
    ]


def test_a_type_with_less_memory_never_stands_in() -> None:
    settings = read_settings(instance_types="t3a.medium t2.small t3.large", subnet_ids="subnet-1")
    tried = places({"instance_type": "t3.medium"}, settings)
    assert tried == [Place(name, subnet="subnet-1") for name in ("t3.medium", "t3a.medium", "t3.large")]


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"instance_types": "t4g.small"}, "INSTANCE_TYPES"), ({"zones": "a", "subnet_ids": "s"}, "ZONES")],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, str], named: str) -> None:
    """An ARM type could not run the image; a subnet has its zone."""
    with pytest.raises(SettingsError, match=f"BOT_REMEDIATOR_{named}"):
        read_settings(**settings)
    assert "t4g.small" not in MEMORY_GIB


@given(
    st.lists(st.floats(0, 20), max_size=60),
    st.integers(1, 8),
    st.sampled_from([0.25, 0.5, 2.0]),
)
def test_no_more_than_the_burst_and_what_was_refilled_begins_in_any_time(
    gaps: list[float], burst: int, refill: float
) -> None:
    now = spent = 1000.0
    begun: list[float] = []
    for gap in gaps:
        now += gap / 10
        at, spent = turn(spent, now, burst, refill)
        assert at >= now
        begun.append(at)
    assert begun == sorted(begun), "first come, first served"
    for first, start in enumerate(begun):
        for last in range(first, len(begun)):
            assert last - first + 1 <= burst + (begun[last] - start) / refill + 1e-6


async def test_turns_are_shared_by_way_of_the_database_and_taken_in_order(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'r.db'}", lambda: 1000.0)
    try:
        async with store.write() as tx:
            runs = [
                await tx.add_run(Run(f"dep-{n}", "deploy", f"b{n}", "manual", "", "", "", "", tx.now, None))
                for n in range(6)
            ]
        begun: list[str] = []

        async def launch(run: Run) -> None:
            await take_turn(store, store.lease(run), 2, 0.2)
            begun.append(run.id)

        tasks = []
        for run in runs:
            tasks.append(asyncio.create_task(launch(run)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert begun == [run.id for run in runs]
        async with store.read() as tx:
            assert (await tx.fact(FACT))["spent"] == pytest.approx(1000 + 6 * 0.2)
    finally:
        await store.close()


async def test_without_room_the_next_zone_is_tried_as_an_attempt_of_its_own(
    run_app: RunApp, world: World
) -> None:
    bot = world.name()
    async with run_app(zones="us-west-1a us-west-1b", instance_types="t3.2xlarge") as app:
        await world.cloud.break_api("RunInstances", "refuse", **NO_ROOM)
        began = await app.begin_deploy(bot)
        ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
        assert ended["status"] == "deployed", ended
        steps = {step["name"]: step for step in ended["steps"]}
        assert steps["launch"]["status"] == "failed"
        assert "name more subnets" in steps["launch"]["detail"]
        assert steps["launch-2"]["status"] == "done"
        assert await app.metric('bot_launch_errors_total{kind="capacity"}') == 1
        found = world.ec2.describe_instances(InstanceIds=[await world.instance(bot)])
        instance = found["Reservations"][0]["Instances"][0]
        assert instance["Placement"].get("AvailabilityZone") == "us-west-1b"
        assert instance.get("ClientToken") == f"{began.body['deploymentId']}-2"


@pytest.mark.parametrize(
    ("fault", "attempts", "kind", "remedy"),
    [
        (NO_ROOM, 2, "capacity", "no room anywhere; "),
        ({"code": "VcpuLimitExceeded"}, 1, "capacity", "ask AWS for a higher quota"),
        ({"code": "UnauthorizedOperation"}, 1, "denied", "allow ec2:RunInstances to this service"),
        ({"code": "InvalidAMIID.NotFound"}, 1, "refused", "see the setting AMI"),
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
