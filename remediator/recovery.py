"""One recovery: the ladder says what comes next, the gates whether it may, the prober whether it helped."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from remediator import ladder
from remediator.actions import ACTIONS, Action, Hands
from remediator.gates import Effect, Fleet, Limits, Situation, decisive, judge, storm
from remediator.journal import Failed, Journal, attempt
from remediator.ladder import TIERS, Attempt, Finish, Settle, Try, Verify
from remediator.metrics import Metrics
from remediator.model import Bot, Ended, Run, Step, Tier
from remediator.prober import Look
from remediator.settings import Settings
from remediator.store import Store, Transaction

log = structlog.get_logger()


@dataclass
class Recovery:
    store: Store
    hands: Hands
    metrics: Metrics
    settings: Settings

    @property
    def limits(self) -> Limits:
        settings = self.settings
        return Limits(
            settings.fleet_max_unhealthy_ratio, settings.fleet_min_unhealthy, settings.max_in_flight
        )

    @property
    def _timeouts(self) -> Mapping[Tier, float]:
        settings = self.settings
        return {
            "restart": settings.restart_timeout,
            "reboot": settings.reboot_timeout,
            "redeploy": settings.redeploy_timeout,
        }

    async def run(self, run: Run, bot: Bot, wake: asyncio.Event) -> Ended:
        """Drive the run to its end, from wherever its steps say it is."""
        while True:
            async with self.store.read() as tx:
                steps = await tx.steps(run.id)
                found = await tx.bot(run.bot)
            if found is None:
                return Ended("cancelled", "the bot is no longer in the registry")
            bot = found
            tried = attempts(steps)
            move = ladder.next_move(tried, first_tier(run), self._timeouts)
            match move:
                case Finish(outcome, why):
                    return Ended(outcome, why)
                case Try(tier):
                    ended = await self._pass_gates(run, bot, tier, wake, climbing=bool(tried))
                    if ended is not None and ended.outcome == "unneeded" and tried:
                        last = tried[-1]
                        failed = f", which failed: {last.why}" if last.state == "failed" else ""
                        return Ended("recovered", f"healthy after {last.tier}{failed}")
                    if ended is not None:
                        return ended
                    await self._act(run, bot, tier, settle=False)
                case Settle(tier):
                    log.warning("tier in doubt", run=run.id, bot=bot.name, tier=tier)
                    await self._act(run, bot, tier, settle=True)
                case Verify(tier, deadline):
                    await self._verify(run, bot, tier, deadline)

    async def _pass_gates(
        self, run: Run, bot: Bot, tier: Tier, wake: asyncio.Event, *, climbing: bool
    ) -> Ended | None:
        """Hold until every gate opens, then write the intent; or say why nothing is left to do."""
        said: list[tuple[str, Effect]] = []
        held_by = ""
        while True:
            wake.clear()
            look, fleet = await self._look_around(bot)
            # Caps are read where the intent they allow is written: two runs cannot both take the last place.
            async with self.store.write() as tx:
                situation = Situation(
                    trigger=run.trigger,
                    climbing=climbing,
                    bot_healthy=look.healthy,
                    bot_seen=look.seen,
                    alerts_firing=any(alert.status == "firing" for alert in await tx.alerts_of(run.id)),
                    fleet=fleet,
                    in_flight=await tx.in_flight(TIERS, run.id),
                )
                verdicts = judge(situation, self.limits)
                stop = decisive(verdicts)
                if said != (said := [(verdict.gate, verdict.effect) for verdict in verdicts]):
                    await tx.add_verdicts(run.id, tier, verdicts)
                if stop is None:
                    await self._intend(tx, run, bot, tier, look)
                    return None
                if stop.effect is Effect.end:
                    return Ended("unneeded" if stop.gate == "healthy" else "resolved", stop.why)
                await tx.change_run(run.id, status="blocked", reason=f"{stop.gate}: {stop.why}")
                if stop.gate != held_by:
                    held = {"tier": tier, "gate": stop.gate, "why": stop.why}
                    await tx.audit("gate.held", bot=bot.name, run_id=run.id, **held)
            if stop.gate != held_by:
                self.metrics.blocked.labels(stop.gate).inc()
                log.warning("run held", run=run.id, bot=bot.name, **held)
            held_by = stop.gate
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), self.settings.gate_interval)

    async def _look_around(self, bot: Bot) -> tuple[Look, Fleet]:
        """The bot itself, now, and the fleet."""
        return await asyncio.gather(self.hands.prober.look(bot.target()), self._census())

    async def _census(self) -> Fleet:
        async with self.store.read() as tx:
            active = [bot for bot in await tx.bots() if bot.state == "active"]
        fleet = await self.hands.prober.census(active)
        self.metrics.fleet_ratio.set(fleet.ratio)
        self.metrics.storm.set(storm(fleet, self.limits))
        return fleet

    async def _intend(self, tx: Transaction, run: Run, bot: Bot, tier: Tier, look: Look) -> None:
        request = {
            "instance_id": bot.instance_id,
            "comment": f"{run.id} {tier}",
            "boot_id": look.boot_id or bot.boot_id,
            "started_at": look.started_at or bot.started_at,
        }
        await tx.intend(run.id, tier, request)
        await tx.change_run(run.id, status="running", tier=tier, reason=f"{tier} under way")
        await tx.audit("tier.intended", bot=bot.name, run_id=run.id, tier=tier, instance=bot.instance_id)
        log.info("tier begins", run=run.id, bot=bot.name, tier=tier, instance=bot.instance_id)

    async def _act(self, run: Run, bot: Bot, tier: Tier, *, settle: bool) -> None:
        journal = Journal(self.store, run)
        step = (await journal.steps())[tier]
        action = Action(self.hands, journal, bot, step.request, step.intended_at, self._timeouts[tier])
        how = ACTIONS[tier]
        outcome = await attempt(
            lambda _: (how.settle if settle else how.do)(action),
            lambda _: how.settle(action),
            step.request,
            deadline=action.deadline,
        )
        await journal.finish(tier, outcome, "acted")
        if isinstance(outcome, Failed):
            self.metrics.attempts.labels(tier, "failed").inc()
            log.warning("tier failed", run=run.id, bot=bot.name, tier=tier, why=outcome.why)

    async def _verify(self, run: Run, bot: Bot, tier: Tier, deadline: float) -> None:
        before = (await Journal(self.store, run).steps())[tier].request
        cured, look = await self.hands.prober.verify(
            bot.target(), deadline, lambda look: ACTIONS[tier].doubt(before, look)
        )
        outcome = "cured" if cured else "not_cured"
        async with self.store.write() as tx:
            await tx.change_step(run.id, tier, state=outcome, detail=look.seen, finished_at=tx.now)
            await tx.audit(f"tier.{outcome}", bot=bot.name, run_id=run.id, tier=tier, seen=look.seen)
            if cured:
                await tx.change_bot(bot.name, boot_id=look.boot_id, started_at=look.started_at)
        self.metrics.attempts.labels(tier, outcome).inc()
        log.info("tier verified", run=run.id, bot=bot.name, tier=tier, outcome=outcome, seen=look.seen)

    async def watch_storm(self) -> None:
        """While a storm is on, look again, so that its end is seen though no run asks."""
        while True:
            await asyncio.sleep(self.settings.gate_interval)
            last = self.hands.prober.last_census
            if last is not None and storm(last[1], self.limits):
                try:
                    await self._census()
                except Exception:  # the boundary of this task: the next look may succeed
                    log.exception("the look at the fleet failed")


def first_tier(run: Run) -> Tier:
    return run.method if run.method in TIERS else TIERS[0]


def attempts(steps: list[Step]) -> list[Attempt]:
    """The tiers among a run's steps, as the ladder wants them."""
    return [
        Attempt(tier, step.state, step.acted_at, step.detail, bool(step.result.get("denied")))
        for step in steps
        for tier in TIERS
        if step.name == tier and step.state != "done"
    ]
