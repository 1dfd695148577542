"""Rolling updates over a cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import Answer, Api, World


async def begin(app: Api, **fields: Any) -> Answer:
    return await app.post("/rollouts", {"reason": "a newer image", "batchSize": 1, **fields})


async def rollout(app: Api, **fields: Any) -> str:
    """Begin a rollout; return its path."""
    answer = await begin(app, **fields)
    assert answer.status == 202, answer
    return answer.headers["Location"]


async def until(app: Api, path: str, condition: Callable[[Any], bool], what: str) -> Any:
    """Wait until the view of a rollout fulfils the condition; return it."""

    async def view_in_time() -> Any:
        view = await app.get(path)
        return view if condition(view) else None

    return await wait_until(view_in_time, 90, what, every=0.05)


async def test_bots_are_redeployed_one_after_the_other(app: Api, world: World) -> None:
    bots = world.names(2)
    await app.deployed(*bots)
    path = await rollout(app, bots=bots, by="ann")
    assert (await begin(app, bots=bots)).field == "bots", "a bot is in one rollout at a time"
    assert await app.metric(f'bot_rollout_active{{rollout="{path.rpartition("/")[2]}"}}') == 1
    ended = await until(app, path, lambda view: view["finishedAt"] is not None, "the end of the rollout")
    assert (ended["status"], ended["reason"], ended["percent"]) == (
        "completed",
        "2 of 2 bots redeployed",
        100,
    )
    first, second = ended["bots"]
    assert [first["bot"], second["bot"]] == bots
    assert (first["status"], second["status"]) == ("done", "done")
    assert first["finishedAt"] <= second["startedAt"]
    for bot in bots:
        assert await world.actions(bot) == ["run", "run", "stop"]
    deployment = await app.get(f"/deploy/{first['deploymentId']}")
    assert (deployment["kind"], deployment["status"]) == ("redeploy", "deployed")
    assert [rollout["rolloutId"] for rollout in await app.get("/rollouts")] == [path.rpartition("/")[2]]
    events = [entry["event"] for entry in await app.get("/audit?limit=1000")]
    assert events.count("rollout.asked") == events.count("rollout.completed") == 1


async def test_it_stops_at_the_first_that_fails_and_goes_on_when_it_is_resumed(
    app: Api, world: World
) -> None:
    bots = world.names(2)
    await app.deployed(*bots)
    await world.cloud.break_api("RunInstances", "refuse", code="UnauthorizedOperation", message="No.")
    path = await rollout(app, bots=bots)
    stopped = await until(app, path, lambda view: view["finishedAt"] is not None, "the end of the rollout")
    assert stopped["status"] == "stopped"
    assert stopped["reason"].startswith(f"{bots[0]} failed: ")
    assert [member["status"] for member in stopped["bots"]] == ["failed", "waiting"]
    assert await world.actions(bots[1]) == ["run"]
    resumed = await app.post(f"{path}/resume", {"reason": "the policy is mended"})
    assert (resumed.status, resumed.body["status"]) == (200, "running")
    ended = await until(app, path, lambda view: view["finishedAt"] is not None, "the end of the rollout")
    assert ended["status"] == "completed"
    assert (await app.post(f"{path}/pause", {})).status == 409


async def test_paused_held_and_cancelled_it_begins_nothing(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    hold = await app.post("/holds", {"scope": "bot", "name": bot, "reason": "a demo"})
    path = await rollout(app, bots=[bot])
    blocked = await until(app, path, lambda view: view["reason"].startswith("held"), "a rollout that is held")
    assert blocked["reason"] == f"held: {bot}: paused: a demo"
    assert (await app.post(f"{path}/pause", {"by": "ann", "reason": "lunch"})).body["status"] == "paused"
    await app.call("DELETE", f"/holds/{hold.body['id']}")
    assert (await app.get(path))["reason"] == "paused by ann: lunch"
    assert (await app.post(f"{path}/cancel", {})).body["status"] == "cancelled"
    assert (await app.get(path))["finishedAt"] is not None
    assert (await app.post(f"{path}/resume", {})).field == "rolloutId"
    assert await world.actions(bot) == ["run"]


async def test_it_stops_when_more_bots_are_ill_than_may_be(app: Api, world: World) -> None:
    well, ill = world.names(2)
    await app.deployed(well, ill)
    await world.cloud.fault(ill, "error")
    path = await rollout(app, bots=[well, ill], maxUnavailable=0)
    ended = await until(app, path, lambda view: view["finishedAt"] is not None, "the end of the rollout")
    assert (ended["status"], ended["reason"]) == ("stopped", f"{ill} ill, where 0 may be")
    assert await world.actions(well) == ["run"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, ""),
        ({"bots": ["nobody"]}, "bots"),
        ({"bots": []}, "bots"),
        ({"template": "nothing"}, "bots"),
        ({"environment": "moon"}, "environment"),
        ({"environment": "staging", "batchSize": 0}, "batchSize"),
        ({"environment": "staging", "maxUnavailable": -1}, "maxUnavailable"),
        ({"environment": "staging", "reason": ""}, "reason"),
    ],
)
async def test_a_rollout_of_nobody_in_particular_is_refused(
    app: Api, fields: dict[str, Any], field: str
) -> None:
    answer = await begin(app, **fields)
    assert (answer.status, answer.field) == (422, field)
    assert answer.body["error"]["remedy"]
