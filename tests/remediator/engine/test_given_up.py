"""Runs that a fault of our own keeps from going on, over a cloud: they end, and nothing is taken away."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.aws.aws import Aws
from remediator.engine import engine as engine_module
from remediator.provisioning.standby_cleanup import is_due
from tests.remediator.conftest import Api, World
from tests.remediator.engine.test_engine import bot
from tests.remediator.provisioning.lifecycle import adopt, retire, run_by_hand, until_up

REASON = "a fault of this service (TypeError): its log says more"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RETRY_AFTER", 0)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have a call of AWS fail by a fault of ours; return how to mend it."""

    def plant(call: str) -> Any:
        async def broken(*_: object, **__: object) -> None:
            raise TypeError("planted")

        whole = getattr(Aws, call)
        monkeypatch.setattr(Aws, call, broken)
        return lambda: monkeypatch.setattr(Aws, call, whole)

    return plant


async def test_a_deployment_is_given_up_with_its_instance_and_a_retirement_takes_that_away(
    app: Api, world: World, plant: Any
) -> None:
    name = world.name()
    mend = plant("tag")  # of the step "registered"
    began = await app.begin_deploy(name)
    ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
    assert ended["status"] == "failed"
    assert ended["reason"] == f"{REASON}; DELETE /bots/{name} takes away what there is of it"
    assert await world.actions(name) == ["run"]
    assert world.has_token(name)
    mend()
    assert (await retire(app, name))["status"] == "retired"
    assert await world.live(name) == []
    assert not world.has_token(name)


async def test_a_redeploy_is_given_up_with_both_of_its_instances(app: Api, world: World, plant: Any) -> None:
    name = world.name()
    await app.deployed(name)
    plant("tag")  # of the step "moved"
    began = await app.post(f"/bots/{name}/redeploy", {"reason": "a newer image"})
    ended = await app.until_ended(f"/deploy/{began.body['deploymentId']}")
    assert (ended["status"], ended["reason"].partition(";")[0]) == ("failed", REASON)
    assert await world.actions(name) == ["run", "run", "stop"]
    assert (await app.get("/dashboard"))["summary"]["quarantined"] == 1


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, False),
        ({"standby_instance_id": "i-0"}, True),
        ({"standby_instance_id": "i-0", "quarantined_at": 5.0}, False),
        ({"standby_instance_id": "i-0", "standby_until": 5.0, "quarantined_at": 5.0}, True),
        ({"standby_instance_id": "i-0", "standby_until": 15.0}, False),
    ],
)
def test_a_redeploy_that_was_given_up_keeps_its_way_back_until_a_person_has_seen_to_it(
    changes: dict[str, Any], due: bool
) -> None:
    assert is_due(bot("forge", **changes), now=10.0) == due


async def test_a_retirement_is_given_up_where_it_stands_and_is_gone_on_with(
    app: Api, world: World, plant: Any
) -> None:
    name = world.name()
    await app.deployed(name)
    mend = plant("terminate")
    ended = await retire(app, name)
    assert (ended["status"], ended["reason"].partition(";")[0]) == ("failed", REASON)
    assert await world.actions(name) == ["run", "stop"]
    mend()
    assert (await retire(app, name))["status"] == "retired"


async def test_an_adoption_is_given_up_and_the_instance_left_alone(
    app: Api, world: World, plant: Any
) -> None:
    name = world.name()
    instance_id = run_by_hand(world, name)
    await until_up(world, instance_id)
    mend = plant("claim")
    answer = await adopt(app, name, instance_id)
    assert (answer.status, answer.body["error"]["message"].partition(";")[0]) == (502, REASON), answer
    mend()
    assert (await adopt(app, name, instance_id)).status == 201


async def test_a_recovery_is_given_up_and_handed_to_a_person(app: Api, world: World, plant: Any) -> None:
    name = world.name()
    await app.deployed(name)
    await world.cloud.fault(name, "die", cured_by="nothing")
    plant("image_id")
    run = await app.recover(name, "redeploy")
    assert (run["status"], run["reason"]) == ("escalated", REASON)
    assert await world.actions(name) == ["run"]
