"""A cloud leaves nothing behind, and does not mind another beside it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.cloud.client import Cloud, run_cloud
from sandbox.process.processes import is_gone
from sandbox.process.waiting import wait_until

if TYPE_CHECKING:
    from tests.sandbox.conftest import Fleet

    FleetOn = Callable[[Cloud], Fleet]

PARENT = """
import asyncio, sys
from pathlib import Path
from sandbox.cloud.client import run_cloud

async def main():
    async with run_cloud(Path(sys.argv[1])) as cloud:
        print(cloud.process.pid, cloud.endpoint_url, flush=True)
        await asyncio.sleep(99)

asyncio.run(main())
"""


async def all_gone(pids: list[int]) -> bool:
    return all(is_gone(pid) for pid in pids)


async def run_bots(fleet: Fleet, *names: str) -> list[int]:
    """Their process ids, once they answer."""
    for name in names:
        fleet.run(fleet.request(name))
    for name in names:
        await fleet.until_well(name)
    return [bot.pid for bot in await fleet.cloud.bots() if bot.pid is not None]


async def test_nothing_runs_after_a_cloud_and_its_log_of_effects_is_kept(
    tmp_path: Path, fleet_on: FleetOn
) -> None:
    async with run_cloud(tmp_path) as cloud:
        assert cloud.process is not None
        assert cloud.process.pid is not None
        pids = [cloud.process.pid, *await run_bots(fleet_on(cloud), "one", "two", "three")]
        await cloud.fault("one", "hang")
    assert len(pids) == 4
    assert await all_gone(pids)
    effects = [json.loads(line) for line in (tmp_path / "effects.jsonl").read_text().splitlines()]
    assert [(effect["action"], effect["bot"]) for effect in effects] == [
        ("run", bot) for bot in ("one", "two", "three")
    ]


async def test_cloud_and_bots_die_with_a_parent_that_was_killed(tmp_path: Path, fleet_on: FleetOn) -> None:
    argv = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid, url = (await parent.stdout.readline()).decode().split()
    cloud = Cloud(url)
    pids = [int(pid), *await run_bots(fleet_on(cloud), "one", "two")]
    await cloud.fault("two", "hang")
    assert len(pids) == 3
    parent.kill()
    await parent.wait()
    await wait_until(lambda: all_gone(pids))


async def test_two_clouds_live_side_by_side(tmp_path: Path, fleet_on: FleetOn) -> None:
    async with run_cloud(tmp_path / "a") as first, run_cloud(tmp_path / "b") as second:
        await run_bots(fleet_on(first), "twin")
        await run_bots(fleet_on(second), "twin")
        (own,), (other,) = await first.bots(), await second.bots()
        assert own.address != other.address
        await first.fault("twin", "die")
        assert (await fleet_on(first).get("twin"))[0] == 0
        assert (await fleet_on(second).get("twin"))[0] == 200
        assert [effect.instance_id for effect in await second.effects()] == [other.instance_id]
