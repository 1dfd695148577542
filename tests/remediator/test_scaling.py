"""Groups that grow and shrink: what the decision may never do, and what the service does with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from remediator.modes import mode_of_scaling, parse_rule
from remediator.scaling import Group, Move, Past, Policy, decide, moved
from remediator.store import Store
from sandbox.waiting import wait_until
from templates import BUNDLED, TemplateError, load
from tests.remediator.test_cost import Oracle, run_oracle

if TYPE_CHECKING:
    from tests.remediator.conftest import Api, World

RunApp = Callable[..., AbstractAsyncContextManager["Api"]]
POLICY = Policy(min=2, max=4, target=0.8, patience=300, calm=1800)


# the decision


def after(seconds: float, group: Group) -> Move:
    """What is decided when it has been so for that long."""
    past, _ = decide(POLICY, group, Past(), 0)
    return decide(POLICY, group, past, seconds)[1]


def test_a_group_that_stays_short_of_healthy_bots_grows_after_a_while() -> None:
    short = Group(bots=3, healthy=2, added=0, load=None)
    assert after(299, short).direction == ""
    assert after(300, short).direction == "out"


def test_a_group_whose_work_leaves_too_little_grows() -> None:
    assert after(300, Group(bots=3, healthy=3, added=0, load=0.3)).direction == "out"
    assert after(300, Group(bots=3, healthy=3, added=0, load=0.1)).direction == ""


def test_one_that_was_added_stands_in_for_one_that_is_ill() -> None:
    assert after(300, Group(bots=3, healthy=2, added=1, load=None)).direction == ""


def test_a_group_shrinks_after_a_longer_calm_and_only_by_what_was_added() -> None:
    calm = Group(bots=3, healthy=3, added=1, load=0.05)
    assert after(1799, calm).direction == ""
    assert after(1800, calm).direction == "in"
    assert after(9999, Group(bots=3, healthy=3, added=0, load=0.0)).direction == ""


def test_a_group_keeps_a_bot_without_which_it_would_be_short() -> None:
    assert after(9999, Group(bots=3, healthy=3, added=1, load=0.12)).direction == ""


def test_a_group_below_its_least_grows_and_one_at_its_most_does_not() -> None:
    assert after(300, Group(bots=1, healthy=1, added=0, load=0.0)).direction == "out"
    assert after(300, Group(bots=4, healthy=1, added=0, load=1.0)).direction == ""


def test_a_group_in_which_nobody_has_deployed_a_bot_is_none() -> None:
    assert after(9999, Group(bots=0, healthy=0, added=0, load=None)).direction == ""


KEEPS_OFF = [{"storm": True}, {"busy": True}]


@pytest.mark.parametrize("what", KEEPS_OFF)
def test_nothing_is_done_in_a_storm_or_while_a_bot_is_on_its_way(what: Any) -> None:
    assert after(9999, Group(bots=3, healthy=1, added=0, load=1.0, **what)).direction == ""


@pytest.mark.parametrize("what", KEEPS_OFF)
def test_both_begin_the_clocks_anew(what: Any) -> None:
    """What one bot more has come to is seen only once it is there."""
    short = Group(bots=3, healthy=1, added=0, load=None)
    past, _ = decide(POLICY, short, Past(), 0)
    past, _ = decide(POLICY, Group(bots=3, healthy=1, added=0, load=None, **what), past, 200)
    assert decide(POLICY, short, past, 400)[1].direction == ""


def test_the_other_way_is_taken_only_after_a_calm() -> None:
    past = moved(Past(), "in", 0)
    short = Group(bots=2, healthy=1, added=0, load=None)
    past, _ = decide(POLICY, short, past, 1)
    assert decide(POLICY, short, past, 1799)[1].direction == ""
    assert decide(POLICY, short, past, 1801)[1].direction == "out"


# modes and templates


@pytest.mark.parametrize(
    ("rules", "mode"),
    [
        ("", "shadow"),
        ("*=auto", "shadow"),
        ("scale=auto", "auto"),
        ("scale=auto production:scale=approve", "approve"),
        ("staging:scale=auto", "shadow"),
    ],
)
def test_scaling_is_written_down_until_a_rule_names_it(rules: str, mode: str) -> None:
    assert mode_of_scaling([parse_rule(rule) for rule in rules.split()], "production") == mode


def test_no_bundled_template_scales_by_itself() -> None:
    templates = load()
    assert all(templates.get(name, "production").scaling is None for name in templates.names)


def scaled(folder: Path, **scaling: Any) -> Path:
    """The bundled templates, of which support scales in staging."""
    for path in BUNDLED.glob("*.yaml"):
        template = yaml.safe_load(path.read_text())
        if template["name"] == "support" and scaling:
            template["environments"]["staging"]["scaling"] = scaling
        (folder / path.name).write_text(yaml.safe_dump(template))
    return folder


def test_more_at_least_than_at_most_is_refused_by_field(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"scaling\.max.*less than min"):
        load(scaled(tmp_path, min=3, max=2, target=0.8))


# the service


class Scales:
    """An app whose support bots scale, over a Prometheus that a test fills."""

    def __init__(self, app: Api, oracle: Oracle, world: World) -> None:
        self.app, self.oracle, self.world = app, oracle, world
        self.looks, self._answer = 0, oracle.query
        oracle.query = self._query  # type: ignore[method-assign]  # counted

    def _query(self, expression: str) -> list[dict[str, Any]]:
        self.looks += "bot_health_score" in expression
        return self._answer(expression)

    def see(self, **scores: float) -> None:
        self.oracle.instant["bot_health_score"] = {
            bot.replace("_", "-"): score for bot, score in scores.items()
        }

    async def let_go(self) -> None:
        """End the pause in which the test prepared what there is to see."""
        (hold,) = await self.app.get("/holds")
        assert (await self.app.call("DELETE", f"/holds/{hold['id']}")).status == 200

    async def until_event(self, event: str, why: str = "") -> Any:
        async def there() -> Any:
            trail = await self.app.get("/audit?limit=1000")
            return [one for one in trail if one["event"] == event and why in str(one["detail"])] or None

        return (await wait_until(there, 30, event))[0]

    async def looked(self, times: int) -> bool:
        return self.looks >= times

    async def bots(self) -> list[str]:
        return [one["bot"] for one in (await self.app.get("/dashboard"))["registry"]]


@pytest.fixture
def scales(tmp_path: Path, run_app: RunApp, world: World) -> Callable[..., Any]:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def run(*modes: str, **changes: Any) -> Any:
        folder = tmp_path / "templates"
        folder.mkdir(exist_ok=True)
        scaled(folder, min=1, max=2, target=0.8)
        async with (
            run_oracle() as oracle,
            run_app(
                templates_dir=folder,
                prometheus_url=oracle.url,
                modes=list(modes),
                scaling_interval=0.1,
                scaling_patience=0.2,
                scaling_calm=0.4,
                **changes,
            ) as app,
        ):
            oracle.instant["up{job="] = {"x": 1}
            hold = {"scope": "template", "name": "support", "reason": "release", "by": "jo"}
            assert (await app.post("/holds", hold)).status == 201
            yield Scales(app, oracle, world)

    return run


async def test_a_group_grows_by_a_deploy_with_a_token_of_the_pool_and_shrinks_by_retiring_it(
    scales: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    world.ssm.put_parameter(Name="/pool/support/1", Value="77:pooled", Type="SecureString", Overwrite=True)
    async with scales("scale=auto") as it:
        await it.app.deployed(declared)
        it.oracle.instant["bot_context_usage_ratio"] = {declared: 0.9}
        it.see(**{declared: 100.0})
        await it.let_go()
        begun = await it.until_event("scale.begun")
        assert (begun["bot"], begun["detail"]["direction"]) == ("support-1", "out")
        ended = await it.app.until_ended(f"/deploy/{begun['runId']}")
        assert ended["status"] == "deployed", ended
        token = world.ssm.get_parameter(Name="/bots/support-1/telegram-token", WithDecryption=True)
        assert token["Parameter"]["Value"] == "77:pooled"

        it.oracle.instant["bot_context_usage_ratio"] = {declared: 0.0, "support-1": 0.0}
        it.see(**{declared: 100.0, "support_1": 100.0})

        async def only_declared() -> bool:
            found: list[str] = await it.bots()
            return found == [declared]

        await wait_until(only_declared, 60, "the bot that scaling added is retired")
        (group,) = await it.app.get("/scaling")
        assert (group["template"], group["environment"], group["mode"]) == ("support", "staging", "auto")
        assert group["lastMove"] == "in"
        assert await it.app.metric('bot_scalings_total{direction="out",outcome="begun"}') == 1
        assert await it.app.metric('bot_scaling_bots{environment="staging",template="support"}') == 1


async def test_in_shadow_it_is_written_down_once_and_nothing_is_done(
    scales: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    async with scales() as it:
        await it.app.deployed(declared)
        it.see(**{declared: 0.0})
        await it.let_go()
        told = await it.until_event("scale.shadowed")
        assert told["detail"]["direction"] == "out"
        assert await it.bots() == [declared]
        (group,) = await it.app.get("/scaling")
        assert group["notDone"] == "out:shadow"


async def test_where_a_person_is_asked_it_waits_for_the_yes_and_without_a_token_it_says_what_is_missing(
    scales: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    world.ssm.delete_parameters(Names=["/pool/support/1", "/pool/support/2"])
    async with scales("scale=approve") as it:
        await it.app.deployed(declared)
        path = "/scaling/support/staging/approve"
        assert (await it.app.post("/scaling/nobody/staging/approve", {})).status == 404
        it.see(**{declared: 0.0})
        await it.let_go()
        await it.until_event("scale.proposed")
        answer = await it.app.post(path, {"by": "jo"})
        assert (answer.status, answer.body["by"]) == (200, "jo")
        refused = await it.until_event("scale.refused", "no Telegram token")
        assert "no Telegram token is left at /pool/support/1" in refused["detail"]["why"]
        assert await it.bots() == [declared]


async def test_a_pause_of_the_template_holds_scaling_back(scales: Callable[..., Any], world: World) -> None:
    declared = world.name()
    async with scales("scale=auto") as it:
        await it.app.deployed(declared)
        it.see(**{declared: 0.0})
        refused = await it.until_event("scale.refused")
        assert refused["detail"]["why"] == "paused: jo: release"
        assert await it.bots() == [declared]


async def test_a_refusal_is_told_once_however_often_it_is_tried(
    scales: Callable[..., Any], world: World
) -> None:
    declared = world.name()
    world.ssm.delete_parameters(Names=["/pool/support/1", "/pool/support/2"])
    async with scales("scale=auto") as it:
        await it.app.deployed(declared)
        it.see(**{declared: 0.0})
        await it.let_go()
        await it.until_event("scale.refused", "no Telegram token")
        looks = it.looks
        await wait_until(lambda: it.looked(looks + 20), 30, "twenty looks more")
        trail = await it.app.get("/audit?limit=1000")
        assert sum("no Telegram token" in str(one["detail"]) for one in trail) == 1


async def test_a_storm_that_a_dead_process_saw_ends(run_app: RunApp, world: World, tmp_path: Path) -> None:
    """Nobody asks for a recovery any more, and it must not keep groups from scaling for ever."""
    async with run_app() as app:
        await app.deployed(world.name())
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'remediator.db'}")
    async with store.write() as tx:
        await tx.set_fact("storm", {"active": True, "since": 1.0, "over_at": 1.0})
    await store.close()
    async with run_app() as app:

        async def over() -> bool:
            return any(one["event"] == "storm.over" for one in await app.get("/audit?limit=1000"))

        await wait_until(over, 30, "its end")
