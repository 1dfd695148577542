"""What happens once, though the remediator dies at every single write of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remediator.rollouts.planner import Rollout
from remediator.rollouts.repository import RolloutRepository
from remediator.store.transaction import Transaction
from sandbox.cloud.client import Effect
from sandbox.process.waiting import wait_until
from tests.remediator.conftest import World, read_rows
from tests.remediator.cost.oracle import run_oracle
from tests.remediator.crash.lives import WHEN, Lives, When
from tests.remediator.crash.runs import (
    alerted,
    begin_deploy,
    deployed,
    ended,
    redeploying,
    requested,
    second_version,
)
from tests.remediator.scaling.scaled_templates import write_scaled_templates


@pytest.mark.parametrize("when", WHEN)
async def test_a_deployment_launches_one_instance(
    make_lives: Callable[..., Lives], world: World, when: When
) -> None:
    bot = world.name()
    lives = make_lives()
    async with lives.immortal() as running:
        run_id = await begin_deploy(running, bot)
    run = await lives.until_ended(run_id, when)
    assert run.status == "deployed"
    assert await world.actions(bot) == ["run"]
    assert world.deployments(bot) == [run_id]


@pytest.mark.parametrize("when", WHEN)
async def test_a_redeploy_leaves_one_instance_and_ends_the_old_one_once(
    make_lives: Callable[..., Lives], world: World, when: When
) -> None:
    bot = world.name()
    lives = make_lives()
    async with lives.immortal() as running:
        first = await deployed(running, world, bot)
        run_id = await requested(running, bot, "redeploy")
    run = await lives.until_ended(run_id, when)
    assert (run.status, run.reason) == ("recovered", "redeploy cured it")
    assert await world.actions(bot) == ["run", "run", "terminate"]
    assert world.deployments(bot) == [first, run_id]
    async with lives.immortal() as running, running.store.read() as tx:
        registered = await tx.bot(bot)
    assert registered is not None
    assert [registered.instance_id] == await world.live(bot)


def holder(world: World, bot: str) -> str:
    return world.ssm.get_parameter(Name=f"/bots/{bot}/active")["Parameter"]["Value"]


def most_at_once(effects: list[Effect], bot: str) -> int:
    """Return how many instances of the bot ran at one time, by the cloud's own log."""
    running: set[str] = set()
    most = 0
    for effect in effects:
        if effect.bot == bot and effect.action in ("run", "start"):
            running.add(effect.instance_id)
        elif effect.bot == bot and effect.action in ("stop", "terminate"):
            running.discard(effect.instance_id)
        most = max(most, len(running))
    return most


@pytest.mark.parametrize("when", WHEN)
async def test_a_blue_green_redeploy_and_its_rollback_do_each_thing_once(
    make_lives: Callable[..., Lives], world: World, when: When
) -> None:
    """To version 2 in one life and back to version 1 in many, or the other way round."""
    bot = world.name()
    lives = make_lives(rollback_window=1000)
    async with lives.immortal() as running:
        await deployed(running, world, bot)
        await second_version(running, bot)
        if when == "before the commit":
            await ended(running, await redeploying(running, bot))
        run_id = await redeploying(running, bot, None if when == "after the commit" else 1)
    before = await world.actions(bot)
    run = await lives.until_ended(run_id, when)
    assert run.status == "deployed", run
    former = ["terminate"] if when == "before the commit" else []
    assert (await world.actions(bot))[len(before) :] == [*former, "run", "stop"]
    assert most_at_once(await world.cloud.effects(), bot) == 2
    async with lives.immortal() as running, running.store.read() as tx:
        registered = await tx.bot(bot)
    assert registered is not None
    assert registered.version == (2 if when == "after the commit" else 1)
    assert {registered.instance_id, registered.standby_instance_id} == set(await world.live(bot))
    assert holder(world, bot) == registered.instance_id


@pytest.mark.parametrize("when", WHEN)
async def test_a_redeploy_that_falls_ill_in_its_soak_moves_back_once(
    make_lives: Callable[..., Lives], world: World, when: When
) -> None:
    bot = world.name()
    lives = make_lives(soak_window=30, restart_timeout=0.5)
    async with lives.immortal() as running:
        await deployed(running, world, bot)
        await second_version(running, bot)
        run_id = await redeploying(running, bot)
    falling_ill = asyncio.create_task(ill_in_the_soak(lives, world, bot, run_id))
    run = await lives.until_ended(run_id, when)
    await falling_ill
    assert run.status == "failed", run
    assert "not well at" in run.reason
    assert "it is back on" in run.reason
    assert await world.actions(bot) == ["run", "run", "stop", "terminate", "start"]
    assert most_at_once(await world.cloud.effects(), bot) == 2
    async with lives.immortal() as running, running.store.read() as tx:
        registered = await tx.bot(bot)
    assert registered is not None
    assert (registered.version, registered.standby_instance_id) == (1, "")
    assert [registered.instance_id] == await world.live(bot)
    assert holder(world, bot) == registered.instance_id


async def ill_in_the_soak(lives: Lives, world: World, bot: str, run_id: str) -> None:
    """Let the candidate fall ill: it alone is up then."""

    async def soaking() -> bool:
        return bool(read_rows(lives.database, "select 1 from steps where name = 'soaked'"))

    await wait_until(soaking, timeout=120, what=f"the soak of {run_id}", every=0.005)
    await world.cloud.fault(bot, "error", cured_by="reboot")


async def test_a_rolling_update_redeploys_each_bot_once(
    make_lives: Callable[..., Lives], world: World
) -> None:
    bots = world.names(2)
    lives = make_lives(rollback_window=1000, gate_interval=0.02)
    async with lives.immortal() as running:
        await asyncio.gather(*(deployed(running, world, bot) for bot in bots))
        rollout = Rollout("rol-1", "running", "", "a crash test", "test", {}, 1, 0, 0.0, None)
        async with running.store.write() as tx:
            await RolloutRepository(tx).add(rollout, bots)

    async def read_state(tx: Transaction) -> tuple[bool, object]:
        rollout = await RolloutRepository(tx).get("rol-1")
        assert rollout is not None
        members = await RolloutRepository(tx).members("rol-1")
        steps = [await tx.steps(str(member.run_id)) for member in members]
        return rollout.finished_at is not None, [rollout, members, *steps]

    await lives.until_over(read_state, "after the commit")
    async with lives.immortal() as running, running.store.read() as tx:
        stored = await RolloutRepository(tx).get("rol-1")
    assert stored is not None
    assert (stored.status, stored.why) == ("completed", "2 of 2 bots redeployed")
    for bot in bots:
        assert await world.actions(bot) == ["run", "run", "stop"]
        assert len(world.deployments(bot)) == 2


@pytest.mark.parametrize("when", WHEN)
async def test_a_group_that_grows_has_one_bot_more_on_one_instance(
    make_lives: Callable[..., Lives], world: World, when: When, tmp_path: Path
) -> None:
    """From before the decision on. A name of its own: what other tests have pooled is another's."""
    declared, number = world.name(), 3 + WHEN.index(when)
    added, tokens = f"support-{number}", [f"/pool/support/{n}" for n in range(1, 7)]
    world.ssm.delete_parameters(Names=tokens)
    world.ssm.put_parameter(Name=tokens[number - 1], Value="77:pooled", Type="SecureString")
    quick = {"scaling_interval": 0.2, "scaling_patience": 0.0, "scaling_calm": 600.0}
    async with run_oracle() as oracle:
        lives = make_lives(
            templates_dir=write_scaled_templates(tmp_path, min=1, max=2, target=0.8),
            prometheus_url=oracle.url,
            modes=["scale=auto"],
            **quick,
        )
        oracle.instant["up{job="] = {"x": 1}
        oracle.instant["bot_health_score"] = {declared: 100.0}
        oracle.instant["bot_context_usage_ratio"] = {declared: 0.9}
        async with lives.immortal() as running:
            await deployed(running, world, declared)

        furthest = [0]  # steps: an attempt whose token died with the process is followed by another

        async def read_state(tx: Transaction) -> tuple[bool, object]:
            bot, run = await tx.bot(added), await tx.active_run(added)
            steps = await tx.steps(run.id) if run is not None else []
            furthest.append(max(furthest[-1], sum(step.state == "done" for step in steps)))
            return bot is not None and bot.state == "active" and run is None, furthest[-1]

        await lives.until_over(read_state, when)
    async with lives.immortal() as running, running.store.read() as tx:
        assert sorted(bot.name for bot in await tx.bots()) == [declared, added]
        trail = await tx.audit_trail(bot=added, after=0, limit=999)
        begun = [entry for entry in trail if entry.event == "scale.begun"]
    assert await world.actions(added) == ["run"]
    assert world.deployments(added) == [begun[-1].run_id]


@pytest.mark.parametrize("when", WHEN)
async def test_a_restart_is_sent_once(make_lives: Callable[..., Lives], world: World, when: When) -> None:
    bot = world.name()
    lives = make_lives()
    async with lives.immortal() as running:
        await deployed(running, world, bot)
        await world.cloud.fault(bot, "error")
        run_id = await alerted(running, bot)
    run = await lives.until_ended(run_id, when)
    assert (run.status, run.reason) == ("recovered", "restart cured it")
    assert await world.actions(bot) == ["run", "restart"]


async def test_a_reboot_whose_result_was_lost_is_settled_by_the_boot_id(
    make_lives: Callable[..., Lives], world: World
) -> None:
    bot = world.name()
    lives = make_lives()
    async with lives.immortal() as running:
        await deployed(running, world, bot)
        await world.cloud.fault(bot, "hang", cured_by="reboot")
        run_id = await requested(running, bot, "reboot")
    run = await lives.until_ended(run_id, "before the commit")
    assert (run.status, run.reason) == ("recovered", "reboot cured it")
    assert await world.actions(bot) == ["run", "reboot"]


async def test_a_reboot_that_nothing_can_settle_is_not_done_again(
    make_lives: Callable[..., Lives], world: World
) -> None:
    """Died with the intent on disk, and the bot is silent: perhaps it was rebooted. The next tier follows."""
    bot = world.name()
    lives = make_lives(reboot_timeout=1)
    async with lives.immortal() as running:
        await deployed(running, world, bot)
        await world.cloud.fault(bot, "die", cured_by="redeploy")
        run_id = await requested(running, bot, "reboot")
    run = await lives.until_ended(run_id, "after the commit")
    assert (run.status, run.reason) == ("recovered", "redeploy cured it")
    assert await world.actions(bot) == ["run", "run", "terminate"]


async def test_a_reboot_that_was_not_done_leaves_a_bot_alone_that_is_well(
    make_lives: Callable[..., Lives], world: World
) -> None:
    """The old boot_id says that it was not; and nobody asked for a redeploy of a healthy bot."""
    bot = world.name()
    lives = make_lives(reboot_timeout=1)
    async with lives.immortal() as running:
        await deployed(running, world, bot)
        run_id = await requested(running, bot, "reboot")
    run = await lives.until_ended(run_id, "after the commit")
    assert run.status == "recovered"
    assert run.reason.startswith("healthy after reboot, which failed: settled: it was not rebooted")
    assert await world.actions(bot) == ["run"]


@pytest.mark.parametrize("when", WHEN)
async def test_a_deployment_that_fails_leaves_nothing(
    make_lives: Callable[..., Lives], world: World, when: When
) -> None:
    """The bot is never well; the clean-up dies at each of its writes too."""
    bot = world.name()
    lives = make_lives(redeploy_timeout=2)
    async with lives.immortal() as running:
        run_id = await begin_deploy(running, bot)
        # a fault that follows the bot's name needs an instance to be told to
        helper = await running.aws.run_instance(launch_like(bot), lambda: None)
        await wait_until(lambda: is_up(world, bot), what="the instance")
        await world.cloud.fault(bot, "error", cured_by="nothing")
        world.ec2.terminate_instances(InstanceIds=[helper])
    before = await world.actions(bot)
    run = await lives.until_ended(run_id, when)
    assert run.status == "failed"
    assert "not healthy" in run.reason
    assert "what was launched was terminated" in run.reason
    assert (await world.actions(bot))[len(before) :] == ["run", "terminate"]
    assert await world.live(bot) == []
    assert not world.has_token(bot)
    async with lives.immortal() as running, running.store.read() as tx:
        assert await tx.bot(bot) is None, "the name is free again"


async def is_up(world: World, bot: str) -> bool:
    return any(instance.pid for instance in await world.cloud.bots() if instance.bot == bot)


def launch_like(bot: str) -> dict[str, Any]:
    unit = json.dumps({"write_files": [{"path": "/etc/bot/bot.json", "content": json.dumps({"bot": bot})}]})
    text = f"#cloud-config\n{unit}\n"
    return {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1, "UserData": text}
