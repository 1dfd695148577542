"""Configurations whose user data EC2 would not take: refused when they are asked for, over a cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remediator.provisioning import cloudinit
from tests.remediator.conftest import Answer, Api, World
from tests.remediator.provisioning.lifecycle import adopt, run_by_hand, until_up

PEOPLE = [4_503_599_627_370_000 - number * 281_474_976_711 for number in range(16)]
WISH = {"botType": "support", "environment": "staging", "telegramToken": "42:telegram"}


@pytest.fixture
def lower(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have EC2 take nothing from now on."""
    return lambda: monkeypatch.setattr(cloudinit, "USER_DATA_LIMIT", 1024)


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.field) == (422, "overrides.allow_from"), answer
    assert "more than the 1024 that EC2 takes" in answer.body["error"]["message"]
    assert "allow_from takes most" in answer.body["error"]["remedy"]


async def test_what_is_asked_for_is_refused_before_anything_is_kept(
    app: Api, world: World, lower: Callable[[], None]
) -> None:
    bot, new, theirs = world.names(3)
    began = await app.post("/deploy", {**WISH, "botName": bot, "allowFrom": PEOPLE})
    await app.until_ended(began.headers["Location"])
    patch: dict[str, Any] = {"overrides": {"heartbeat": "45m"}, "reason": "slower", "apply": False}
    assert (await app.post(f"/bots/{bot}/config", patch)).status == 200
    instance_id = run_by_hand(world, theirs)
    await until_up(world, instance_id)
    lower()
    before = await app.get(f"/bots/{bot}/versions")
    assert_refused(await app.post("/deploy", {**WISH, "botName": new, "allowFrom": PEOPLE}))
    assert_refused(await adopt(app, theirs, instance_id, overrides={"allow_from": PEOPLE}))
    assert_refused(await app.post(f"/bots/{bot}/config", {**patch, "overrides": {"heartbeat": "50m"}}))
    assert_refused(await app.post(f"/bots/{bot}/redeploy", {"reason": "newer"}))
    assert_refused(await app.post(f"/bots/{bot}/redeploy", {"reason": "older", "version": 1}))
    assert await app.get(f"/bots/{bot}/versions") == before
    assert (await app.get("/dashboard"))["summary"]["active_deployments"] == 0
    assert (await app.call("GET", f"/bots/{new}/versions")).status == 404
    assert not world.has_token(new)
    assert await world.actions(bot) == ["run"]


async def test_a_way_back_that_does_not_fit_is_refused(
    app: Api, world: World, lower: Callable[[], None]
) -> None:
    bot = world.name()
    await app.deployed(bot)
    patch = {"overrides": {"allow_from": PEOPLE}, "reason": "people", "apply": False}
    assert (await app.post(f"/bots/{bot}/config", patch)).status == 200
    before = await app.get(f"/bots/{bot}/versions")
    lower()
    assert_refused(await app.post(f"/bots/{bot}/rollback", {"reason": "back", "version": 2}))
    assert await app.get(f"/bots/{bot}/versions") == before


async def test_a_rollout_stops_at_a_bot_whose_configuration_does_not_fit(
    app: Api, world: World, lower: Callable[[], None]
) -> None:
    bots = world.names(2)
    await app.deployed(*bots)
    lower()
    answer = await app.post("/rollouts", {"reason": "a newer image", "bots": bots, "batchSize": 2})
    ended = await app.until_ended(answer.headers["Location"])
    assert ended["status"] == "stopped"
    assert ended["reason"].startswith(f"{bots[0]} cannot be redeployed: its user data have ")
    assert await world.actions(bots[0]) == await world.actions(bots[1]) == ["run"]


async def test_a_launch_that_does_not_fit_is_a_step_that_failed(
    app: Api, world: World, lower: Callable[[], None]
) -> None:
    """As where a setting has changed since: the tier fails, and the old instance is left alone."""
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.fault(bot, "die", cured_by="redeploy")
    lower()
    run = await app.recover(bot, "redeploy")
    assert run["status"] == "escalated", run
    assert "not launched: its user data have " in run["reason"]
    assert await world.actions(bot) == ["run"]
