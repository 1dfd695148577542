"""One recovery: the ladder says what comes next, the gates whether it may, the prober whether it helped."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

import structlog

from remediator import ladder
from remediator.actions import ACTIONS, Action, Hands
from remediator.gates import (
    LONGEST_ROUND,
    Effect,
    Fleet,
    Limits,
    Situation,
    Storm,
    Verdict,
    decisive,
    judge,
    rounds,
    weather,
)
from remediator.journal import Failed, Journal
from remediator.ladder import TIERS, Attempt, Finish, Settle, Try, Verify
from remediator.lease import Lease
from remediator.logs import Sparing
from remediator.metrics import Metrics
from remediator.model import Bot, Ended, Hold, Run, Step, Tier
from remediator.modes import mode_for
from remediator.prober import Look
from remediator.rounds import repeat, until_woken
from remediator.settings import Settings
from remediator.sight import Sight, blind_replicas
from remediator.store import Store
from remediator.transaction import Transaction
from remediator.words import approval_wanted, blindness

log = structlog.get_logger()

DAY: Final = 86400.0
LOOKS_AT_ONCE: Final = 100  # by runs at their gates; each may take as long as a probe
TURNS_AT_ONCE: Final = 4  # of them in the store
LOOKS_OF_SILENCE: Final = 3  # that a replica may miss until what it could not see counts no more


@dataclass(frozen=True, slots=True)
class Around:
    """What was seen just before the gates are asked."""

    look: Look
    fleet: Fleet
    blind: str
    silences: list[Mapping[str, object]]


@dataclass
class _Told:
    """What a run at its gates was told last, so that only news is written down."""

    verdicts: list[tuple[str, Effect]] = field(default_factory=list)
    gate: str = ""
    reason: str = ""
    rounds: int = 1  # until it asks again


@dataclass
class Recovery:
    store: Store
    hands: Hands
    sight: Sight
    metrics: Metrics
    settings: Settings
    storm: Storm = field(default_factory=Storm)  # as last seen
    # A thousand runs that ask at once take turns, so that an alert or a person need not wait for all of them.
    _looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOOKS_AT_ONCE))
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TURNS_AT_ONCE))
    _lines: Sparing = field(default_factory=Sparing)

    @property
    def limits(self) -> Limits:
        settings = self.settings
        return Limits(
            fleet_max_ratio=settings.fleet_max_unhealthy_ratio,
            fleet_min_unhealthy=settings.fleet_min_unhealthy,
            storm_cooldown=settings.storm_cooldown,
            dependency_min=settings.dependency_min,
            max_in_flight=settings.max_in_flight,
            max_per_template=settings.max_in_flight_per_template or settings.max_in_flight,
            max_per_zone=settings.max_in_flight_per_zone or settings.max_in_flight,
            burst=settings.actions_burst,
            refill=settings.actions_refill,
            max_attempts=settings.max_attempts,
        )

    @property
    def _timeouts(self) -> Mapping[Tier, float]:
        settings = self.settings
        return {
            "restart": settings.restart_timeout,
            "reboot": settings.reboot_timeout,
            "redeploy": settings.redeploy_timeout,
        }

    async def run(self, run: Run, _bot: Bot, lease: Lease, wake: asyncio.Event) -> Ended:
        """Drive the run to its end, from wherever its steps say it is."""
        while True:
            async with self._turns, self.store.read() as tx:
                steps = await tx.steps(run.id)
                bot = await tx.bot(run.bot)
            if bot is None:
                return Ended("cancelled", "the bot is no longer in the registry")
            for step in steps:
                if step.state == "shadowed":  # written down before a crash, which kept the run from its end
                    return Ended("shadowed", step.detail)
            tried = attempts(steps)
            match ladder.next_move(tried, first_tier(run), self._timeouts):
                case Finish(outcome, why):
                    return Ended(outcome, why)
                case Try(tier):
                    ended = await self._pass_gates(run, bot, tier, lease, wake, climbing=bool(tried))
                    if ended is not None and ended.outcome == "unneeded" and tried:
                        last = tried[-1]
                        failed = f", which failed: {last.why}" if last.state == "failed" else ""
                        return Ended("recovered", f"healthy after {last.tier}{failed}")
                    if ended is not None:
                        return ended
                    await self._act(run, bot, tier, lease, settle=False)
                case Settle(tier):
                    log.warning("tier in doubt", run=run.id, bot=bot.name, tier=tier)
                    await self._act(run, bot, tier, lease, settle=True)
                case Verify(tier, deadline):
                    await self._verify(run, bot, tier, lease, deadline)

    # the gates

    async def _pass_gates(
        self, run: Run, bot: Bot, tier: Tier, lease: Lease, wake: asyncio.Event, *, climbing: bool
    ) -> Ended | None:
        """Hold until every gate opens, then write the intent; or say why nothing is left to do."""
        told = _Told()
        while True:
            wake.clear()
            stop = await self._ask(run, bot, tier, lease, told, climbing=climbing)
            if not isinstance(stop, Verdict):
                return stop
            if stop.gate != told.gate:
                self.metrics.blocked.labels(stop.gate).inc()
                if self._lines.allow(f"run held by {stop.gate}", self.store.clock()):
                    log.warning("run held", run=run.id, bot=bot.name, tier=tier, gate=stop.gate, why=stop.why)
            told.gate = stop.gate
            await until_woken(wake, self.settings.gate_interval * told.rounds)

    async def _ask(
        self, run: Run, bot: Bot, tier: Tier, lease: Lease, told: "_Told", *, climbing: bool
    ) -> Ended | Verdict | None:
        """Ask every gate once: the end of it, what holds it back, or None where the tier may begin."""
        async with self._looks:
            around = await self._look_around(bot)
        # Caps are read where the intent they allow is written: two runs cannot both take the last place.
        async with self._turns, self.store.hold(lease) as tx:
            situation = await self._situation(tx, run, bot, tier, around, climbing=climbing)
            verdicts = judge(situation, self.limits)
            stop = decisive(verdicts)
            effects = [(verdict.gate, verdict.effect) for verdict in verdicts]
            if effects != told.verdicts:
                told.verdicts = effects
                await tx.add_verdicts(run.id, tier, verdicts)
            if stop is None and situation.mode == "shadow" and run.trigger == "alert":
                return await self._shadow(tx, run, bot, tier, around.look)
            if stop is None:
                await self._intend(tx, run, bot, tier, around.look)
                return None
            if stop.effect is Effect.end:
                return _ended(stop)
            if stop.effect is Effect.escalate:
                return Ended("escalated", stop.why)
            await self._wait(tx, run, tier, stop, told)
            if stop.gate == "mode" and situation.approval is None:
                await self._ask_approval(tx, run, tier, around.look)
            told.rounds = rounds(situation, self.limits) if stop.gate in ("in_flight", "rate") else 1
            return stop

    async def _look_around(self, bot: Bot) -> Around:
        look, fleet, blind, silences = await asyncio.gather(
            self.hands.prober.look(bot.target()),
            self._census(),
            self.sight.blind(),
            self.sight.silences(),
        )
        return Around(look, fleet, blind, silences)

    async def _situation(
        self, tx: Transaction, run: Run, bot: Bot, tier: Tier, around: Around, *, climbing: bool
    ) -> Situation:
        now = tx.now
        asked_by = await tx.alerts_of(run.id)
        fresh = await tx.run(run.id)
        labels = [alert.labels for alert in asked_by] or [{"bot": bot.name, "template": bot.template}]
        await self._tell_of_blindness(tx, around.blind)
        return Situation(
            now=now,
            tier=tier,
            bot=bot,
            trigger=run.trigger,
            climbing=climbing,
            bot_healthy=around.look.healthy,
            bot_seen=around.look.seen,
            alerts_firing=any(alert.status == "firing" for alert in asked_by),
            cancel=fresh.cancel if fresh is not None else None,
            holds=[_said(hold) for hold in await tx.holds() if hold.covers(bot, now)],
            silenced=self.sight.silenced_by(around.silences, labels),
            blind=around.blind,
            fleet=around.fleet,
            storm=await self._weather(tx, around.fleet),
            in_flight=await tx.in_flight(TIERS, run.id),
            ahead=await tx.ahead(run),
            # A bucket that is never full for long is emptied by what was begun long ago.
            intents=await tx.intents(TIERS, now - DAY),
            attempts=await tx.attempts_of(bot.name, TIERS, max(now - DAY, bot.attempts_from)),
            mode=mode_for(self.settings.modes, bot.environment, tier),
            approval=await tx.approval(run.id, tier),
        )

    async def _wait(self, tx: Transaction, run: Run, tier: Tier, stop: Verdict, told: "_Told") -> None:
        reason = f"{stop.gate}: {stop.why}"
        if reason != told.reason:
            told.reason = reason
            await tx.change_run(run.id, status="blocked", reason=reason)
        if stop.gate != told.gate:
            await tx.audit("gate.held", bot=run.bot, run_id=run.id, tier=tier, gate=stop.gate, why=stop.why)

    async def _ask_approval(self, tx: Transaction, run: Run, tier: Tier, look: Look) -> None:
        expires_at = tx.now + self.settings.approval_timeout
        await tx.ask_approval(run.id, tier, expires_at)
        await tx.notify(run.id, approval_wanted(run, tier, look.seen, self.settings.approval_timeout))
        await tx.audit("approval.asked", bot=run.bot, run_id=run.id, tier=tier, expires_at=expires_at)

    async def _intend(self, tx: Transaction, run: Run, bot: Bot, tier: Tier, look: Look) -> None:
        await tx.intend(run.id, tier, _request(run, bot, tier, look))
        await tx.change_run(run.id, status="running", tier=tier, reason=f"{tier} under way")
        await tx.audit("tier.intended", bot=bot.name, run_id=run.id, tier=tier, instance=bot.instance_id)
        log.info("tier begins", run=run.id, bot=bot.name, tier=tier, instance=bot.instance_id)

    async def _shadow(self, tx: Transaction, run: Run, bot: Bot, tier: Tier, look: Look) -> Ended:
        """Write down exactly what `auto` would have done now. What would have come of it nobody can say."""
        request = _request(run, bot, tier, look)
        await tx.intend(run.id, tier, request)
        why = f"would have done: {tier} of {bot.instance_id or 'a bot without an instance'}"
        await tx.change_step(run.id, tier, state="shadowed", detail=why, finished_at=tx.now)
        await tx.audit("tier.shadowed", bot=bot.name, run_id=run.id, tier=tier, request=request)
        return Ended("shadowed", why)

    # the fleet and the weather

    async def _census(self) -> Fleet:
        async def registry(most: int) -> tuple[int, list[Bot]]:
            async with self.store.read() as tx:
                return await tx.fleet(most)

        fleet = await self.hands.prober.census(registry)
        self.metrics.fleet_ratio.set(fleet.ratio)
        return fleet

    async def _weather(self, tx: Transaction, fleet: Fleet) -> Storm:
        """The storm as all replicas know it, after this look at the fleet."""
        before = Storm.of(await tx.fact("storm"))
        self.storm = weather(before, fleet, tx.now, self.limits)
        if self.storm != before:
            await tx.set_fact("storm", asdict(self.storm))
        if self.storm.active != before.active:
            event = "storm.began" if self.storm.active else "storm.over"
            await tx.audit(event, unhealthy=fleet.unhealthy, probed=fleet.probed)
            log.warning(event, unhealthy=fleet.unhealthy, probed=fleet.probed)
        self.metrics.storm.set(self.storm.active)
        return self.storm

    async def _tell_of_blindness(self, tx: Transaction, blind: str) -> None:
        """One message when a replica stops to see, one when all see again, however many runs wait."""
        told = await tx.fact("blind")
        before = told if isinstance(told, dict) else {}
        patience = LOOKS_OF_SILENCE * LONGEST_ROUND * self.settings.gate_interval
        replica = "" if self.store.alone else self.store.replica  # the one before it was this one too
        after = blind_replicas(before, replica, blind, tx.now, patience)
        if after == before:
            return
        await tx.set_fact("blind", after)
        if bool(after) != bool(before):
            why = next(iter((after or before).values()))["why"]
            await tx.notify("", blindness(why if after else ""))
            await tx.audit("sight.lost" if after else "sight.back", why=why)

    async def watch_storm(self) -> None:
        """While a storm is on, look again, so that its end is seen though no run asks.

        Also one that another replica saw, or this one in an earlier life.
        """
        await repeat(self._watch_storm, self.settings.gate_interval, "the look at the fleet failed")

    async def _watch_storm(self) -> None:
        async with self.store.read() as tx:
            storm = Storm.of(await tx.fact("storm"))
        if storm.active:
            fleet = await self._census()
            async with self.store.write() as tx:
                await self._weather(tx, fleet)

    # a tier

    async def _act(self, run: Run, bot: Bot, tier: Tier, lease: Lease, *, settle: bool) -> None:
        journal = Journal(self.store, run, lease)
        step = (await journal.steps())[tier]
        action = Action(self.hands, journal, bot, step.request, step.intended_at, self._timeouts[tier])
        how = ACTIONS[tier]
        outcome = await journal.attempt(
            lambda _: (how.settle if settle else how.do)(action),
            lambda _: how.settle(action),
            step.request,
            deadline=action.deadline,
        )
        await journal.finish(tier, outcome, "acted")
        if isinstance(outcome, Failed):
            self.metrics.attempts.labels(tier, "failed").inc()
            log.warning("tier failed", run=run.id, bot=bot.name, tier=tier, why=outcome.why)

    async def _verify(self, run: Run, bot: Bot, tier: Tier, lease: Lease, deadline: float) -> None:
        before = (await Journal(self.store, run, lease).steps())[tier].request
        cured, look = await self.hands.prober.verify(
            bot.target(),
            deadline - self.store.clock(),
            lambda look: ACTIONS[tier].doubt(before, look),
            window=self.settings.stability_window,
        )
        outcome = "cured" if cured else "not_cured"
        async with self.store.hold(lease) as tx:
            await tx.change_step(run.id, tier, state=outcome, detail=look.seen, finished_at=tx.now)
            await tx.audit(f"tier.{outcome}", bot=bot.name, run_id=run.id, tier=tier, seen=look.seen)
            if cured:
                await tx.change_bot(bot.name, boot_id=look.boot_id, started_at=look.started_at)
        self.metrics.attempts.labels(tier, outcome).inc()
        log.info("tier verified", run=run.id, bot=bot.name, tier=tier, outcome=outcome, seen=look.seen)


def _request(run: Run, bot: Bot, tier: Tier, look: Look) -> dict[str, str | None]:
    """What is written down before a tier: the instance, and how it boots as far as that is known."""
    return {
        "instance_id": bot.instance_id,
        "comment": f"{run.id} {tier}",
        "boot_id": look.boot_id or bot.boot_id,
        "started_at": look.started_at or bot.started_at,
    }


def _ended(stop: Verdict) -> Ended:
    match stop.gate:
        case "healthy":
            return Ended("unneeded", stop.why)
        case "cancelled":
            return Ended("cancelled", stop.why)
        case _:
            return Ended("resolved", stop.why)


def _said(hold: Hold) -> str:
    what = "paused" if hold.ends_at is None else "maintenance"
    scope = hold.scope if hold.scope == "fleet" else f"{hold.scope} {hold.name}"
    return f"{what} of the {scope} by {hold.actor}: {hold.reason}"


def first_tier(run: Run) -> Tier:
    return run.method if run.method in TIERS else TIERS[0]


def attempts(steps: list[Step]) -> list[Attempt]:
    """The tiers among a run's steps, as the ladder wants them."""
    return [
        Attempt(tier, step.state, step.acted_at, step.detail, bool(step.result.get("denied")))
        for step in steps
        for tier in TIERS
        if step.name == tier and step.state not in ("done", "shadowed")
    ]
