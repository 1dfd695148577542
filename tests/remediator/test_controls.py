"""What people say to the machine, what it says to them, and what keeps it from acting."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sandbox.processes import free_port
from sandbox.waiting import wait_until
from tests.remediator.conftest import Api, World, firing, read_rows

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
CHAT = "-100200"


@asynccontextmanager
async def serving(routes: Mapping[str, Callable[[web.Request], Any]]) -> AsyncIterator[str]:
    """A server on loopback that answers these paths with what the functions give, as JSON."""
    app = web.Application()
    for path, answer in routes.items():

        async def handle(request: web.Request, answer: Callable[[web.Request], Any] = answer) -> web.Response:
            found = answer(request)
            return web.json_response(await found if asyncio.iscoroutine(found) else found)

        app.router.add_route("*", path, handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Chat:
    """Telegram with a person in it: what the person is told, and what they write."""

    url: str = ""
    told: list[str] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0  # how often for updates

    def write(self, text: str, chat: str = CHAT) -> None:
        message = {"text": text, "chat": {"id": int(chat)}, "from": {"id": 7, "username": "ann"}}
        self.updates.append({"update_id": 1000 + len(self.updates), "message": message})

    async def until_told(self, words: str) -> str:
        async def found() -> str:
            return next((text for text in self.told if words in text), "")

        return await wait_until(found, what=f"a message with {words!r}; so far: {self.told}")

    @property
    def settings(self) -> dict[str, str]:
        return {"telegram_api_url": self.url, "telegram_token": "7:word", "telegram_chat_id": CHAT}

    async def _send(self, request: web.Request) -> Any:
        self.told.append((await request.json())["text"])
        return {"ok": True, "result": {}}

    def _updates(self, request: web.Request) -> Any:
        self.asked += 1
        offset = int(request.query["offset"])
        return {"ok": True, "result": [one for one in self.updates if one["update_id"] >= offset]}


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    chat = Chat()
    routes = {"/bot{token}/sendMessage": chat._send, "/bot{token}/getUpdates": chat._updates}
    async with serving(routes) as chat.url:
        yield chat


async def ill(app: Api, world: World, *, cured_by: Any = "restart") -> tuple[str, dict[str, Any]]:
    """A bot that has fallen ill, and its alert."""
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.fault(bot, "error", cured_by=cured_by)
    return bot, firing(bot)


async def blocked(app: Api, run_id: str, gate: str) -> Any:
    """The run, once that gate holds it."""

    async def held() -> Any:
        run = await app.get(f"/recover/{run_id}")
        return run if run["status"] == "blocked" and run["reason"].startswith(f"{gate}: ") else None

    return await wait_until(held, what=f"{run_id} held by {gate}")


async def ended(app: Api, run_id: str) -> tuple[str, str]:
    run = await app.until_ended(f"/recover/{run_id}")
    return run["status"], run["reason"]


# holds


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
        held = await blocked(app, run_id, "paused")
        assert held["reason"].endswith("by ann: audit day")
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
        assert [one["kind"] for one in await app.get("/holds")] == ["maintenance"], "the later one"


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"scope": "galaxy", "reason": "x"}, "scope"),
        ({"scope": "fleet"}, "reason"),
        ({"scope": "fleet", "name": "forge", "reason": "x"}, "name"),
        ({"scope": "bot", "name": "nobody", "reason": "x"}, "name"),
        ({"scope": "template", "name": "nothing", "reason": "x"}, "name"),
        ({"scope": "environment", "name": "moon", "reason": "x"}, "name"),
        ({"scope": "bot", "reason": "x"}, "name"),
        ({"scope": "fleet", "reason": "x", "endsAt": "2020-01-01T00:00:00Z"}, "endsAt"),
        ({"scope": "fleet", "reason": "x", "endsAt": "2099-01-01T00:00:00"}, "endsAt"),
        (
            {
                "scope": "fleet",
                "reason": "x",
                "startsAt": "2099-01-02T00:00:00Z",
                "endsAt": "2099-01-01T00:00:00Z",
            },
            "endsAt",
        ),
    ],
)
async def test_a_hold_that_makes_no_sense_is_refused_by_field(
    app: Api, wish: dict[str, str], field: str
) -> None:
    answer = await app.post("/holds", wish)
    assert (answer.status, answer.field) == (422, field), answer
    assert await app.get("/holds") == []


async def test_what_is_not_there_cannot_be_lifted_cancelled_answered_or_cleared(
    app: Api, world: World
) -> None:
    bot = world.name()
    await app.deployed(bot)
    run = await app.recover(bot)
    calls: list[tuple[str, str, int, str]] = [
        ("DELETE", "/holds/77", 404, "id"),
        ("DELETE", "/holds/x", 404, "id"),
        ("POST", "/recover/rec-0/cancel", 404, "recoveryId"),
        ("POST", f"/recover/{run['recoveryId']}/cancel", 409, "recoveryId"),
        ("POST", f"/recover/{run['recoveryId']}/approve", 409, "recoveryId"),
        ("POST", "/recover/rec-0/deny", 404, "recoveryId"),
        ("DELETE", "/bots/nobody/quarantine", 404, "bot"),
        ("DELETE", f"/bots/{bot}/quarantine", 409, "bot"),
        ("GET", "/bots/nobody/explain", 404, "bot"),
    ]
    for method, path, status, name in calls:
        answer = await app.call(method, path, {} if method == "POST" else None)
        assert (answer.status, answer.field) == (status, name), (path, answer)


# cancel


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


# approvals


APPROVE: dict[str, Any] = {"modes": ["restart=approve"], "gate_interval": 60}


async def test_a_yes_by_api_survives_a_restart_of_the_service_and_counts_for_its_tier_alone(
    run_app: RunApp, world: World, chat: Chat
) -> None:
    settings = {"modes": ["*=approve"], "restart_timeout": 2, "gate_interval": 60, **chat.settings}
    async with run_app(**settings) as app:
        bot, alert = await ill(app, world, cured_by="reboot")
        (run_id,) = await app.alert(alert)
        await blocked(app, run_id, "mode")
        asked = await chat.until_told("May I restart it?")
        assert f"/approve {run_id}" in asked
        answer = await app.post(f"/recover/{run_id}/approve", {"by": "ann"})
        assert (answer.status, answer.body["tier"], answer.body["by"]) == (200, "restart", "ann")
        await chat.until_told("May I reboot it?")
        run = await blocked(app, run_id, "mode")
        assert run["tier"] == "restart", "what was done last"
        again = await app.get(f"/bots/{bot}/explain")
        assert "without an answer by" in again
    async with run_app(**settings) as app:
        await blocked(app, run_id, "mode")
        assert await world.actions(bot) == ["run", "restart"]
        assert (await app.post(f"/recover/{run_id}/approve", {})).status == 200
        assert await ended(app, run_id) == ("recovered", "reboot cured it")
        assert await world.actions(bot) == ["run", "restart", "reboot"]
    assert sum("May I" in text for text in chat.told) == 2, "each tier is asked for once"


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


async def test_a_person_in_the_chat_says_yes_or_no_and_nobody_else_can(
    run_app: RunApp, world: World, chat: Chat
) -> None:
    async with run_app(**APPROVE, **chat.settings) as app:
        (yes, first), (no, second) = await ill(app, world), await ill(app, world)
        (yes_run,), (no_run,) = await app.alert(first), await app.alert(second)
        for run_id in (yes_run, no_run):
            await blocked(app, run_id, "mode")
        chat.write(f"/approve {no_run}", chat="666")
        chat.write(f"please /approve {no_run}")
        chat.write("/approve rec-0123456789abcdef")
        chat.write(f"/approve@the_bot {yes_run}")
        chat.write(f"/deny {no_run}")
        assert await ended(app, yes_run) == ("recovered", "restart cured it")
        assert await ended(app, no_run) == ("escalated", "telegram:ann denied it")
        assert [await world.actions(bot) for bot in (yes, no)] == [["run", "restart"], ["run"]]
        await chat.until_told("rec-0123456789abcdef does not wait for an answer")


async def test_a_telegram_that_does_not_hold_the_question_is_not_asked_without_pause(
    run_app: RunApp, chat: Chat
) -> None:
    async with run_app(**APPROVE, **chat.settings) as app:

        async def asked() -> bool:
            return chat.asked > 0

        await wait_until(asked, what="the first question")
        for _ in range(30):
            await app.get("/health")
        assert chat.asked < 20


# shadow


async def test_a_shadow_writes_down_what_auto_would_do_and_does_nothing(
    run_app: RunApp, world: World, chat: Chat, tmp_path: Path
) -> None:
    async with run_app(modes=["*=shadow"], **chat.settings) as app:
        bot, alert = await ill(app, world)
        instance = await world.instance(bot)
        (run_id,) = await app.alert(alert)
        assert await ended(app, run_id) == ("shadowed", f"would have done: restart of {instance}")
        assert f"{bot} would have done: restart" in await chat.until_told("shadow")
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


# attempts and quarantine


async def test_after_so_many_attempts_the_bot_is_left_to_people_until_they_clear_it(
    run_app: RunApp, world: World
) -> None:
    settings = {"max_attempts": 1, "restart_timeout": 1.5, "relapse_after": 0.5}
    async with run_app(**settings) as app:
        bot, alert = await ill(app, world, cured_by="nothing")
        (run_id,) = await app.alert(alert)
        assert await ended(app, run_id) == ("escalated", "1 attempts on this bot in 24 h; limit: 1")
        assert await world.actions(bot) == ["run", "restart"]
        told = await app.call("GET", f"/bots/{bot}/explain")
        assert "in quarantine since" in told.body
        assert f"DELETE /bots/{bot}/quarantine ends that" in told.body
    async with run_app(**settings) as app:
        assert await app.alert(firing(bot, starts_at="2026-11-22T11:00:00Z")) == []
        assert await app.metric('bot_remediator_alerts_ignored_total{reason="quarantined"}') == 1
        cleared = await app.call("DELETE", f"/bots/{bot}/quarantine")
        assert (cleared.status, cleared.body) == (200, {"bot": bot, "state": "active"})
        await world.cloud.heal(bot)
        await world.cloud.fault(bot, "error")

        async def taken() -> list[str]:  # what began before the last run ended waits for relapse_after
            return await app.alert(firing(bot, starts_at="2026-11-22T12:00:00Z"))

        (second,) = await wait_until(taken, what="the alert taken")
        assert await ended(app, second) == ("recovered", "restart cured it")
        assert await world.actions(bot) == ["run", "restart", "restart"]


# explain


async def test_the_story_is_told_in_order_with_what_comes_next_and_when(
    run_app: RunApp, world: World
) -> None:
    async with run_app(gate_interval=60, restart_timeout=40) as app:
        bot, alert = await ill(app, world, cured_by="nothing")
        assert "next:\n  nothing is under way" in await app.get(f"/bots/{bot}/explain")
        hold = await app.post("/holds", {"scope": "bot", "name": bot, "reason": "audit day", "by": "ann"})
        (run_id,) = await app.alert(alert)
        await blocked(app, run_id, "paused")
        told = await app.get(f"/bots/{bot}/explain")
        assert told.startswith(f"{bot}: active\n\n")
        assert "held by paused: paused of the bot" in told.partition("next:")[2]
        assert "the gates are asked again within 60 s" in told.partition("next:")[2]
        await app.call("DELETE", f"/holds/{hold.body['id']}")

        async def acted() -> str:
            told = await app.get(f"/bots/{bot}/explain")
            return told if "if it is not healthy by" in told else ""

        told = await wait_until(acted, what="the restart carried out")
        words = [
            "ann paused it: audit day",
            "alert BotDown is firing since 2026-11-22T10:00:00",
            f"recovery {run_id} begins, because BotDown is firing",
            "gate paused does not let restart",
            "gate paused lets restart",
            "restart begins on i-",
            "restart was carried out: the service was restarted",
            "next:",
            "2 healthy probes in a row",
            ": reboot, if the gates allow it",
        ]
        places = [told.find(word) for word in words]
        assert -1 not in places, told
        assert places == sorted(places), told
        answer = await app.call("GET", f"/bots/{bot}/explain", headers={"Accept": "application/json"})
        assert answer.body["bot"] == bot
        assert answer.body["next"][1].endswith("reboot, if the gates allow it")
        times = [line["at"] for line in answer.body["story"]]
        assert times == sorted(times)


# sight, silences, storms


async def test_with_prometheus_down_nothing_is_done_and_one_message_says_so(
    run_app: RunApp, world: World, chat: Chat
) -> None:
    """And when it is back: one more message, and all goes on."""
    up = {"data": {"result": [{"metric": {}, "value": [0, "1"]}]}}
    async with run_app(**chat.settings, prometheus_url=f"http://127.0.0.1:{free_port()}") as app:
        (one, first), (two, second) = await ill(app, world), await ill(app, world)
        runs = [run_id for alert in (first, second) for run_id in await app.alert(alert)]
        for run_id in runs:
            held = await blocked(app, run_id, "sight")
            assert "Prometheus cannot be reached" in held["reason"]
        await chat.until_told("I cannot trust what I see")
    async with (
        serving({"/api/v1/query": lambda _: up}) as url,
        run_app(**chat.settings, prometheus_url=url) as app,
    ):
        for run_id in runs:
            assert await ended(app, run_id) == ("recovered", "restart cured it")
        await chat.until_told("I see again")
        assert [await world.actions(bot) for bot in (one, two)] == [["run", "restart"]] * 2
    seeing = [text for text in chat.told if "see" in text]
    assert len(seeing) == 2, seeing


@pytest.mark.parametrize(
    ("value", "why"), [("0", "the exporter is down"), (None, "Prometheus scrapes no exporter")]
)
async def test_without_its_exporter_prometheus_is_blind(
    run_app: RunApp, world: World, value: str | None, why: str
) -> None:
    result = [] if value is None else [{"metric": {}, "value": [0, value]}]
    async with (
        serving({"/api/v1/query": lambda _: {"data": {"result": result}}}) as url,
        run_app(prometheus_url=url) as app,
    ):
        bot, alert = await ill(app, world)
        (run_id,) = await app.alert(alert)
        assert why in (await blocked(app, run_id, "sight"))["reason"]
        assert await world.actions(bot) == ["run"]


async def test_a_silence_in_alertmanager_is_honoured_while_it_is_active(
    run_app: RunApp, world: World
) -> None:
    silences: list[dict[str, Any]] = []

    def silence(state: str, **matcher: Any) -> dict[str, Any]:
        wanted = {"name": "bot", "isRegex": False, "isEqual": True, **matcher}
        return {"status": {"state": state}, "createdBy": "ann", "comment": "on it", "matchers": [wanted]}

    async with serving({"/api/v2/silences": lambda _: silences}) as url, run_app(alertmanager_url=url) as app:
        bot, alert = await ill(app, world)
        silences += [silence("active", value=f"{bot[:-1]}.*", isRegex=True), silence("active", value="other")]
        (run_id,) = await app.alert(alert)
        held = await blocked(app, run_id, "silenced")
        assert held["reason"] == "silenced: silenced in Alertmanager by ann: on it"
        assert await world.actions(bot) == ["run"]
        silences[:] = [silence("expired", value=bot)]
        assert await ended(app, run_id) == ("recovered", "restart cured it")


async def test_a_storm_is_over_only_when_the_fleet_was_well_for_the_cool_down(
    run_app: RunApp, world: World
) -> None:
    async with run_app(fleet_max_unhealthy_ratio=0.5, storm_cooldown=3.0) as app:
        bots = world.names(3)
        await app.deployed(*bots)
        for bot in bots[:2]:
            await world.cloud.fault(bot, "error")
        (run_id,) = await app.alert(firing(bots[0]))
        assert "2 of 3 bots are ill" in (await blocked(app, run_id, "fleet"))["reason"]
        assert await app.metric("bot_remediation_storm_active") == 1
        await world.cloud.heal(bots[1])

        async def cooling() -> bool:
            return "the storm is over only when" in (await app.get(f"/recover/{run_id}"))["reason"]

        await wait_until(cooling, what="the cool-down")
        assert await world.actions(bots[0]) == ["run"]
        assert await ended(app, run_id) == ("recovered", "restart cured it")
        assert await app.metric("bot_remediation_storm_active") == 0
        events = [entry["event"] for entry in await app.get("/audit?limit=1000")]
        assert (events.count("storm.began"), events.count("storm.over")) == (1, 1)


async def test_people_are_told_of_alerts_that_were_left_out_of_a_payload(run_app: RunApp, chat: Chat) -> None:
    async with run_app(**chat.settings) as app:
        assert await app.alert(truncatedAlerts=3) == []
        assert "left 3 alerts out of a payload" in await chat.until_told("Alertmanager")
        assert await app.metric("bot_remediator_alerts_truncated_total") == 3
