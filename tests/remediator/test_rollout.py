"""Rolling updates: the decisions, and over a cloud."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from remediator.model import Run
from remediator.rollout import Begin, End, Member, Place, Rollout, Wait, next_move
from sandbox.waiting import wait_until
from tests.remediator.conftest import Answer, Api, World

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
ROLLOUT = Rollout("rol-1", "running", "", "a newer image", "ann", {}, 2, 1, 0.0, None)


def redeploy(status: str = "running") -> Run:
    ended = None if status == "running" else 9.0
    return Run("red-1", "redeploy", "a", "manual", "", status, "why it is so", "", 0.0, ended)


def places(*states: str, ill: str = "", held: str = "", gone: str = "") -> list[Place]:
    """Bots a, b, c, … in these states; `ill`, `held` and `gone` list their letters."""
    return [
        Place(
            Member("rol-1", bot, number, None, "left" if state == "skipped" else ""),
            run=redeploy(state) if state in ("running", "deployed", "failed") else None,
            ill=bot in ill,
            held="paused" if bot in held else "",
            gone="retired" if bot in gone else "",
        )
        for number, (bot, state) in enumerate(zip("abcdef", states, strict=False))
    ]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (places("waiting", "waiting", "waiting"), Begin(["a", "b"], {}, "a, b under way")),
        (places("running", "waiting", "waiting"), Begin(["b"], {}, "a, b under way")),
        (places("running", "running", "waiting"), Wait("a, b under way")),
        (places("deployed", "running", "waiting"), Wait("b under way")),
        (places("deployed", "deployed", "waiting"), Begin(["c"], {}, "c under way")),
        (places("deployed", "skipped", "deployed"), End("completed", "2 of 3 bots redeployed")),
        (places("deployed", "failed", "waiting"), End("stopped", "b failed: why it is so")),
        (places("waiting", "waiting", gone="b"), Begin(skip={"b": "retired"})),
        (places("waiting", "waiting", held="a"), Begin(["b"], {}, "b under way")),
        (places("waiting", "waiting", "waiting", held="ab"), Wait("held: a: paused")),
        (places("waiting", "waiting", "waiting", ill="c"), Begin(["a", "b"], {}, "a, b under way")),
        (places("waiting", "waiting", "waiting", ill="bc"), End("stopped", "b, c ill, where 1 may be")),
        (places("running", "running", "waiting", ill="abc"), Wait("a, b under way")),
        (places("deployed", "deployed", "waiting", ill="a"), End("stopped", "a was redeployed and is ill")),
    ],
)
def test_the_next_move_of_a_rollout(now: list[Place], expected: Any) -> None:
    assert next_move(ROLLOUT, now, storm=False) == expected


def test_a_storm_holds_what_would_be_begun() -> None:
    assert next_move(ROLLOUT, places("waiting"), storm=True) == Wait("held: a storm is on")
    ended = next_move(ROLLOUT, places("deployed"), storm=True)
    assert ended == End("completed", "1 of 1 bots redeployed")


# over a cloud


async def begin(app: Api, **asked: Any) -> Answer:
    return await app.post("/rollouts", {"reason": "a newer image", "batchSize": 1, **asked})


async def rollout(app: Api, **asked: Any) -> str:
    """The path of the rollout that has begun."""
    answer = await begin(app, **asked)
    assert answer.status == 202, answer
    return answer.headers["Location"]


async def until(app: Api, path: str, condition: Callable[[Any], bool], what: str) -> Any:
    async def look() -> Any:
        view = await app.get(path)
        return view if condition(view) else None

    return await wait_until(look, 90, what, every=0.05)


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
    shown = await app.get(f"/deploy/{first['deploymentId']}")
    assert (shown["kind"], shown["status"]) == ("redeploy", "deployed")
    assert [one["rolloutId"] for one in await app.get("/rollouts")] == [path.rpartition("/")[2]]
    events = [one["event"] for one in await app.get("/audit?limit=1000")]
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
    assert [one["status"] for one in stopped["bots"]] == ["failed", "waiting"]
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
    held = await until(app, path, lambda view: view["reason"].startswith("held"), "a rollout that is held")
    assert held["reason"] == f"held: {bot}: paused: a demo"
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
    ("asked", "field"),
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
    app: Api, asked: dict[str, Any], field: str
) -> None:
    answer = await begin(app, **asked)
    assert (answer.status, answer.field) == (422, field)
    assert answer.body["error"]["remedy"]
