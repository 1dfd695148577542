"""Bots that answer /health and do not work, over a cloud: what they tell of their work is said here."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from exporter.probing.probe import ProbeResult
from remediator.monitoring import prober
from remediator.monitoring.prober import Observation
from remediator.monitoring.work import Work
from remediator.recovery import gatekeeper, recovery, soak
from sandbox.process.waiting import wait_until
from sandbox.stack.telegram import METHODS, Telegram
from tests.remediator.conftest import Api, World, firing
from tests.remediator.recovery.episodes import Chat, RunApp, blocked, ended, serving

TOKEN = "42:telegram"  # that `deployed` gives
Tell = Callable[[ProbeResult], Work | None]
UP, DOWN = Work(channels={"telegram": True}), Work(channels={"telegram": False})


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tell], None]:
    """Let every answer of /health that is ok tell this of the bot's work, too."""
    monkeypatch.setattr(gatekeeper, "QUEUE_AGE", 0.1)
    monkeypatch.setattr(recovery, "QUEUE_AGE", 0.1)
    real = prober.observation_of

    def telling(work_of: Tell) -> None:
        def observation_of(result: ProbeResult) -> Observation:
            work = work_of(result) if result.health.ok else None
            observation = real(result)
            return observation if work is None else replace(observation, work=work)

        monkeypatch.setattr(prober, "observation_of", observation_of)

    return telling


def deaf(bot: str, **labels: str) -> dict[str, Any]:
    return firing(bot, name="BotDeaf", symptom="deaf", channel="telegram", **labels)


async def start_of(app: Api, bot: str) -> str:
    """Return since when the bot's process runs, by its own word."""
    (group,) = [group for group in await app.get("/sd") if group["labels"]["bot"] == bot]
    for path in ("health", "mesh"):
        async with app.session.get(f"http://{group['targets'][0]}/{path}") as response:
            started_at = (await response.json()).get("started_at")
        if started_at is not None:
            return str(started_at)
    raise AssertionError(f"{bot} does not say since when it runs")


async def test_a_deaf_bot_is_cured_when_its_channel_is_up_and_fewer_updates_wait(
    run_app: RunApp, world: World, telegram: Telegram, looks: list[str], tell: Callable[[Tell], None]
) -> None:
    bot = world.name()
    async with run_app(telegram_api_url=telegram.url) as app:
        await app.deployed(bot)
        before = await start_of(app, bot)
        for _ in range(5):
            telegram.write(TOKEN, "does anybody hear me?")
        tell(lambda result: DOWN if result.started_at == before else UP)
        (run_id,) = await app.alert(deaf(bot, first_tier="restart"))
        await world.until_did(bot, "restart")
        seen = len(looks)

        async def asked_again() -> bool:
            return len(looks) >= seen + 3

        await wait_until(asked_again, what="three looks after the restart")
        run = await app.get(f"/recover/{run_id}")
        assert (run["finishedAt"], run["attempts"][0]["outcome"]) == (None, "running"), run
        telegram.pending[TOKEN].pop()
        assert await ended(app, run_id) == ("recovered", "restart cured it")
        assert await world.actions(bot) == ["run", "restart"]
        assert set(looks) == {TOKEN}


async def test_the_rule_says_which_tier_is_first_and_one_that_does_not_help_is_followed_by_the_next(
    run_app: RunApp, world: World, tell: Callable[[Tell], None]
) -> None:
    first, climbing = world.names(2)
    async with run_app(queue_looks=False, restart_timeout=1) as app:
        await app.deployed(first, climbing)
        boots: dict[str, str | None] = {}

        def work_of(result: ProbeResult) -> Work:
            return DOWN if boots.setdefault(result.bot, result.boot_id) == result.boot_id else UP

        tell(work_of)
        runs = [
            *await app.alert(deaf(first, first_tier="reboot")),
            *await app.alert(deaf(climbing, first_tier="fly")),
        ]
        for run_id in runs:
            assert await ended(app, run_id) == ("recovered", "reboot cured it")
        assert await world.actions(first) == ["run", "reboot"]
        assert await world.actions(climbing) == ["run", "restart", "reboot"]


async def test_a_bot_that_tells_nothing_of_its_work_is_recovered_as_ever(
    app: Api, world: World, tell: Callable[[Tell], None]
) -> None:
    bot = world.name()
    tell(lambda _: Work())
    await app.deployed(bot)
    await world.cloud.fault(bot, "error")
    (run_id,) = await app.alert(firing(bot))
    assert await ended(app, run_id) == ("recovered", "restart cured it")


async def test_a_stuck_and_a_mute_bot_are_each_cured_by_their_own_signal(
    run_app: RunApp, world: World, tell: Callable[[Tell], None]
) -> None:
    stuck, mute = world.names(2)
    async with run_app(turn_limit=600, queue_looks=False) as app:
        await app.deployed(stuck, mute)
        ill = {stuck: Work(turn_age=601.0), mute: Work(failed={"other": 3}, succeeded=90)}
        well = {stuck: Work(turn_age=1.0), mute: Work(failed={"other": 2}, succeeded=1)}
        starts = {bot: await start_of(app, bot) for bot in ill}
        tell(lambda result: (ill if result.started_at == starts[result.bot] else well)[result.bot])
        for bot, symptom in ((stuck, "stuck"), (mute, "mute")):
            (run_id,) = await app.alert(firing(bot, name=f"Bot{symptom.title()}", symptom=symptom))
            assert await ended(app, run_id) == ("recovered", "restart cured it")
            assert await world.actions(bot) == ["run", "restart"]
        (run_id,) = await app.alert(
            firing(mute, name="BotMute", symptom="mute", starts_at="2099-01-01T00:00:00Z")
        )
        tell(lambda _: Work(failed={"overloaded": 9}))
        assert (await ended(app, run_id))[0] == "unneeded", "its provider's trouble is none of its own"


async def test_a_refused_token_is_a_persons_and_nothing_is_restarted_for_it(
    run_app: RunApp, world: World, telegram: Telegram, tell: Callable[[Tell], None]
) -> None:
    bot = world.name()
    async with run_app(telegram_api_url=telegram.url) as app:
        await app.deployed(bot)
        before = await start_of(app, bot)
        tell(lambda result: DOWN if result.started_at == before else UP)
        telegram.refused[TOKEN] = 401
        (run_id,) = await app.alert(deaf(bot))
        run = await blocked(app, run_id, "dependency")
        assert run["reason"] == "dependency: telegram refuses its token: it takes another one, from a person"
        assert "gate dependency holds restart back" in (await app.call("GET", f"/bots/{bot}/explain")).body
        assert await world.actions(bot) == ["run"]
        telegram.refused.clear()
        assert await ended(app, run_id) == ("recovered", "restart cured it")


async def test_many_mute_bots_are_their_providers_and_one_message_says_so(
    run_app: RunApp, world: World, chat: Chat, tell: Callable[[Tell], None]
) -> None:
    """It opens by itself. A bot that does not answer at all is recovered meanwhile."""
    bots = world.names(4)
    failed = dict(zip(bots, ("1", "1", "1", "0.2"), strict=True))

    def prometheus(request: web.Request) -> Any:
        if "ratio15m" not in request.query["query"]:
            return {"data": {"result": [{"metric": {}, "value": [0, "1"]}]}}
        result = [{"metric": {"bot": bot}, "value": [0, share]} for bot, share in failed.items()]
        return {"data": {"result": result}}

    settings = {"fleet_max_unhealthy_ratio": 0.3, "storm_cooldown": 0.3, "queue_looks": False}
    async with (
        serving({"/api/v1/query": prometheus}) as url,
        run_app(**chat.settings, **settings, prometheus_url=url) as app,
    ):
        await app.deployed(*bots)
        starts = {bot: await start_of(app, bot) for bot in bots}
        mute = Work(failed={"other": 3}, succeeded=9)
        tell(lambda result: mute if result.started_at == starts[result.bot] else Work(failed={}))
        runs = await app.alert(*(firing(bot, name="BotMute", symptom="mute") for bot in bots[:2]))
        for run_id in runs:
            run = await blocked(app, run_id, "dependency")
            assert "3 of 4 bots are mute at once" in run["reason"]
        assert await app.metric('bot_remediation_dependency_active{symptom="mute"}') == 1
        assert await app.metric('bot_remediation_blocked_total{reason="dependency"}') == 2
        await chat.until_message("3 of 4 bots are mute at once: what they need is likely away")
        await world.cloud.fault(bots[3], "error")
        (down,) = await app.alert(firing(bots[3]))
        assert await ended(app, down) == ("recovered", "restart cured it")
        assert [await world.actions(bot) for bot in bots[:3]] == [["run"]] * 3
        failed.update({bots[0]: "0.5", bots[1]: "0.5"})
        for run_id in runs:
            assert await ended(app, run_id) == ("recovered", "restart cured it")
        await chat.until_message("Over: 3 of 4 bots are mute at once")
        assert await app.metric('bot_remediation_dependency_active{symptom="mute"}') == 0
        assert len([text for text in chat.messages if "mute at once" in text]) == 2, chat.messages


async def test_a_candidate_that_does_not_hear_once_it_is_active_is_not_kept(
    run_app: RunApp, world: World, tell: Callable[[Tell], None]
) -> None:
    bot = world.name()
    async with run_app(restart_timeout=3) as app:
        await app.deployed(bot)
        old = await world.instance(bot)
        before = await start_of(app, bot)
        tell(lambda result: UP if result.started_at == before else DOWN)
        begun = await app.post(f"/bots/{bot}/redeploy", {"reason": "a newer image"})
        failed = await app.until_ended(begun.headers["Location"])
        assert failed["status"] == "failed", failed
        assert "it does not hear: telegram is down" in failed["reason"]
        assert failed["reason"].endswith(f"it is back on {old}")
        tell(lambda _: UP)
        begun = await app.post(f"/bots/{bot}/redeploy", {"reason": "again"})
        assert (await app.until_ended(begun.headers["Location"]))["status"] == "deployed"


@pytest.mark.parametrize(
    ("ill", "waiting", "why"),
    [
        (Work(channels={}), 0, "it stands by still: no channel is up"),
        (UP, 1, "wait at telegram, and are not fetched"),
        (replace(UP, succeeded=0.0, failed={"other": 3.0}), 0, "3 turns failed"),
        (replace(UP, turn_age=601.0), 0, "a turn has run for 601 s"),
    ],
    ids=["standby", "deaf", "mute", "stuck"],
)
async def test_a_candidate_that_does_not_work_in_its_soak_goes_back_and_one_that_does_is_kept(
    run_app: RunApp,
    world: World,
    telegram: Telegram,
    monkeypatch: pytest.MonkeyPatch,
    tell: Callable[[Tell], None],
    ill: Work,
    waiting: int,
    why: str,
) -> None:
    """With a growing queue all is well in what the bot says of itself."""
    monkeypatch.setattr(soak, "LEAST_PAUSE", 0.1)
    looked = METHODS["getwebhookinfo"]

    def grow(telegram: Telegram, token: str, fields: dict[str, Any]) -> tuple[int, Any]:
        for _ in range(waiting):
            telegram.write(token, "does anybody hear me?")
        return looked(telegram, token, fields)

    monkeypatch.setitem(METHODS, "getwebhookinfo", grow)
    bot = world.name()
    settings: dict[str, Any] = {"restart_timeout": 1, "soak_window": 1.0, "turn_limit": 600}
    async with run_app(telegram_api_url=telegram.url, **settings) as app:
        await app.deployed(bot)
        old = await world.instance(bot)
        before = await start_of(app, bot)
        well = Work(UP.channels, 1.0, 90.0, {"other": 1.0, "overloaded": 9.0})
        tell(lambda result: well if result.started_at == before else ill)
        begun = await app.post(f"/bots/{bot}/redeploy", {"reason": "a newer image"})
        failed = await app.until_ended(begun.headers["Location"])
        assert failed["status"] == "failed", failed
        assert why in failed["reason"]
        assert failed["reason"].endswith(f"it is back on {old}")
        assert await world.actions(bot) == ["run", "run", "stop", "terminate", "start"]
        tell(lambda _: well)
        monkeypatch.setitem(METHODS, "getwebhookinfo", looked)
        telegram.pending[TOKEN].clear()
        begun = await app.post(f"/bots/{bot}/redeploy", {"reason": "again"})
        assert (await app.until_ended(begun.headers["Location"]))["status"] == "deployed"


async def test_what_waits_is_looked_at_and_published_and_a_paused_bot_may_have_a_queue(
    run_app: RunApp, world: World, telegram: Telegram
) -> None:
    bot = world.name()
    stalled = f'bot_remediator_pending_updates_stalled{{bot="{bot}",channel="telegram"}}'
    refused = f'bot_remediator_channel_token_refused{{bot="{bot}",channel="telegram"}}'
    async with run_app(telegram_api_url=telegram.url, queue_interval=0.3) as app:
        await app.deployed(bot)
        for _ in range(3):
            telegram.write(TOKEN, "does anybody hear me?")

        async def until(sample: str, value: float | None) -> None:
            async def so() -> bool:
                return await app.metric(sample) == value

            await wait_until(so, what=f"{sample} {value}", every=0.02)

        await until(stalled, 1)
        assert await app.metric(stalled.replace("_stalled", "")) == 3
        del telegram.pending[TOKEN][1:]
        await until(stalled, 0)
        telegram.refused[TOKEN] = 401
        await until(refused, 1)
        assert await app.metric(stalled) is None
        hold = await app.post("/holds", {"scope": "bot", "name": bot, "reason": "work", "by": "ann"})
        assert hold.status in (200, 201), hold
        await until(refused, None)


async def test_looks_can_be_turned_off(
    run_app: RunApp, world: World, telegram: Telegram, looks: list[str]
) -> None:
    settings: dict[str, Any] = {"queue_interval": 0.05, "queue_looks": False}
    async with run_app(telegram_api_url=telegram.url, **settings) as app:
        await app.deployed(world.name())
        assert (await asyncio.gather(app.get("/metrics")))[0].count(
            "# TYPE bot_remediator_pending_updates "
        ) == 1
    assert looks == []
