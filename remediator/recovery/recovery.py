"""One recovery: the ladder says what comes next, the gatekeeper whether it may, the prober whether it helped.

The engine calls `Recovery.run` for each run of the kind `recover`, and again after a crash.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from remediator.engine.journal import Failed, Journal
from remediator.metrics import Metrics
from remediator.model import TIERS, Bot, Ended, Run, Step, Symptom, Tier
from remediator.monitoring.prober import Observation
from remediator.periodic import wait_for
from remediator.recovery import ladder
from remediator.recovery.gatekeeper import Gatekeeper
from remediator.recovery.gates import Proposal
from remediator.recovery.ladder import Attempt, Finish, Settle, Try, Verify
from remediator.recovery.queue_watch import QueueWatch
from remediator.recovery.symptoms import Evidence, problem, symptoms_of
from remediator.recovery.tier_request import TierRequest
from remediator.recovery.tiers import ACTIONS, Actuators
from remediator.settings import Settings
from remediator.store.lease import Lease
from remediator.store.store import Store

log = structlog.get_logger()

QUEUE_AGE: Final = 10.0  # seconds for which a verification uses what a channel said of the queue


@dataclass
class Recovery:
    """Drives recoveries, each to its end from wherever its steps say it is."""

    store: Store
    actuators: Actuators
    gatekeeper: Gatekeeper
    queue_watch: QueueWatch
    store_slots: asyncio.Semaphore  # shared with the gatekeeper
    metrics: Metrics
    settings: Settings

    async def run(self, run: Run, bot: Bot, lease: Lease, wake: asyncio.Event) -> Ended:
        """Climb the ladder until the bot is well, nothing is left to do, or a person has to act."""
        journal = Journal(self.store, run, lease)
        timeouts = ladder.tier_timeouts(self.settings)
        async with self.store_slots, self.store.read() as tx:
            steps = await tx.steps(run.id)
        while True:
            for step in steps:
                if step.state == "shadowed":  # written down before a crash, which kept the run from its end
                    return Ended("shadowed", step.detail)
            attempts = ladder.attempts_of(steps)
            match ladder.next_move(attempts, ladder.first_tier(run), timeouts):
                case Finish(outcome, reason):
                    return Ended(outcome, reason)
                case Try(tier):
                    proposal = Proposal(run, bot, tier, climbing=bool(attempts), waited=_waited(steps))
                    admitted = await self.gatekeeper.admit(proposal, lease, wake)
                    if isinstance(admitted, Ended):
                        return _credit(attempts, admitted)
                    await self._act(TierRequest.from_step(journal, bot, tier, admitted, timeouts[tier]))
                case Settle(tier):
                    log.warning("tier in doubt", run=run.id, bot=bot.name, tier=tier)
                    request = TierRequest.from_step(journal, bot, tier, _step(steps, tier), timeouts[tier])
                    await self._act(request, in_doubt=True)
                case Verify(tier, deadline):
                    request = TierRequest.from_step(journal, bot, tier, _step(steps, tier), timeouts[tier])
                    wake.clear()
                    if unseen := await self._verify(request, deadline):
                        if reason := await self._hold(request, _step(steps, tier), unseen):
                            return Ended("cancelled", reason)
                        await wait_for(wake, self.settings.gate_interval)
            async with self.store_slots, self.store.read() as tx:
                steps, registered = await tx.steps(run.id), await tx.bot(run.bot)
            if registered is None:
                return Ended("cancelled", "the bot is no longer in the registry")
            bot = registered

    async def _act(self, request: TierRequest, *, in_doubt: bool = False) -> None:
        """Carry the tier out, or settle it where it may have been carried out; write down what came of it."""
        journal, tier, action = request.journal, request.tier, ACTIONS[request.tier]
        outcome = await journal.attempt(
            lambda _: (action.settle if in_doubt else action.do)(self.actuators, request),
            lambda _: action.settle(self.actuators, request),
            {},
            deadline=request.deadline,
        )
        await journal.finish(tier, outcome, "acted")
        if isinstance(outcome, Failed):
            self.metrics.attempts.labels(tier, "failed").inc()
            log.warning(
                "tier failed", run=journal.run.id, bot=request.bot.name, tier=tier, why=outcome.reason
            )

    async def _hold(self, request: TierRequest, step: Step, unseen: str) -> str:
        """Write down once why there is no verdict; return who wants the run to end, and why, or ""."""
        run_id = request.journal.run.id
        async with self.store_slots, self.store.write_as(request.journal.lease) as tx:
            if step.detail != unseen:
                await tx.change_step(run_id, step.name, detail=unseen)
                log.warning("tier not verified", run=run_id, tier=request.tier, why=unseen)
            run = await tx.run(run_id)
        return (run.cancel or "") if run is not None else ""

    async def _verify(self, request: TierRequest, deadline: float) -> str:
        """Probe the bot until it is well for good or `deadline` (Unix time); write down what came of it.

        Return "", or the fault of ours that keeps us from looking: then there is no verdict.
        """
        run_id, bot, tier = request.journal.run.id, request.bot, request.tier
        async with self.store_slots, self.store.read() as tx:
            symptoms = symptoms_of(await tx.alerts_of(run_id))

        async def reject(observation: Observation) -> str | None:
            unchanged = ACTIONS[tier].reject(request, observation)
            return unchanged or await self._still_shown(request, symptoms, observation)

        cured, observation = await self.actuators.prober.verify(
            bot.target(), deadline - self.store.clock(), reject, window=self.settings.stability_window
        )
        outcome, detail = "cured" if cured else "not_cured", observation.detail
        if observation.own_fault:
            return detail
        async with self.store.write_as(request.journal.lease) as tx:
            await tx.change_step(run_id, tier, state=outcome, detail=detail, finished_at=tx.now)
            await tx.audit(f"tier.{outcome}", bot=bot.name, run_id=run_id, tier=tier, seen=detail)
            if cured:
                boot = {"boot_id": observation.boot_id, "started_at": observation.started_at}
                await tx.change_bot(bot.name, **boot)
        self.metrics.attempts.labels(tier, outcome).inc()
        log.info("tier verified", run=run_id, bot=bot.name, tier=tier, outcome=outcome, seen=detail)
        return ""

    async def _still_shown(
        self, request: TierRequest, symptoms: frozenset[Symptom], observation: Observation
    ) -> str | None:
        """Return why the bot is not well by the signal that began the run; None where it is."""
        bot, settings = request.bot.name, self.settings
        queues = await self.queue_watch.look(bot, QUEUE_AGE) if "deaf" in symptoms else {}
        evidence = Evidence(observation, settings.turn_limit, queues, waited=request.waited)
        return problem(symptoms, evidence) or None


def _waited(steps: Sequence[Step]) -> Mapping[str, int] | None:
    """Return how many updates waited at each channel before the last tier; None before any."""
    tiers = [step for step in steps if step.name in TIERS]
    return tiers[-1].request.get("waited") if tiers else None


def _step(steps: Sequence[Step], tier: Tier) -> Step:
    return next(step for step in steps if step.name == tier)


def _credit(attempts: Sequence[Attempt], ended: Ended) -> Ended:
    """Call a bot that became healthy before the next tier recovered, by the tiers that were tried."""
    if ended.outcome != "unneeded" or not attempts:
        return ended
    last = attempts[-1]
    failed = f", which failed: {last.detail}" if last.state == "failed" else ""
    return Ended("recovered", f"healthy after {last.tier}{failed}")
