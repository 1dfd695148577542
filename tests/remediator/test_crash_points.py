"""A remediator that dies at every single write to its store, one after the other, in one run.

Every life gets a few writes and dies at the last of them: right after its commit (an intent is on disk and
the effect was not begun, or a result is on disk and nothing followed), or just before it (the effect was
done, and its result is lost). The cloud's log of effects says whether anything was done twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from remediator import services
from remediator.alerts import parse
from remediator.bluegreen import begin
from remediator.configuration import hashed
from remediator.ec2 import Aws
from remediator.engine import Engine
from remediator.intake import take_in
from remediator.model import Run
from remediator.rollout import Rollout
from remediator.rollouts import Rollouts
from remediator.scaler import run_scaler
from remediator.services import Services, run_services
from remediator.settings import Settings
from remediator.store import Store
from remediator.transaction import Transaction
from remediator.versions import record
from sandbox.cloud import Effect
from sandbox.waiting import wait_until
from tests.remediator.conftest import World, firing, read_rows, settings_for, webhook
from tests.remediator.test_cost import run_oracle
from tests.remediator.test_scaling import scaled

When = Literal["after the commit", "before the commit"]
Look = Callable[[Transaction], Awaitable[tuple[bool, object]]]  # whether it is over, and how far it is
WHEN: list[When] = ["after the commit", "before the commit"]
MOST_LIVES = 90


@dataclass
class Life:
    """How many writes are left, and what happens at the last."""

    left: int = 10**9
    when: When = "after the commit"
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def die(self) -> None:
        """Nothing is written from now on. Cancelled is how a task ends that nobody waits for."""
        self.over.set()
        raise asyncio.CancelledError


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[Life]:
    """The last one is the present one; it is asked at every write of any store."""
    real, lives = Store.write, [Life()]

    @asynccontextmanager
    async def write(store: Store) -> AsyncIterator[Transaction]:
        life = lives[-1]
        if life.over.is_set():
            life.die()
        life.left -= 1
        async with real(store) as tx:
            yield tx
            if life.left <= 0 and life.when == "before the commit":
                life.die()
        if life.left <= 0:
            life.die()

    async def keep(_: Engine, __: list[str]) -> None:
        """The dead give nothing back."""

    monkeypatch.setattr(Store, "write", write)
    monkeypatch.setattr(Engine, "_give_back", keep)
    return lives


@dataclass
class Lives:
    """One service after the other over the same database, each with the same clients of AWS: they are slow
    to make, and hold nothing."""

    world: World
    database: Path
    lives: list[Life]
    settings: dict[str, Any]
    serve: Callable[[Settings], AbstractAsyncContextManager[Services]] = run_services

    @asynccontextmanager
    async def immortal(self) -> AsyncIterator[Services]:
        self.lives.append(Life())
        async with run_services(settings_for(self.database, self.world.cloud, **self.settings)) as running:
            yield running

    async def until_ended(self, run_id: str, when: When) -> Run:
        """Live and die until the run has ended."""

        async def look(tx: Transaction) -> tuple[bool, object]:
            run = await tx.run(run_id)
            assert run is not None
            kept = replace(run, owner=None, lease_until=None, fence=0)
            return run.finished_at is not None, (kept, await tx.steps(run_id))

        await self.until_over(look, when)
        async with self.immortal() as running, running.store.read() as tx:
            run = await tx.run(run_id)
        assert run is not None
        return run

    async def until_over(self, look: Look, when: When) -> None:
        """Live and die until it is over; which takes some deaths, or the test proves nothing."""
        fewest = 2 if when == "after the commit" else 3  # the first takes the run up
        writes, before = fewest, object()
        for number in range(MOST_LIVES):
            life = Life(writes, when)
            self.lives.append(life)
            settings = settings_for(self.database, self.world.cloud, **self.settings)
            try:
                async with self.serve(settings) as running:
                    await wait_until(
                        lambda: dead_or_over(life, running, look),  # noqa: B023 -- awaited within the loop
                        timeout=40,
                        what="death, or the end",
                        every=0.005,
                    )
                    async with running.store.read() as tx:
                        over, state = await look(tx)
            except asyncio.CancelledError:  # it died while it started
                assert life.over.is_set()
                writes += 1
                continue
            if over:
                assert number >= 2, "it never died"
                return
            # An effect that writes itself needs more than one write to come further.
            writes, before = fewest if state != before else writes + 1, state
        pytest.fail(f"not over after {MOST_LIVES} lives")


async def dead_or_over(life: Life, running: Services, look: Look) -> bool:
    if life.over.is_set() or running.engine._tasks:
        return life.over.is_set()
    async with running.store.read() as tx:
        return (await look(tx))[0]


@pytest.fixture
def make_lives(
    world: World, tmp_path: Path, lives: list[Life], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Lives]:
    aws = Aws(region="us-west-1", endpoint_url=world.cloud.endpoint_url, concurrency=20)
    monkeypatch.setattr(services, "Aws", lambda **_: aws)
    return lambda **settings: Lives(world, tmp_path / "r.db", lives, settings)


async def deployed(running: Services, world: World, bot: str) -> str:
    """By the engine, as POST /deploy begins it; the run that did it."""
    run_id = await begin_deploy(running, bot)
    await ended(running, run_id)
    return run_id


async def ended(running: Services, run_id: str) -> None:
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


async def begin_deploy(running: Services, bot: str) -> str:
    from remediator.api import Api as Calls
    from remediator.requests import DeployRequest

    asked = DeployRequest.model_validate(
        {"botName": bot, "botType": "support", "telegramToken": "42:planted", "environment": "staging"}
    )
    calls = Calls(running)
    async with running.store.write() as tx:
        run, _ = await calls.reserve(tx, asked, "test")
    await running.aws.put_token(bot, "42:planted")
    return run.id


async def alerted(running: Services, bot: str) -> str:
    """As POST /alerts does it, up to the commit: no task is told."""
    taken = await take_in(running.store, parse(webhook(firing(bot))), running.metrics, 300)
    return taken.started[0].id


async def asked(running: Services, bot: str, method: str) -> str:
    run = Run(f"rec-{bot}", "recover", bot, "manual", method, "running", "asked", "", 0.0, None)
    async with running.store.write() as tx:
        await tx.add_run(run)
    return run.id


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
        run_id = await asked(running, bot, "redeploy")
    run = await lives.until_ended(run_id, when)
    assert (run.status, run.reason) == ("recovered", "redeploy cured it")
    assert await world.actions(bot) == ["run", "run", "terminate"]
    assert world.deployments(bot) == [first, run_id]
    async with lives.immortal() as running, running.store.read() as tx:
        registered = await tx.bot(bot)
    assert registered is not None
    assert [registered.instance_id] == await world.live(bot)


async def redeploying(running: Services, bot: str, version: int | None = None) -> str:
    """As POST /bots/{bot}/redeploy and a rollback begin it, up to the commit."""
    async with running.store.write() as tx:
        known = await tx.bot(bot)
        assert known is not None
        return (await begin(running, tx, known, version=version, actor="test", reason="a crash test")).id


async def second_version(running: Services, bot: str) -> None:
    """A change that no redeploy has brought to the bot yet."""
    async with running.store.write() as tx:
        known = await tx.bot(bot)
        assert known is not None
        config = {**known.config, "heartbeat": "45m"}
        await record(tx, bot, config, hashed(config), actor="test", reason="slower", origin="change")


def holder(world: World, bot: str) -> str:
    return world.ssm.get_parameter(Name=f"/bots/{bot}/active")["Parameter"]["Value"]


def most_at_once(effects: list[Effect], bot: str) -> int:
    """Instances of the bot that ran at one time, by the cloud's own log."""
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
    kept = ["terminate"] if when == "before the commit" else []
    assert (await world.actions(bot))[len(before) :] == [*kept, "run", "stop"]
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
    """Only the candidate is up then, so it alone falls ill."""

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
            await Rollouts(tx).add(rollout, bots)

    async def look(tx: Transaction) -> tuple[bool, object]:
        kept = await Rollouts(tx).get("rol-1")
        assert kept is not None
        of = await Rollouts(tx).members("rol-1")
        return kept.finished_at is not None, [kept, of, *[await tx.steps(str(one.run_id)) for one in of]]

    await lives.until_over(look, "after the commit")
    async with lives.immortal() as running, running.store.read() as tx:
        kept = await Rollouts(tx).get("rol-1")
    assert kept is not None
    assert (kept.status, kept.why) == ("completed", "2 of 2 bots redeployed")
    for bot in bots:
        assert await world.actions(bot) == ["run", "run", "stop"]
        assert len(world.deployments(bot)) == 2


@pytest.mark.parametrize("when", WHEN)
async def test_a_group_that_grows_has_one_bot_more_on_one_instance(
    make_lives: Callable[..., Lives], world: World, when: When, tmp_path: Path
) -> None:
    """From before the decision on. A name of its own: what other tests put aside is another's."""
    declared, number = world.name(), 3 + WHEN.index(when)
    added, tokens = f"support-{number}", [f"/pool/support/{one}" for one in range(1, 7)]
    world.ssm.delete_parameters(Names=tokens)
    world.ssm.put_parameter(Name=tokens[number - 1], Value="77:pooled", Type="SecureString")
    quick = {"scaling_interval": 0.2, "scaling_patience": 0.0, "scaling_calm": 600.0}
    async with run_oracle() as oracle:
        lives = make_lives(
            templates_dir=scaled(tmp_path, min=1, max=2, target=0.8),
            prometheus_url=oracle.url,
            modes=["scale=auto"],
            **quick,
        )
        lives.serve = scaling
        oracle.instant["up{job="] = {"x": 1}
        oracle.instant["bot_health_score"] = {declared: 100.0}
        oracle.instant["bot_context_usage_ratio"] = {declared: 0.9}
        async with lives.immortal() as running:
            await deployed(running, world, declared)

        furthest = [0]  # steps: an attempt whose token died with the process is followed by another

        async def look(tx: Transaction) -> tuple[bool, object]:
            bot, run = await tx.bot(added), await tx.active_run(added)
            steps = await tx.steps(run.id) if run is not None else []
            furthest.append(max(furthest[-1], sum(step.state == "done" for step in steps)))
            return bot is not None and bot.state == "active" and run is None, furthest[-1]

        await lives.until_over(look, when)
    async with lives.immortal() as running, running.store.read() as tx:
        assert sorted(bot.name for bot in await tx.bots()) == [declared, added]
        begun = [
            one for one in await tx.audit_trail(bot=added, after=0, limit=999) if one.event == "scale.begun"
        ]
    assert await world.actions(added) == ["run"]
    assert world.deployments(added) == [begun[-1].run_id]


@asynccontextmanager
async def scaling(settings: Settings) -> AsyncIterator[Services]:
    async with run_services(settings) as running, run_scaler(running):
        yield running


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
        run_id = await asked(running, bot, "reboot")
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
        run_id = await asked(running, bot, "reboot")
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
        run_id = await asked(running, bot, "reboot")
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
    return any(one.pid for one in await world.cloud.bots() if one.bot == bot)


def launch_like(bot: str) -> dict[str, Any]:
    unit = json.dumps({"write_files": [{"path": "/etc/bot/bot.json", "content": json.dumps({"bot": bot})}]})
    text = f"#cloud-config\n{unit}\n"
    return {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1, "UserData": text}
