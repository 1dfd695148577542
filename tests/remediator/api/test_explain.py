"""The story of a bot, in words."""

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import World
from tests.remediator.recovery.episodes import RunApp, blocked, ill


async def test_the_story_is_told_in_order_with_what_comes_next_and_when(
    run_app: RunApp, world: World
) -> None:
    async with run_app(gate_interval=60, restart_timeout=40) as app:
        bot, alert = await ill(app, world, cured_by="nothing")
        assert "next:\n  nothing is under way" in await app.get(f"/bots/{bot}/explain")
        hold = await app.post("/holds", {"scope": "bot", "name": bot, "reason": "audit day", "by": "ann"})
        (run_id,) = await app.alert(alert)
        await blocked(app, run_id, "paused")
        story = await app.get(f"/bots/{bot}/explain")
        assert story.startswith(f"{bot}: active\n\n")
        assert "held by paused: paused of the bot" in story.partition("next:")[2]
        assert "the gates are asked again within 60 s" in story.partition("next:")[2]
        await app.call("DELETE", f"/holds/{hold.body['id']}")

        async def acted() -> str:
            story = await app.get(f"/bots/{bot}/explain")
            return story if "if it is not healthy by" in story else ""

        story = await wait_until(acted, what="the restart carried out")
        lines = [
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
        positions = [story.find(line) for line in lines]
        assert -1 not in positions, story
        assert positions == sorted(positions), story
        answer = await app.call("GET", f"/bots/{bot}/explain", headers={"Accept": "application/json"})
        assert answer.body["bot"] == bot
        assert answer.body["next"][1].endswith("reboot, if the gates allow it")
        times = [line["at"] for line in answer.body["story"]]
        assert times == sorted(times)
