"""`kill -9` of the real process while a group grows: one bot more in the end, on one instance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.process.waiting import wait_until
from tests.remediator.cost.oracle import Oracle, run_oracle
from tests.remediator.scaling.scaled_templates import write_scaled_templates

if TYPE_CHECKING:
    from tests.remediator.conftest import Remediator, World

RunRemediator = Callable[..., AbstractAsyncContextManager["Remediator"]]
Grows = Callable[[], AbstractAsyncContextManager[tuple["Remediator", Oracle]]]
DECLARED, ADDED = "declared", "support-1"


@pytest.fixture
def grows(tmp_path: Path, run_remediator: RunRemediator, own_world: World) -> Grows:
    """Return what runs a group of one bot that may have one more, once there is more work than it can do."""

    @asynccontextmanager
    async def run() -> AsyncIterator[tuple[Remediator, Oracle]]:
        folder = tmp_path / "templates"
        folder.mkdir()
        quick = {"scaling_interval": 0.1, "scaling_patience": 0.2, "scaling_calm": 0.4}
        pooled = {"Name": "/pool/support/1", "Value": "77:pooled", "Type": "SecureString"}
        own_world.ssm.put_parameter(**pooled)  # type: ignore[arg-type]  # a Literal
        async with (
            run_oracle() as oracle,
            run_remediator(
                own_world.cloud,
                templates_dir=write_scaled_templates(folder, min=1, max=2, target=0.8),
                prometheus_url=oracle.url,
                modes="scale=auto",
                **quick,
            ) as remediator,
        ):
            oracle.instant["up{job="] = {"x": 1}
            await remediator.api.deployed(DECLARED)
            yield remediator, oracle

    return run


def work(oracle: Oracle) -> None:
    oracle.instant["bot_health_score"] = {DECLARED: 100.0}
    oracle.instant["bot_context_usage_ratio"] = {DECLARED: 0.9}


async def begun(remediator: Remediator, number: int = 1) -> str:
    """Return the run's id of that attempt to grow, once it is on disk."""

    async def run_id() -> str:
        rows = remediator.rows("select id from runs where bot = ? order by created_at", ADDED)
        return str(rows[number - 1][0]) if len(rows) >= number else ""

    return await wait_until(run_id, what=f"attempt {number} to grow", every=0.003)


async def grown_by_one(remediator: Remediator, world: World, run_id: str) -> None:
    """Check it by the registry, the trail, the cloud's own log of effects and its instances."""
    run = await remediator.api.until_ended(f"/deploy/{run_id}")
    assert run["status"] == "deployed", run
    state: Any = await remediator.api.get("/dashboard")
    assert sorted(bot["bot"] for bot in state["registry"]) == [DECLARED, ADDED]
    assert await world.actions(ADDED) == ["run"]
    assert world.deployments(ADDED) == [run_id]
    assert len(await world.cloud.bots()) == 2
    trail = await remediator.api.get(f"/audit?bot={ADDED}&limit=1000")
    assert [entry["runId"] for entry in trail if entry["event"] == "scale.begun"][-1] == run_id


async def test_killed_at_every_boundary_of_a_scale_out(grows: Grows, own_world: World) -> None:
    async with grows() as (remediator, oracle):
        await own_world.cloud.break_api("RunInstances", "delay", seconds=1)
        work(oracle)
        run_id = await begun(remediator)
        await remediator.until_step(run_id, "token", "done")
        await remediator.kill9()  # decided, and no launch on disk or hardly
        await remediator.start()
        await remediator.until_step(run_id, "launch", "intended")
        await remediator.kill9()  # the launch is on its way
        await remediator.start()
        await own_world.until_did(ADDED, "run")
        await remediator.kill9()  # launched
        await remediator.start()
        await remediator.until_step(run_id, "healthy")
        await remediator.kill9()  # it comes up
        await remediator.start()
        await grown_by_one(remediator, own_world, run_id)
        assert len(remediator.rows("select id from runs where bot = ?", ADDED)) == 1


async def test_killed_before_its_token_reached_aws_it_grows_by_the_next_attempt(
    grows: Grows, own_world: World
) -> None:
    """The first has nothing to come up with, gives its name back, and is followed by another."""
    async with grows() as (remediator, oracle):
        await own_world.cloud.break_api("PutParameter", "refuse", code="ThrottlingException", times=4)
        work(oracle)
        first = await begun(remediator)
        await remediator.until_step(first, "token", "intended")
        await remediator.kill9()
        await remediator.start()
        failed = await remediator.api.until_ended(f"/deploy/{first}")
        assert failed["status"] == "failed"
        assert "nothing had been launched" in failed["reason"]
        second = await begun(remediator, 2)
        await remediator.api.until_ended(f"/deploy/{second}")
        last = remediator.rows("select id from runs where bot = ? order by created_at desc", ADDED)[0][0]
        await grown_by_one(remediator, own_world, str(last))
