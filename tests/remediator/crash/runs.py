"""Runs as the API begins them, up to the commit, within this process."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from remediator.alerts.intake import receive
from remediator.alerts.webhook import parse
from remediator.configuration.rendering import hashed
from remediator.configuration.versions import record
from remediator.model import Run
from remediator.provisioning import deploy
from remediator.provisioning.blue_green import begin
from remediator.provisioning.deploy import DeploySpec
from remediator.runtime import Runtime
from tests.remediator.conftest import World, firing, webhook


async def deployed(running: Runtime, world: World, bot: str) -> str:
    """Deploy the bot, as POST /deploy does. Return the run's id."""
    run_id = await begin_deploy(running, bot)
    await ended(running, run_id)
    return run_id


async def ended(running: Runtime, run_id: str) -> None:
    """Drive it to its end, which has to be a good one."""
    async with running.store.read() as tx:
        begun = await tx.run(run_id)
    assert begun is not None
    running.engine.drive(begun)
    await running.engine.wait(run_id, 60)
    async with running.store.read() as tx:
        run = await tx.run(run_id)
    assert run is not None
    assert run.status == "deployed", run


async def begin_deploy(running: Runtime, bot: str) -> str:
    spec = DeploySpec(bot, "support", "staging", SecretStr("42:planted"))
    parts: Any = {"templates": running.templates, "settings": running.settings}
    async with running.store.write() as tx:
        begun, _ = await deploy.begin(tx, spec, "test", **parts)
    await running.aws.put_token(bot, "42:planted")
    return begun.id


async def alerted(running: Runtime, bot: str) -> str:
    """Begin a recovery as POST /alerts does, up to the commit: no task is started. Return the run's id."""
    received = await receive(running.store, parse(webhook(firing(bot))), running.metrics, 300)
    return received.started[0].id


async def requested(running: Runtime, bot: str, method: str) -> str:
    run = Run(f"rec-{bot}", "recover", bot, "manual", method, "running", "asked", "", 0.0, None)
    async with running.store.write() as tx:
        await tx.add_run(run)
    return run.id


async def redeploying(running: Runtime, bot: str, version: int | None = None) -> str:
    """Begin a redeploy as POST /bots/{bot}/redeploy does, up to the commit. Return the run's id."""
    async with running.store.write() as tx:
        registered = await tx.bot(bot)
        assert registered is not None
        settings, how = running.settings, {"actor": "test", "reason": "a crash test"}
        return (await begin(settings, tx, registered, version=version, **how)).id


async def second_version(running: Runtime, bot: str) -> None:
    """Record a change that no redeploy has brought to the bot yet."""
    async with running.store.write() as tx:
        registered = await tx.bot(bot)
        assert registered is not None
        config = {**registered.config, "heartbeat": "45m"}
        await record(tx, bot, config, hashed(config), actor="test", reason="slower", origin="change")
