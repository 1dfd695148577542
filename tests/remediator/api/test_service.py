"""What the service says of itself: health, and its audit trail."""

from __future__ import annotations

import re
from pathlib import Path

from tests.remediator.conftest import Api, World, firing, write_rows
from tests.remediator.recovery.episodes import RunApp


async def test_health_says_who_and_when(alone: Api) -> None:
    health = await alone.get("/health")
    assert set(health) == {"status", "version", "timestamp", "managed_bots", "active_deployments"}
    assert (health["managed_bots"], health["active_deployments"]) == (0, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", health["timestamp"])
    assert (await alone.call("GET", "/-/healthy")).status == 200
    assert (await alone.call("GET", "/-/ready")).status == 200


async def test_a_service_that_can_keep_nothing_is_not_ready_until_it_can_again(
    run_app: RunApp, tmp_path: Path
) -> None:
    pause = {"scope": "fleet", "name": "", "reason": "work"}
    async with run_app() as app:
        await write_rows(tmp_path / "remediator.db", "alter table facts rename to away")
        assert (await app.call("POST", "/holds", pause)).status == 503
        for _ in range(2):
            assert (await app.call("GET", "/-/ready")).status == 503
        assert (await app.call("GET", "/-/healthy")).status == 200
        await write_rows(tmp_path / "remediator.db", "alter table away rename to facts")
        assert (await app.call("GET", "/-/ready")).status == 200


async def test_the_trail_tells_the_whole_story_of_a_bot(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.fault(bot, "die")
    (run_id,) = await app.alert(firing(bot))
    await app.until_ended(f"/recover/{run_id}")
    trail = await app.get(f"/audit?bot={bot}&limit=1000")
    events = [entry["event"] for entry in trail]
    assert events[0] == "deploy.asked"
    expected = ["alert.firing", "run.started", "tier.intended", "step.acted", "tier.cured", "run.recovered"]
    assert [event for event in events if event in expected] == expected
    assert [entry["id"] for entry in trail] == sorted(entry["id"] for entry in trail)
    assert trail[0]["actor"] == "api:127.0.0.1"
    assert await app.get(f"/audit?bot={bot}&limit=2") == trail[-2:]
    assert await app.get(f"/audit?bot={bot}&after={trail[0]['id']}&limit=1") == [trail[1]]
