"""Groups that grow and shrink: what the service does with a decision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from remediator.store.store import Store
from sandbox.process.waiting import wait_until
from tests.remediator.cost.oracle import Oracle, run_oracle
from tests.remediator.scaling.scaled_templates import write_scaled_templates

if TYPE_CHECKING:
    from tests.remediator.conftest import Api, World

RunApp = Callable[..., AbstractAsyncContextManager["Api"]]


class ScalingApp:
    """An app whose support bots scale, over a Prometheus that a test fills."""

    def __init__(self, app: Api, oracle: Oracle, world: World) -> None:
        self.app, self.oracle, self.world = app, oracle, world
        self.passes, self._answer = 0, oracle.query
        oracle.query = self._query  # type: ignore[method-assign]  # counted

    def _query(self, expression: str) -> list[dict[str, Any]]:
        self.passes += "bot_health_score" in expression
        return self._answer(expression)

    def set_scores(self, **scores: float) -> None:
        """Have Prometheus say this of each bot; an underscore is a hyphen of its name."""
        self.oracle.instant["bot_health_score"] = {
            bot.replace("_", "-"): score for bot, score in scores.items()
        }

    async def lift_hold(self) -> None:
        """End the pause in which the test prepared its scores."""
        (hold,) = await self.app.get("/holds")
        assert (await self.app.call("DELETE", f"/holds/{hold['id']}")).status == 200

    async def until_event(self, event: str, detail: str = "") -> Any:
        """Wait until the trail has that event with that in its detail; return its first entry."""

        async def entries() -> Any:
            trail = await self.app.get("/audit?limit=1000")
            return [entry for entry in trail if entry["event"] == event and detail in str(entry["detail"])]

        return (await wait_until(entries, 30, event))[0]

    async def passed(self, passes: int) -> bool:
        """Return whether scaling has asked Prometheus so often."""
        return self.passes >= passes

    async def bots(self) -> list[str]:
        """Return the names in the registry."""
        return [bot["bot"] for bot in (await self.app.get("/dashboard"))["registry"]]


@pytest.fixture
def scaling_app(tmp_path: Path, run_app: RunApp, world: World) -> Callable[..., Any]:
    @asynccontextmanager
    async def run(*modes: str, **changes: Any) -> Any:
        folder = tmp_path / "templates"
        folder.mkdir(exist_ok=True)
        write_scaled_templates(folder, min=1, max=2, target=0.8)
        async with (
            run_oracle() as oracle,
            run_app(
                templates_dir=folder,
                prometheus_url=oracle.url,
                modes=list(modes),
                scaling_interval=0.5,  # which what Prometheus said is good for, twice: AWS is asked within it
                scaling_patience=0.2,
                scaling_calm=0.4,
                **changes,
            ) as app,
        ):
            oracle.instant["up{job="] = {"x": 1}
            hold = {"scope": "template", "name": "support", "reason": "release", "by": "jo"}
            assert (await app.post("/holds", hold)).status == 201
            yield ScalingApp(app, oracle, world)

    return run


async def test_a_group_grows_by_a_deploy_with_a_token_of_the_pool_and_shrinks_by_retiring_it(
    scaling_app: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    world.ssm.put_parameter(Name="/pool/support/1", Value="77:pooled", Type="SecureString", Overwrite=True)
    async with scaling_app("scale=auto") as scaling:
        await scaling.app.deployed(declared)
        scaling.oracle.instant["bot_context_usage_ratio"] = {declared: 0.9}
        scaling.set_scores(**{declared: 100.0})
        await scaling.lift_hold()
        begun = await scaling.until_event("scale.begun")
        assert (begun["bot"], begun["detail"]["direction"]) == ("support-1", "out")
        ended = await scaling.app.until_ended(f"/deploy/{begun['runId']}")
        assert ended["status"] == "deployed", ended
        token = world.ssm.get_parameter(Name="/bots/support-1/telegram-token", WithDecryption=True)
        assert token["Parameter"]["Value"] == "77:pooled"

        scaling.oracle.instant["bot_context_usage_ratio"] = {declared: 0.0, "support-1": 0.0}
        scaling.set_scores(**{declared: 100.0, "support_1": 100.0})

        async def only_declared() -> bool:
            names: list[str] = await scaling.bots()
            return names == [declared]

        await wait_until(only_declared, 60, "the bot that scaling added is retired")
        (group,) = await scaling.app.get("/scaling")
        assert (group["template"], group["environment"], group["mode"]) == ("support", "staging", "auto")
        assert group["lastMove"] == "in"
        assert await scaling.app.metric('bot_scalings_total{direction="out",outcome="begun"}') == 1
        bots_series = 'bot_scaling_bots{environment="staging",template="support"}'

        async def one_bot_is_published() -> bool:
            return bool(await scaling.app.metric(bots_series) == 1)

        await wait_until(one_bot_is_published, 60, "the group as the next pass publishes it")


async def test_in_shadow_it_is_written_down_once_and_nothing_is_done(
    scaling_app: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    async with scaling_app() as scaling:
        await scaling.app.deployed(declared)
        scaling.set_scores(**{declared: 0.0})
        await scaling.lift_hold()
        shadowed = await scaling.until_event("scale.shadowed")
        assert shadowed["detail"]["direction"] == "out"
        assert await scaling.bots() == [declared]
        (group,) = await scaling.app.get("/scaling")
        assert group["notDone"] == "out:shadow"


async def test_where_a_person_is_asked_it_waits_for_the_yes_and_without_a_token_it_says_what_is_missing(
    scaling_app: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    world.ssm.delete_parameters(Names=["/pool/support/1", "/pool/support/2"])
    async with scaling_app("scale=approve") as scaling:
        await scaling.app.deployed(declared)
        path = "/scaling/support/staging/approve"
        assert (await scaling.app.post("/scaling/nobody/staging/approve", {})).status == 404
        scaling.set_scores(**{declared: 0.0})
        await scaling.lift_hold()
        await scaling.until_event("scale.proposed")
        answer = await scaling.app.post(path, {"by": "jo"})
        assert (answer.status, answer.body["by"]) == (200, "jo")
        refused = await scaling.until_event("scale.refused", "no Telegram token")
        assert "no Telegram token is left at /pool/support/1" in refused["detail"]["why"]
        assert await scaling.bots() == [declared]


async def test_a_pause_of_the_template_holds_scaling_back(
    scaling_app: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    async with scaling_app("scale=auto") as scaling:
        await scaling.app.deployed(declared)
        scaling.set_scores(**{declared: 0.0})
        refused = await scaling.until_event("scale.refused")
        assert refused["detail"]["why"] == "paused: jo: release"
        assert await scaling.bots() == [declared]


async def test_a_refusal_is_told_once_however_often_it_is_tried(
    scaling_app: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    world.ssm.delete_parameters(Names=["/pool/support/1", "/pool/support/2"])
    async with scaling_app("scale=auto") as scaling:
        await scaling.app.deployed(declared)
        scaling.set_scores(**{declared: 0.0})
        await scaling.lift_hold()
        await scaling.until_event("scale.refused", "no Telegram token")
        passes = scaling.passes
        await wait_until(lambda: scaling.passed(passes + 20), 30, "twenty passes more")
        trail = await scaling.app.get("/audit?limit=1000")
        assert sum("no Telegram token" in str(entry["detail"]) for entry in trail) == 1


async def test_a_storm_that_a_dead_process_saw_ends(run_app: RunApp, world: World, tmp_path: Path) -> None:
    """Nobody asks for a recovery any more, and it must not keep groups from scaling for ever."""
    async with run_app() as app:
        await app.deployed(world.name())
    store = await Store.open(f"sqlite:///{tmp_path / 'remediator.db'}")
    async with store.write() as tx:
        await tx.set_fact("storm", {"active": True, "since": 1.0, "over_at": 1.0})
    await store.close()
    async with run_app() as app:

        async def over() -> bool:
            return any(entry["event"] == "storm.over" for entry in await app.get("/audit?limit=1000"))

        await wait_until(over, 30, "its end")
