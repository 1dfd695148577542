"""What must hold after every event, written once more, independently of the code that makes it so."""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from remediator.model import TIERS, Bot, Run, Step, Tier
from remediator.modes import mode_for
from remediator.recovery.gates import Observations
from remediator.settings import Settings
from remediator.store import audit
from remediator.store.errors import ConflictError, StoreError
from remediator.timestamps import DAY
from sandbox.simulator.memory_store import MemoryDatabase
from sandbox.simulator.memory_tables import Tables
from sandbox.simulator.memory_transaction import MemoryTransaction
from sandbox.simulator.scaling_oracle import ScalingOracle
from sandbox.simulator.virtual_clock import EPOCH
from sandbox.simulator.world import World

TRACE: Final = 25  # events told with a violation
LIVE: Final = ("intended", "acted")
STEP_OF: Final = {"stop": "stopped"}  # where it is not called as the effect is


@dataclass
class Oracle:
    """Watches what is committed, observed and done in a world, and keeps the first violation."""

    time: Callable[[], float]
    settings: Settings
    world: World
    database: MemoryDatabase
    events: int = 0
    violation: str = ""
    scaling: ScalingOracle | None = None
    first_decision: tuple[float, str, str] | None = None  # of an alert's run: when, bot, tier
    trace: "deque[str]" = field(default_factory=lambda: deque(maxlen=TRACE))
    print_trace: bool = False
    _observations: dict[str, Observations] = field(default_factory=dict)  # of a bot, before its gates
    _effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    _bucket: tuple[float, float] | None = None  # level, when

    def note(self, event: str) -> None:
        """Add the event to the trace."""
        self.events += 1
        line = f"{self.events:6} {self.time():9.3f}  {event}"
        self.trace.append(line)
        if self.print_trace:
            print(line)

    def violated(self, violation: str) -> None:
        """Keep the violation, if it is the first."""
        if not self.violation:
            self.note(f"VIOLATION: {violation}")
            self.violation = violation

    def _must(self, condition: bool, violation: str) -> None:
        if not condition:
            self.violated(violation)

    # production's observer

    def observed(self, bot: Bot, observations: Observations) -> None:
        """Keep what a run has just seen, to hold its next tier against it."""
        self._observations[bot.name] = observations

    def failed(self, run_id: str, error: Exception) -> None:
        """Call every error a violation but those of a store that is away."""
        if isinstance(error, ConflictError):
            self.violated(f"{run_id} writes what is there already: {error}")
        elif not isinstance(error, StoreError):
            self.violated(f"a fault of our own in {run_id}: {error!r}")

    # the store

    def committed(self, tx: MemoryTransaction) -> None:
        """Check what a transaction has written."""
        before, after = tx.before, tx.tables
        for entry in tx.entries:
            self.note(f"{entry.event} {entry.bot} {entry.run_id} {dict(entry.detail)}")
        if not tx.entries:
            self.events += 1
        if after.runs is not before.runs:
            for run_id, run in after.runs.items():
                if run_id not in before.runs:
                    self._check_begun(tx, run)
        if after.steps is not before.steps:
            for run_id, steps in after.steps.items():
                if steps is not before.steps.get(run_id):
                    for name in steps.keys() - before.steps.get(run_id, {}).keys() & set(TIERS):
                        self._check_tier(tx, after.runs[run_id], steps[name])
        if after.bots is not before.bots:
            self._check_quarantines(tx)
        if self.scaling is not None:
            self.scaling.committed(tx)

    def _check_begun(self, tx: MemoryTransaction, run: Run) -> None:
        """Check that a bot has one run, and that what a run has dealt with begins no other for a while."""
        runs = tx.tables.runs.values()
        active = [other.id for other in runs if other.bot == run.bot and other.finished_at is None]
        self._must(active in ([run.id], []), f"{run.bot} is in the hands of {active}")
        episodes = [episode for episode, alert in tx.tables.alerts.items() if alert.run_id == run.id]
        earlier = [tx.before.alerts.get(episode) for episode in episodes]
        for alert in earlier:
            if any(other is None or other.run_id is None for other in earlier) or alert is None:
                return  # another alert began it
            old = tx.before.runs[str(alert.run_id)]
            since = tx.now - (old.finished_at or tx.now)
            dealt_with = old.status not in ("resolved", "cancelled") and since < self.settings.relapse_after
            self._must(not dealt_with, f"{run.id}: {old.id} had dealt with that episode {since:.0f} s ago")

    def _check_quarantines(self, tx: MemoryTransaction) -> None:
        for name, bot in tx.tables.bots.items():
            before = tx.before.bots.get(name)
            if before is None or before.quarantined_at is None or bot.quarantined_at is not None:
                continue
            by_hand = any(
                entry.event == "quarantine.cleared"
                or (entry.event == "run.recovered" and tx.tables.runs[entry.run_id].trigger == "manual")
                for entry in tx.entries
            )
            self._must(by_hand, f"{name} left quarantine without a person")

    def _check_tier(self, tx: MemoryTransaction, run: Run, step: Step) -> None:
        tier, steps = cast(Tier, step.name), tx.tables.steps[run.id]
        tried = [name for name in steps if name in TIERS]
        first = TIERS.index(run.method) if run.method in TIERS else 0
        self._must(
            tried == list(TIERS[first : first + len(tried)]), f"{run.id} skips or repeats a tier: {tried}"
        )
        mode = mode_for(self.settings.modes, tx.tables.bots[run.bot].environment, tier)
        if run.trigger == "alert":
            self.first_decision = self.first_decision or (round(self.time(), 6), run.bot, tier)
            self._check_gates(tx, run, tier, mode)
        if step.state == "shadowed":
            self._must(mode == "shadow", f"{run.id} was shadowed in mode {mode}")
            return
        self._must(run.trigger == "manual" or mode != "shadow", f"{run.id}: {tier} was done in shadow mode")
        self._check_rate(tx.now)
        self._check_caps(tx.tables, tx.tables.bots[run.bot])

    def _check_gates(self, tx: MemoryTransaction, run: Run, tier: Tier, mode: str) -> None:
        """Check that what the run itself observed just before did not keep it from acting."""
        tables, bot = tx.tables, tx.tables.bots[run.bot]

        def must(condition: bool, violation: str) -> None:
            self._must(condition, f"{run.id}: {tier} of {run.bot} begun though {violation}")

        observations = self._observations.get(run.bot)
        if observations is None:
            must(False, "nobody looked")
            return
        self._check_symptoms(tx, run, observations, must)
        must(not observations.monitoring_problem, f"blind: {observations.monitoring_problem}")
        self._check_fleet(observations, must)
        storm = tables.facts.get("storm") or {}
        must(not storm.get("active"), "there was a storm")
        reasons = [hold.reason for hold in tables.holds.values() if hold.covers(bot, tx.now)]
        must(not reasons, f"it was paused: {reasons}")
        must(run.cancel is None, "its end was asked for")
        alerts = [alert for alert in tables.alerts.values() if alert.run_id == run.id]
        must(any(alert.status == "firing" for alert in alerts), "every alert was resolved")
        silenced = any(
            matcher["value"] == alert.labels.get(matcher["name"])
            for silence in observations.silences.active
            for matcher in cast(list[dict[str, str]], silence["matchers"])
            for alert in alerts
        )
        must(not silenced, "it was silenced")
        must(bot.quarantined_at is None, "it was in quarantine")
        earlier = self._attempts(tables, bot, tx.now)
        must(earlier <= self.settings.max_attempts, f"{earlier - 1} attempts had been made")
        if mode == "approve":
            approval = tables.approvals.get((run.id, tier))
            must(approval is not None and approval.decision == "yes", "nobody had approved")

    def _check_symptoms(
        self,
        tx: MemoryTransaction,
        run: Run,
        observations: Observations,
        must: Callable[[bool, str], None],
    ) -> None:
        """Check that the bot showed what an alert said of it, and that not too many showed the same."""
        alerts = [alert for alert in tx.tables.alerts.values() if alert.run_id == run.id]
        symptoms = {alert.labels.get("symptom", "down") for alert in alerts if alert.status == "firing"}
        bot, work = observations.bot, observations.bot.work
        signs = {
            "deaf": not all((work.channels or {}).values()),
            "mute": (work.failed or {}).get("other", 0) > 0,
            "stuck": (work.turn_age or 0) > self.settings.turn_limit,
        }
        must(
            not bot.healthy or any(signs.get(symptom) for symptom in symptoms),
            f"it showed nothing of {symptoms}",
        )
        for_work = [symptom for symptom in symptoms if symptom != "down"]
        entries = observations.fleet.entries
        many = []
        for symptom in for_work:
            telling = [entry for entry in entries if symptom in entry.tells]
            set_aside = sum(entry.quarantined and symptom in entry.shows for entry in telling)
            showing = sum(symptom in entry.shows for entry in telling) - set_aside
            many.append(showing > self._most(len(telling) - set_aside))
        must(not bot.healthy or not for_work or not all(many), f"too many bots were {for_work} at once")

    def _check_fleet(self, observations: Observations, must: Callable[[bool, str], None]) -> None:
        entries = observations.fleet.entries
        quarantined = sum(entry.ill and entry.quarantined for entry in entries)
        ill = sum(entry.ill for entry in entries) - quarantined
        others = len(entries) - quarantined
        must(ill <= self._most(others), f"{ill} of {others} were ill")
        must(quarantined <= self._most(len(entries)), f"{quarantined} were in quarantine")

    def _attempts(self, tables: Tables, bot: Bot, now: float) -> int:
        """Return how many tiers alerts have made runs try on the bot in a day, this one among them."""
        since = max(now - DAY, bot.attempts_from)
        return sum(
            name in TIERS and step.state != "shadowed" and step.intended_at > since
            for run in tables.runs.values()
            if run.bot == bot.name and run.trigger == "alert"
            for name, step in tables.steps.get(run.id, {}).items()
        )

    def _most(self, bots: int) -> int:
        """Return how many ill bots a fleet of so many may have."""
        share = math.floor(self.settings.fleet_max_unhealthy_ratio * bots + 1e-9)
        return max(self.settings.fleet_min_unhealthy, share)

    def is_storm(self, ill: list[str], bots: int) -> bool:
        """Return whether so many ill ones are a storm, of so many bots that were probed."""
        registered = self.database.tables.bots
        quarantined = sum(name in registered and registered[name].quarantined_at is not None for name in ill)
        excess = len(ill) - quarantined > self._most(bots - quarantined)
        return excess or quarantined > self._most(bots)

    def _check_rate(self, now: float) -> None:
        burst, refill = self.settings.actions_burst, self.settings.actions_refill
        level, at = self._bucket or (float(burst), now)
        level = min(burst, level + (now - at) / refill) - 1
        self._must(level >= -1e-3, "more actions at once than the rate allows")
        self._bucket = level, now

    def _check_caps(self, tables: Tables, bot: Bot) -> None:
        """Check the limits where a tier begins; later a redeploy may take the bot to another zone."""
        acting = [
            tables.bots[name]
            for name, run_id in tables.active.items()
            if name in tables.bots
            and any(step.state in LIVE and of in TIERS for of, step in tables.steps.get(run_id, {}).items())
        ]
        settings = self.settings
        self._must(len(acting) <= settings.max_in_flight, f"{len(acting)} bots are being acted on")
        for most, kind in (
            (settings.max_in_flight_per_template, "template"),
            (settings.max_in_flight_per_zone, "zone"),
        ):
            mine = getattr(bot, kind)
            count = sum(bool(mine) and getattr(other, kind) == mine for other in acting)
            self._must(not most or count <= most, f"{count} bots of {kind} {mine} are being acted on")

    # AWS

    def effect(self, replica: str, operation: str, run_id: str, machine: str) -> None:
        """Check an effect that has just happened, by that replica and for that run."""
        self.note(f"{replica}: {operation} {machine} for {run_id}")
        tables = self.database.tables
        run, bot = tables.runs.get(run_id), self.world.machines[machine].bot
        if run is None:
            self.violated(f"{operation} of {machine} for no run")
            return
        now = EPOCH + self.time()
        subject = f"{operation} of {machine} by {replica} for {run_id}"
        owned = run.owner == replica and run.finished_at is None and (run.lease_until or 0) >= now
        self._must(owned or self.database.alone, f"{subject}: the run was not its own")
        self._must(run.bot == bot, f"{subject}: that is {bot}'s")
        step = tables.steps.get(run_id, {}).get(STEP_OF.get(operation, operation))
        if operation == "terminate":
            bots = [other.name for other in tables.bots.values() if other.instance_id == machine]
            registered = [name for name in bots if run.kind != "retire" or name != run.bot]
            self._must(not registered, f"{subject}: {registered} are there")
            return
        self._must(step is not None and step.state == "intended", f"{subject}: without an intent")
        self._effects[run_id, operation] += operation != "stop"  # one that is stopped may be told so again
        self._must(self._effects[run_id, operation] <= 1, f"{subject}: a second time")
        live = self.world.live(bot)
        self._must(len(live) <= 2 + self._left_behind(bot), f"{bot} has {len(live)} live instances")

    def _left_behind(self, bot: str) -> int:
        """Return how many instances runs could not terminate, and said so."""
        tables = self.database.tables
        return sum(
            step.state == "failed"
            for run in tables.runs.values()
            if run.bot == bot
            for name, step in tables.steps.get(run.id, {}).items()
            if name in ("clean up", "retired")
        )

    # the end

    def ended(self) -> None:
        """Check what must hold once faults have stopped and every bot is well: every run is over."""
        tables = self.database.tables
        for run_id in tables.active.values():
            run = tables.runs[run_id]
            self.violated(f"{run_id} of {run.bot} never ends ({run.status}: {run.reason})")
        for bot in {machine.bot for machine in self.world.machines.values()}:
            live, most = self.world.live(bot), (bot in tables.bots) + self._left_behind(bot)
            self._must(len(live) <= most, f"{bot} was left with {len(live)} live instances")
        if self.scaling is not None:
            self.scaling.ended(tables)
        for fault in audit.verify_chain(self.database.trail, tables.facts.get("audit_head", "")):
            self.violated(f"the audit trail: {fault}")
