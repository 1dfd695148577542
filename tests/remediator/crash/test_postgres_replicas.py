"""Two remediators as real processes on one PostgreSQL, over the sandbox's cloud and its log of effects."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.process.waiting import wait_until
from tests.chaos.postgres import Postgres
from tests.chaos.replicas import LEASE, Replica, run_replica
from tests.remediator.conftest import World, firing, resolved

SOON = LEASE + LEASE / 4 + 10  # a takeover, on a busy machine


@dataclass
class Pair:
    replicas: list[Replica]
    postgres: Postgres
    database: str

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return await self.postgres.rows(self.database, query, *values)

    async def until_step(self, run_id: str, name: str, *states: str) -> None:
        async def reached() -> bool:
            rows = await self.rows("select state from steps where run_id = $1 and name = $2", run_id, name)
            return bool(rows) and rows[0][0] in states

        await wait_until(reached, what=f"step {name} of {run_id} {'/'.join(states)}", every=0.01)

    async def until_fence(self, run_id: str, fence: int) -> None:
        """Wait until the run has been taken over so often."""

        async def taken() -> bool:
            return await self.rows("select 1 from runs where id = $1 and fence >= $2", run_id, fence) != []

        await wait_until(taken, SOON, f"{run_id} taken over")


RunPair = Callable[..., AbstractAsyncContextManager[Pair]]


@pytest.fixture
def run_pair(tmp_path: Path, world: World, postgres: Postgres) -> RunPair:
    @asynccontextmanager
    async def run(**changes: Any) -> AsyncIterator[Pair]:
        database = await postgres.new_database()
        settings = {"aws_endpoint_url": world.cloud.endpoint_url, **changes}
        async with AsyncExitStack() as stack:
            replicas = await asyncio.gather(
                *(
                    stack.enter_async_context(run_replica(tmp_path, name, postgres.url(database), **settings))
                    for name in ("a", "b")
                )
            )
            yield Pair(replicas, postgres, database)

    return run


async def test_one_alert_told_to_both_at_once_is_one_run_and_each_run_has_one_driver(
    run_pair: RunPair, world: World
) -> None:
    bots = world.names(4)
    async with run_pair() as pair:
        here, other = (replica.api for replica in pair.replicas)
        await here.deployed(*bots)
        for bot in bots:
            await world.cloud.fault(bot, "die")
        webhooks = [api.alert(firing(bot)) for bot in bots for api in (here, other, here)]
        await asyncio.gather(*webhooks)
        runs = await pair.rows("select id from runs where kind = 'recover'")
        for (run_id,) in runs:
            assert (await other.until_ended(f"/recover/{run_id}"))["status"] == "recovered"
        assert len(runs) == len(bots)
        assert [await world.actions(bot) for bot in bots] == [["run", "restart"]] * len(bots)
        began = await pair.rows("select run_id, count(*) from audit where event = 'tier.intended' group by 1")
        assert sorted(began) == sorted((run_id, 1) for (run_id,) in runs)
        fences = await pair.rows("select distinct fence from runs where kind = 'recover'")
        assert fences == [(1,)], "nobody took a run from a replica that lives"


async def test_killed_in_a_verification_the_other_goes_on_within_the_lease(
    run_pair: RunPair, world: World
) -> None:
    bot = world.name()
    async with run_pair(restart_timeout=5) as pair:
        driver, other = pair.replicas
        await driver.api.deployed(bot)
        await world.cloud.fault(bot, "error", cured_by="reboot")
        (run_id,) = await driver.api.alert(firing(bot))
        await pair.until_step(run_id, "restart", "acted")
        driver.kill9()
        await pair.until_fence(run_id, 2)
        run = await other.api.until_ended(f"/recover/{run_id}")
        assert (run["status"], run["reason"]) == ("recovered", "reboot cured it")
        assert await world.actions(bot) == ["run", "restart", "reboot"]


async def test_frozen_while_its_command_is_on_the_way_the_other_finds_it_and_the_thawed_one_stands_back(
    run_pair: RunPair, world: World
) -> None:
    """Every effect of the ladder once: the other replica settles the restart, and climbs on."""
    bot = world.name()
    async with run_pair(restart_timeout=8) as pair:
        driver, other = pair.replicas
        await driver.api.deployed(bot)
        await world.cloud.fault(bot, "error", cured_by="reboot")
        await world.cloud.break_api("SendCommand", "delay", seconds=1.0)
        (run_id,) = await driver.api.alert(firing(bot))
        await pair.until_step(run_id, "restart", "intended")
        await world.until_did(bot, "restart")
        driver.freeze()
        await pair.until_fence(run_id, 2)
        await pair.until_step(run_id, "restart", "acted", "not_cured")
        driver.thaw()

        async def stood_back() -> bool:
            return "run left to another replica" in driver.log() or not await _drives(pair, driver, run_id)

        await wait_until(stood_back, what="the thawed one standing back")
        run = await other.api.until_ended(f"/recover/{run_id}")
        assert (run["status"], run["reason"]) == ("recovered", "reboot cured it")
        assert (await driver.api.get(f"/recover/{run_id}"))["attempts"] == run["attempts"]
        assert await world.actions(bot) == ["run", "restart", "reboot"]


async def _drives(pair: Pair, replica: Replica, run_id: str) -> bool:
    pid = f"%-{replica.process.pid}-%"
    return await pair.rows("select 1 from runs where id = $1 and owner like $2", run_id, pid) != []


async def test_killed_in_a_redeploy_the_other_ends_it_with_one_new_instance(
    run_pair: RunPair, world: World
) -> None:
    bot = world.name()
    async with run_pair() as pair:
        driver, other = pair.replicas
        await driver.api.deployed(bot)
        old = await world.instance(bot)
        await world.cloud.break_api("RunInstances", "delay", seconds=1)
        answer = await driver.api.post(f"/recover/{bot}", {"method": "redeploy"})
        run_id = answer.body["recoveryId"]
        await pair.until_step(run_id, "launch", "intended")
        driver.kill9()
        await pair.until_fence(run_id, 2)
        run = await other.api.until_ended(f"/recover/{run_id}")
        assert (run["status"], run["reason"]) == ("recovered", "redeploy cured it")
        assert await world.actions(bot) == ["run", "run", "terminate"]
        assert await world.instance(bot) != old


async def test_one_asked_to_stop_gives_its_runs_back_at_once(run_pair: RunPair, world: World) -> None:
    bot = world.name()
    async with run_pair(lease=16.0, restart_timeout=4) as pair:
        leaving, other = pair.replicas
        await leaving.api.deployed(bot)
        await world.cloud.fault(bot, "error", cured_by="reboot")
        (run_id,) = await leaving.api.alert(firing(bot))
        await pair.until_step(run_id, "restart", "acted")
        await leaving.process.aclose()
        assert leaving.process.returncode == 0, leaving.log()
        (released,) = await pair.rows("select owner from runs where id = $1", run_id)
        assert released == (None,) or str(other.process.pid) in released[0]
        run = await other.api.until_ended(f"/recover/{run_id}")
        assert run["reason"] == "reboot cured it"
        assert await world.actions(bot) == ["run", "restart", "reboot"]


async def test_the_cap_is_exact_over_both(run_pair: RunPair, world: World) -> None:
    """No instant with more than two bots in a tier, though six wait at two replicas."""
    bots = world.names(6)
    async with run_pair(max_in_flight=2, stability_window=0.3) as pair:
        here, other = (replica.api for replica in pair.replicas)
        await here.deployed(*bots)
        for bot in bots:
            await world.cloud.fault(bot, "die")
        await asyncio.gather(
            *(api.alert(firing(bot)) for bot, api in zip(bots, [here, other] * 3, strict=True))
        )
        runs = [run_id for (run_id,) in await pair.rows("select id from runs where kind = 'recover'")]
        for run_id in runs:
            assert (await here.until_ended(f"/recover/{run_id}"))["status"] == "recovered"
        spans = await pair.rows("select intended_at, finished_at from steps where name = 'restart'")
        assert most_at_once(spans) == 2
        assert Counter([len(await world.actions(bot)) for bot in bots]) == {2: 6}


def most_at_once(spans: list[tuple[Any, ...]]) -> int:
    """Return how many spans of time overlap at most. An end makes way for a beginning at the same moment."""
    edges = sorted(edge for start, end in spans for edge in ((end, -1), (start, 1)))
    at_once = most = 0
    for _, change in edges:
        at_once += change
        most = max(most, at_once)
    return most


async def test_while_postgresql_is_away_alerts_are_refused_with_503_and_nothing_that_was_taken_is_lost(
    run_pair: RunPair, world: World
) -> None:
    """Stopped in immediate mode, as by a power cut, with a run in each replica."""
    first, second, third = world.names(3)
    async with run_pair(restart_timeout=30) as pair:
        here, other = (replica.api for replica in pair.replicas)
        await here.deployed(first, second, third)
        for bot in (first, second, third):
            await world.cloud.fault(bot, "error", cured_by="nothing")
        (first_run,) = await here.alert(firing(first))
        (second_run,) = await other.alert(firing(second))
        await pair.until_step(first_run, "restart", "acted")
        await pair.until_step(second_run, "restart", "acted")
        await pair.postgres.stop_at_once()
        for api in (here, other):
            answer = await api.post("/alerts", {"version": "4", "alerts": [firing(third)]})
            assert answer.status == 503, answer
            assert (await api.call("GET", "/-/healthy")).status == 200
        await world.cloud.heal()
        await pair.postgres.start()

        async def taken() -> bool:
            answer = await other.post("/alerts", {"version": "4", "alerts": [firing(third)]})
            return answer.status == 200

        await wait_until(taken, what="the alert taken")
        for run_id in (first_run, second_run):
            run = await here.until_ended(f"/recover/{run_id}")
            assert (run["status"], run["reason"]) == ("recovered", "restart cured it"), run
        assert await here.alert(resolved(firing(first))) == [first_run]
        assert await world.actions(first) == await world.actions(second) == ["run", "restart"]
        (third_run,) = await pair.rows("select status from runs where bot = $1 and kind = 'recover'", third)
        assert third_run[0] in ("running", "blocked", "unneeded")


async def test_a_rolling_update_goes_on_where_its_replica_died_and_is_watched_on_the_other(
    run_pair: RunPair, world: World
) -> None:
    bots = world.names(2)
    async with run_pair(soak_window=0.05, activation=0.05) as pair:
        here, other = pair.replicas
        await here.api.deployed(*bots)
        body = {"bots": bots, "batchSize": 1, "maxUnavailable": 1, "reason": "a newer image"}
        path = (await here.api.post("/rollouts", body)).headers["Location"]
        url, headers = f"{other.api.url}{path}?watch=true", {"Authorization": f"Bearer {other.api.token}"}
        async with other.api.session.get(url, headers=headers) as stream:

            async def begun() -> bool:
                return await pair.rows("select 1 from runs where kind = 'redeploy'") != []

            await wait_until(begun, SOON, "the first redeploy", every=0.01)
            here.kill9()
            events = await stream.text()
        assert events.count("event: end\n") == 1
        ended = await other.api.get(path)
        assert (ended["status"], ended["reason"]) == ("completed", "2 of 2 bots redeployed")
        for bot in bots:
            assert await world.actions(bot) == ["run", "run", "stop"]
