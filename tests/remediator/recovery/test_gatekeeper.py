"""What keeps a recovery from acting: people, limits, and monitoring that cannot be trusted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox.process.processes import free_port
from sandbox.process.waiting import wait_until
from tests.remediator.conftest import World, firing, read_rows
from tests.remediator.recovery.episodes import APPROVE, Chat, RunApp, blocked, ended, ill, serving


@pytest.mark.parametrize("scope", ["fleet", "template", "environment", "bot"])
async def test_a_pause_holds_until_it_is_lifted_and_then_all_goes_on_at_once(
    run_app: RunApp, world: World, scope: str
) -> None:
    async with run_app(gate_interval=60) as app:
        bot, alert = await ill(app, world)
        name = {"fleet": "", "template": "support", "environment": "staging", "bot": bot}[scope]
        hold = await app.post("/holds", {"scope": scope, "name": name, "reason": "audit day", "by": "ann"})
        assert hold.status == 201, hold
        (run_id,) = await app.alert(alert)
        run = await blocked(app, run_id, "paused")
        assert run["reason"].endswith("by ann: audit day")
        (listed,) = await app.get("/holds")
        assert (listed["kind"], listed["scope"], listed["name"], listed["by"]) == (
            "pause",
            scope,
            name,
            "ann",
        )
        assert (await app.call("DELETE", f"/holds/{hold.body['id']}")).status == 200
        assert await ended(app, run_id) == ("recovered", "restart cured it")
        assert await app.get("/holds") == []
        assert await world.actions(bot) == ["run", "restart"]


async def test_a_pause_of_others_holds_nobody_else_and_no_person(run_app: RunApp, world: World) -> None:
    async with run_app() as app:
        bot, alert = await ill(app, world)
        await app.post("/holds", {"scope": "environment", "name": "production", "reason": "freeze"})
        assert await ended(app, (await app.alert(alert))[0]) == ("recovered", "restart cured it")
        await app.post("/holds", {"scope": "bot", "name": bot, "reason": "by hand"})
        run = await app.recover(bot)
        assert run["status"] == "recovered"
        (gate,) = [gate for gate in run["gates"] if gate["gate"] == "paused"]
        assert gate["why"].endswith("by hand; a person asked all the same")


async def test_a_maintenance_window_holds_from_its_beginning_to_its_end(
    run_app: RunApp, world: World
) -> None:
    async with run_app() as app:
        bot, alert = await ill(app, world)
        now = datetime.now(UTC)
        window = {"scope": "bot", "name": bot, "reason": "new disk"}
        later = {
            "startsAt": (now + timedelta(hours=1)).isoformat(),
            "endsAt": (now + timedelta(hours=2)).isoformat(),
        }
        await app.post("/holds", window | later)
        await app.post("/holds", window | {"endsAt": (now + timedelta(seconds=3)).isoformat()})
        (run_id,) = await app.alert(alert)
        assert (await blocked(app, run_id, "paused"))["reason"].startswith("paused: maintenance of the bot ")
        assert await ended(app, run_id) == ("recovered", "restart cured it")
        run = await app.get(f"/recover/{run_id}")
        assert run["attempts"][0]["startedAt"] >= (now + timedelta(seconds=3)).isoformat()[:19]
        assert [hold["kind"] for hold in await app.get("/holds")] == ["maintenance"], "the later one"


async def test_a_cancelled_run_does_what_is_begun_and_nothing_more(run_app: RunApp, world: World) -> None:
    async with run_app(restart_timeout=2) as app:
        bot, alert = await ill(app, world, cured_by="reboot")
        (run_id,) = await app.alert(alert)
        await world.until_did(bot, "restart")
        answer = await app.post(f"/recover/{run_id}/cancel", {"by": "ann", "reason": "mine"})
        assert answer.status == 202
        assert await ended(app, run_id) == ("cancelled", "cancelled by ann: mine")
        assert await world.actions(bot) == ["run", "restart"]
        assert await app.alert(alert) == []
        assert len(await app.recoveries()) == 1, "the same episode begins nothing anew"


async def test_a_run_that_waits_is_cancelled_at_once(run_app: RunApp, world: World) -> None:
    async with run_app(gate_interval=60) as app:
        bot, alert = await ill(app, world)
        await app.post("/holds", {"scope": "fleet", "reason": "x"})
        (run_id,) = await app.alert(alert)
        await blocked(app, run_id, "paused")
        await app.post(f"/recover/{run_id}/cancel", {})
        assert (await ended(app, run_id))[0] == "cancelled"
        assert await world.actions(bot) == ["run"]


async def test_a_yes_by_api_survives_a_restart_of_the_service_and_counts_for_its_tier_alone(
    run_app: RunApp, world: World, chat: Chat
) -> None:
    settings = {"modes": ["*=approve"], "restart_timeout": 2, "gate_interval": 60, **chat.settings}
    async with run_app(**settings) as app:
        bot, alert = await ill(app, world, cured_by="reboot")
        (run_id,) = await app.alert(alert)
        await blocked(app, run_id, "mode")
        question = await chat.until_message("May I restart it?")
        assert f"/approve {run_id}" in question
        answer = await app.post(f"/recover/{run_id}/approve", {"by": "ann"})
        assert (answer.status, answer.body["tier"], answer.body["by"]) == (200, "restart", "ann")
        await chat.until_message("May I reboot it?")
        run = await blocked(app, run_id, "mode")
        assert run["tier"] == "restart", "what was done last"
        story = await app.get(f"/bots/{bot}/explain")
        assert "without an answer by" in story
    async with run_app(**settings) as app:
        await blocked(app, run_id, "mode")
        assert await world.actions(bot) == ["run", "restart"]
        assert (await app.post(f"/recover/{run_id}/approve", {})).status == 200
        assert await ended(app, run_id) == ("recovered", "reboot cured it")
        assert await world.actions(bot) == ["run", "restart", "reboot"]
    assert sum("May I" in text for text in chat.messages) == 2, "each tier is asked for once"


async def test_a_no_leaves_the_bot_to_people(run_app: RunApp, world: World) -> None:
    async with run_app(**APPROVE) as app:
        bot, alert = await ill(app, world)
        (run_id,) = await app.alert(alert)
        await blocked(app, run_id, "mode")
        assert (await app.post(f"/recover/{run_id}/deny", {"by": "ann"})).status == 200
        assert await ended(app, run_id) == ("escalated", "ann denied it")
        assert await world.actions(bot) == ["run"]
        assert await app.metric(f'bot_quarantined{{bot="{bot}"}}') == 1
        late = await app.post(f"/recover/{run_id}/approve", {})
        assert late.status == 409


async def test_silence_means_no(run_app: RunApp, world: World) -> None:
    async with run_app(modes=["restart=approve"], approval_timeout=1) as app:
        bot, alert = await ill(app, world)
        (run_id,) = await app.alert(alert)
        assert await ended(app, run_id) == ("escalated", "nobody approved restart in time")
        assert await world.actions(bot) == ["run"]


async def test_a_shadow_writes_down_what_auto_would_do_and_does_nothing(
    run_app: RunApp, world: World, chat: Chat, tmp_path: Path
) -> None:
    async with run_app(modes=["*=shadow"], **chat.settings) as app:
        bot, alert = await ill(app, world)
        instance = await world.instance(bot)
        (run_id,) = await app.alert(alert)
        assert await ended(app, run_id) == ("shadowed", f"would have done: restart of {instance}")
        assert f"{bot} would have done: restart" in await chat.until_message("shadow")
        (attempt,) = (await app.get(f"/recover/{run_id}"))["attempts"]
        assert (attempt["tier"], attempt["outcome"]) == ("restart", "shadowed")
        assert await app.metric(f'bot_quarantined{{bot="{bot}"}}') is None
        assert await app.metric('bot_remediation_runs_total{kind="recover",outcome="shadowed"}') == 1
        assert await world.actions(bot) == ["run"]
        ((shadowed,),) = read_rows(
            tmp_path / "remediator.db", "select request from steps where state = 'shadowed'"
        )
        assert instance in shadowed
        assert (await app.recover(bot))["status"] == "recovered", "a person may all the same"
        assert await world.actions(bot) == ["run", "restart"]


async def test_after_so_many_attempts_the_bot_is_left_to_people_until_they_clear_it(
    run_app: RunApp, world: World
) -> None:
    settings = {"max_attempts": 1, "relapse_after": 0.5}
    async with run_app(**settings, restart_timeout=1.5) as app:
        bot, alert = await ill(app, world, cured_by="nothing")
        (run_id,) = await app.alert(alert)
        assert await ended(app, run_id) == ("escalated", "1 attempts on this bot in 24 h; limit: 1")
        assert await world.actions(bot) == ["run", "restart"]
        story = await app.call("GET", f"/bots/{bot}/explain")
        assert "in quarantine since" in story.body
        assert f"DELETE /bots/{bot}/quarantine ends that" in story.body
    async with run_app(**settings) as app:
        assert await app.alert(firing(bot, starts_at="2026-11-22T11:00:00Z")) == []
        assert await app.metric('bot_remediator_alerts_ignored_total{reason="quarantined"}') == 1
        cleared = await app.call("DELETE", f"/bots/{bot}/quarantine")
        assert (cleared.status, cleared.body) == (200, {"bot": bot, "state": "active"})
        await world.cloud.heal(bot)
        await world.cloud.fault(bot, "error")

        async def started() -> list[str]:  # what began before the last run ended waits for relapse_after
            return await app.alert(firing(bot, starts_at="2026-11-22T12:00:00Z"))

        (second,) = await wait_until(started, what="a run for the alert")
        assert await ended(app, second) == ("recovered", "restart cured it")
        assert await world.actions(bot) == ["run", "restart", "restart"]


async def test_with_prometheus_down_nothing_is_done_and_one_message_says_so(
    run_app: RunApp, world: World, chat: Chat
) -> None:
    """And when it is back: one more message, and all goes on."""
    up = {"data": {"result": [{"metric": {}, "value": [0, "1"]}]}}
    async with run_app(**chat.settings, prometheus_url=f"http://127.0.0.1:{free_port()}") as app:
        (forge, first), (atlas, second) = await ill(app, world), await ill(app, world)
        runs = [run_id for alert in (first, second) for run_id in await app.alert(alert)]
        for run_id in runs:
            run = await blocked(app, run_id, "monitoring")
            assert "Prometheus cannot be reached" in run["reason"]
        await chat.until_message("I cannot trust what I see")
    async with (
        serving({"/api/v1/query": lambda _: up}) as url,
        run_app(**chat.settings, prometheus_url=url) as app,
    ):
        for run_id in runs:
            assert await ended(app, run_id) == ("recovered", "restart cured it")
        await chat.until_message("I see again")
        assert [await world.actions(bot) for bot in (forge, atlas)] == [["run", "restart"]] * 2
    seeing = [text for text in chat.messages if "see" in text]
    assert len(seeing) == 2, seeing


@pytest.mark.parametrize(
    ("value", "reason"), [("0", "the exporter is down"), (None, "Prometheus scrapes no exporter")]
)
async def test_without_its_exporter_prometheus_is_blind(
    run_app: RunApp, world: World, value: str | None, reason: str
) -> None:
    result = [] if value is None else [{"metric": {}, "value": [0, value]}]
    async with (
        serving({"/api/v1/query": lambda _: {"data": {"result": result}}}) as url,
        run_app(prometheus_url=url) as app,
    ):
        bot, alert = await ill(app, world)
        (run_id,) = await app.alert(alert)
        assert reason in (await blocked(app, run_id, "monitoring"))["reason"]
        assert await world.actions(bot) == ["run"]


async def test_a_silence_in_alertmanager_is_honoured_while_it_is_active(
    run_app: RunApp, world: World
) -> None:
    silences: list[dict[str, Any]] = []

    def silence(state: str, **matcher: Any) -> dict[str, Any]:
        matchers = [{"name": "bot", "isRegex": False, "isEqual": True, **matcher}]
        return {"status": {"state": state}, "createdBy": "ann", "comment": "on it", "matchers": matchers}

    async with serving({"/api/v2/silences": lambda _: silences}) as url, run_app(alertmanager_url=url) as app:
        bot, alert = await ill(app, world)
        silences += [silence("active", value=f"{bot[:-1]}.*", isRegex=True), silence("active", value="other")]
        (run_id,) = await app.alert(alert)
        run = await blocked(app, run_id, "silenced")
        assert run["reason"] == "silenced: silenced in Alertmanager by ann: on it"
        assert await world.actions(bot) == ["run"]
        silences[:] = [silence("expired", value=bot)]
        assert await ended(app, run_id) == ("recovered", "restart cured it")
