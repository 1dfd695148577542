"""Holds a run until every gate opens for its next tier: observe, record, judge, and write the intent.

Called by `recovery.Recovery` before each tier. Every replica asks its own runs' gates; what they share is
in the store.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from remediator.logs import LogLimiter
from remediator.metrics import Metrics
from remediator.model import TIERS, Bot, Effect, Ended, Step, Symptom, Verdict
from remediator.modes import mode_for
from remediator.monitoring.alertmanager import Alertmanager
from remediator.monitoring.prober import Prober
from remediator.notifications.messages import approval_wanted
from remediator.periodic import wait_for
from remediator.recovery.gates import (
    Observations,
    Proposal,
    Records,
    decisive,
    judge,
    recheck_after,
    situation_of,
)
from remediator.recovery.monitoring_status import MonitoringStatus
from remediator.recovery.queue_watch import QueueWatch, last_report
from remediator.recovery.storm import Storm
from remediator.recovery.storm_watch import StormWatch, read_dependencies
from remediator.recovery.symptoms import Queues, symptoms_of
from remediator.settings import Settings
from remediator.store.lease import Lease
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from remediator.timestamps import DAY

log = structlog.get_logger()

OBSERVED_AT_ONCE: Final = 100  # bots of runs at their gates; each may take as long as a probe
IN_STORE_AT_ONCE: Final = 4  # runs
QUEUE_AGE: Final = 60.0  # seconds for which a run at its gates uses what a channel said of the queue


class RecoveryObserver(Protocol):
    """Watches recoveries from outside, as a simulation does."""

    def observed(self, bot: Bot, observations: Observations) -> None:
        """Take note of what was observed just before the bot's gates are asked."""


class Unobserved:
    """The observer of recoveries that nobody watches."""

    def observed(self, bot: Bot, observations: Observations) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Held:
    """A tier that may not begin yet: the gate that holds it back, and seconds until it is asked again."""

    stop: Verdict
    recheck_after: float


@dataclass
class LastReported:
    """What was last written down about a run at its gates, so that only news is."""

    verdicts: list[tuple[str, Effect]] = field(default_factory=list)
    gate: str = ""
    reason: str = ""
    symptoms: frozenset[Symptom] = frozenset()


@dataclass
class Gatekeeper:
    """Lets a tier begin, or holds it back."""

    store: Store
    prober: Prober
    alertmanager: Alertmanager
    monitoring: MonitoringStatus
    storm_watch: StormWatch
    queue_watch: QueueWatch
    metrics: Metrics
    settings: Settings
    observer: RecoveryObserver = field(default_factory=Unobserved)
    # Of a thousand runs that ask at once, most wait here: an alert or a person need not wait for them.
    store_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_STORE_AT_ONCE))
    _probe_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(OBSERVED_AT_ONCE))
    _lines: LogLimiter = field(default_factory=LogLimiter)

    async def admit(self, proposal: Proposal, lease: Lease, wake: asyncio.Event) -> Step | Ended:
        """Hold the run until every gate opens. Return the tier's step, which is on disk as intended; or how
        the run ended, where there is nothing left to do.
        """
        async with self.store_slots, self.store.read() as tx:
            reported = LastReported(symptoms=symptoms_of(await tx.alerts_of(proposal.run.id)))
        while True:
            wake.clear()
            async with self._probe_slots:
                observations = await self.observe(proposal.bot, reported.symptoms)
            # Caps are read where the intent they allow is written: two runs cannot both take the last slot.
            async with self.store_slots, self.store.write_as(lease) as tx:
                answer = await self._ask(tx, proposal, observations, reported)
            if not isinstance(answer, Held):
                return answer
            self._report(proposal, answer.stop, reported)
            await wait_for(wake, answer.recheck_after)

    async def observe(self, bot: Bot, symptoms: frozenset[Symptom]) -> Observations:
        """Probe the bot and the fleet, and ask Prometheus and Alertmanager, side by side; the channels, too,
        of a bot that is said to be deaf.
        """
        observations = Observations(
            *await asyncio.gather(
                self.prober.probe_once(bot.target()),
                self.storm_watch.census.take(),
                self.monitoring.problem(),
                self.alertmanager.silences(),
                self._queues(bot, symptoms),
            )
        )
        self.observer.observed(bot, observations)
        return observations

    async def _queues(self, bot: Bot, symptoms: frozenset[Symptom]) -> Queues:
        return await self.queue_watch.look(bot.name, QUEUE_AGE) if "deaf" in symptoms else {}

    async def _ask(
        self, tx: Transaction, proposal: Proposal, observations: Observations, reported: LastReported
    ) -> Step | Ended | Held:
        """Ask every gate once, and write down what comes of it."""
        storm = await self.record(tx, observations)
        records = await self._records(tx, proposal, storm)
        reported.symptoms = symptoms_of(records.alerts)
        mode = mode_for(self.settings.modes, proposal.bot.environment, proposal.tier)
        situation = situation_of(proposal, observations, records, mode, self.settings.turn_limit)
        limits = self.storm_watch.limits
        verdicts = judge(situation, limits)
        effects = [(verdict.gate, verdict.effect) for verdict in verdicts]
        if effects != reported.verdicts:
            reported.verdicts = effects
            await tx.add_verdicts(proposal.run.id, proposal.tier, verdicts)
        stop = decisive(verdicts)
        if stop is None and mode == "shadow" and proposal.run.trigger == "alert":
            return await self._shadow(tx, proposal, observations)
        if stop is None:
            return await self._intend(tx, proposal, observations)
        if stop.effect is not Effect.hold:
            return _ended(stop)
        await self._hold(tx, proposal, stop, reported)
        if stop.gate == "mode" and situation.approval is None:
            await self._ask_approval(tx, proposal, situation.bot_detail)
        return Held(stop, recheck_after(stop, situation, limits, self.settings.gate_interval))

    async def record(self, tx: Transaction, observations: Observations) -> Storm:
        """Write down what the observations change for the whole fleet, and tell people; return the storm."""
        await self.monitoring.record(tx, observations.monitoring_problem)
        return await self.storm_watch.record(tx, observations.fleet)

    async def _records(self, tx: Transaction, proposal: Proposal, storm: Storm) -> Records:
        run, bot, now = proposal.run, proposal.bot, tx.now
        return Records(
            now=now,
            run=await tx.run(run.id),
            alerts=await tx.alerts_of(run.id),
            holds=await tx.holds(),
            storm=storm,
            in_flight=await tx.in_flight(TIERS, run.id),
            queue_position=await tx.queue_position(run),
            # A bucket that is never full for long is emptied by what was begun long ago.
            intents=await tx.intents(TIERS, now - DAY),
            attempts=await tx.attempts_of(bot.name, TIERS, max(now - DAY, bot.attempts_from)),
            approval=await tx.approval(run.id, proposal.tier),
            dependencies=await read_dependencies(tx),
            queues=(await last_report(tx)).get(bot.name, {}) if run.trigger == "alert" else {},
        )

    async def _hold(self, tx: Transaction, proposal: Proposal, stop: Verdict, reported: LastReported) -> None:
        run = proposal.run
        reason = f"{stop.gate}: {stop.reason}"
        if reason != reported.reason:
            reported.reason = reason
            await tx.change_run(run.id, status="blocked", reason=reason)
        if stop.gate != reported.gate:
            await tx.audit(
                "gate.held", bot=run.bot, run_id=run.id, tier=proposal.tier, gate=stop.gate, why=stop.reason
            )

    def _report(self, proposal: Proposal, stop: Verdict, reported: LastReported) -> None:
        """Count and log it, once that is committed, where another gate holds the run than before."""
        if stop.gate == reported.gate:
            return
        reported.gate = stop.gate
        self.metrics.blocked.labels(stop.gate).inc()
        if self._lines.allow(f"run held by {stop.gate}", self.store.clock()):
            run, tier = proposal.run, proposal.tier
            log.warning("run held", run=run.id, bot=run.bot, tier=tier, gate=stop.gate, why=stop.reason)

    async def _ask_approval(self, tx: Transaction, proposal: Proposal, illness: str) -> None:
        run, tier, timeout = proposal.run, proposal.tier, self.settings.approval_timeout
        expires_at = tx.now + timeout
        await tx.ask_approval(run.id, tier, expires_at)
        await tx.notify(run.id, approval_wanted(run, tier, illness, timeout))
        await tx.audit("approval.asked", bot=run.bot, run_id=run.id, tier=tier, expires_at=expires_at)

    async def _intend(self, tx: Transaction, proposal: Proposal, observations: Observations) -> Step:
        run, bot, tier = proposal.run, proposal.bot, proposal.tier
        await tx.add_step(run.id, tier, _before(bot, observations))
        await tx.change_run(run.id, status="running", tier=tier, reason=f"{tier} under way")
        await tx.audit("tier.intended", bot=bot.name, run_id=run.id, tier=tier, instance=bot.instance_id)
        log.info("tier begins", run=run.id, bot=bot.name, tier=tier, instance=bot.instance_id)
        return (await tx.steps(run.id))[-1]

    async def _shadow(self, tx: Transaction, proposal: Proposal, observations: Observations) -> Ended:
        """Write down exactly what `auto` would have done now. What would have come of it nobody can say."""
        run, bot, tier = proposal.run, proposal.bot, proposal.tier
        request = _before(bot, observations)
        await tx.add_step(run.id, tier, request)
        detail = f"would have done: {tier} of {bot.instance_id or 'a bot without an instance'}"
        await tx.change_step(run.id, tier, state="shadowed", detail=detail, finished_at=tx.now)
        await tx.audit("tier.shadowed", bot=bot.name, run_id=run.id, tier=tier, request=request)
        return Ended("shadowed", detail)


def _before(bot: Bot, observations: Observations) -> dict[str, Any]:
    """Return the request of a tier's step: the instance, how it booted as far as that is known, and what
    waits for a deaf bot.
    """
    observation = observations.bot
    request: dict[str, Any] = {
        "instance_id": bot.instance_id,
        "boot_id": observation.boot_id or bot.boot_id,
        "started_at": observation.started_at or bot.started_at,
    }
    waiting = _waiting(observations.queues)
    return {**request, "waited": waiting} if waiting else request


def _waiting(queues: Queues) -> Mapping[str, int]:
    return {channel: answer.pending for channel, answer in queues.items() if answer.pending is not None}


def _ended(stop: Verdict) -> Ended:
    if stop.effect is Effect.escalate:
        return Ended("escalated", stop.reason)
    match stop.gate:
        case "healthy":
            return Ended("unneeded", stop.reason)
        case "cancelled":
            return Ended("cancelled", stop.reason)
        case _:
            return Ended("resolved", stop.reason)
