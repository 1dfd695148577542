"""The end of a storm, over a cloud."""

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import World, firing
from tests.remediator.recovery.episodes import RunApp, blocked, ended


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
