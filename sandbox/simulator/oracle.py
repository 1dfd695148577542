"""What must hold after every event, said once more and independently of the code that is to make it so."""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from remediator import trail
from remediator.ladder import TIERS
from remediator.model import Bot, Run, Step, Tier
from remediator.modes import mode_for
from remediator.recovery import Around
from remediator.settings import Settings
from sandbox.simulator.clock import EPOCH
from sandbox.simulator.growth import Growth
from sandbox.simulator.memory import MemoryDatabase
from sandbox.simulator.tables import MemoryTransaction, Tables
from sandbox.simulator.world import World

TRACE: Final = 25  # events told with a violation
LIVE: Final = ("intended", "acted")
STEP_OF: Final = {"stop": "stopped"}  # where it is not called as the effect is


@dataclass
class Oracle:
    time: Callable[[], float]
    settings: Settings
    world: World
    database: MemoryDatabase
    events: int = 0
    found: str = ""
    growth: Growth | None = None
    first: tuple[float, str, str] | None = None  # when, bot, tier: the first decision of an alert's run
    trace: "deque[str]" = field(default_factory=lambda: deque(maxlen=TRACE))
    print_trace: bool = False
    _looks: dict[str, Around] = field(default_factory=dict)  # bot → the newest look before its gates
    _effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    _bucket: tuple[float, float] | None = None  # level, when

    def note(self, what: str) -> None:
        self.events += 1
        line = f"{self.events:6} {self.time():9.3f}  {what}"
        self.trace.append(line)
        if self.print_trace:
            print(line)

    def violated(self, what: str) -> None:
        if not self.found:
            self.note(f"VIOLATION: {what}")
            self.found = what

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            self.violated(what)

    def looked(self, bot: str, around: Around) -> None:
        self._looks[bot] = around

    # the store

    def committed(self, tx: MemoryTransaction) -> None:
        before, after = tx.before, tx.tables
        for entry in tx.said:
            self.note(f"{entry.event} {entry.bot} {entry.run_id} {dict(entry.detail)}")
        if not tx.said:
            self.events += 1
        if after.runs is not before.runs:
            for run_id, run in after.runs.items():
                if run_id not in before.runs:
                    self._began(tx, run)
        if after.steps is not before.steps:
            for run_id, steps in after.steps.items():
                if steps is not before.steps.get(run_id):
                    for name in steps.keys() - before.steps.get(run_id, {}).keys() & set(TIERS):
                        self._tier_begins(tx, after.runs[run_id], steps[name])
        if after.bots is not before.bots:
            self._quarantines(tx)
        if self.growth is not None:
            self.growth.committed(tx)

    def _began(self, tx: MemoryTransaction, run: Run) -> None:
        """One run a bot; and the illness that one has dealt with begins no other before `relapse_after`."""
        others = [one.id for one in tx.tables.runs.values() if one.bot == run.bot and one.finished_at is None]
        self._must(others in ([run.id], []), f"{run.bot} is in the hands of {others}")
        asked_by = [key for key, alert in tx.tables.alerts.items() if alert.run_id == run.id]
        known = [tx.before.alerts.get(key) for key in asked_by]
        for was in known:
            if any(one is None or one.run_id is None for one in known) or was is None:
                return  # another alert began it
            old = tx.before.runs[str(was.run_id)]
            since = tx.now - (old.finished_at or tx.now)
            dealt_with = old.status not in ("resolved", "cancelled") and since < self.settings.relapse_after
            self._must(not dealt_with, f"{run.id}: {old.id} had dealt with that episode {since:.0f} s ago")

    def _quarantines(self, tx: MemoryTransaction) -> None:
        for name, bot in tx.tables.bots.items():
            was = tx.before.bots.get(name)
            if was is None or was.quarantined_at is None or bot.quarantined_at is not None:
                continue
            by_hand = any(
                entry.event == "quarantine.cleared"
                or (entry.event == "run.recovered" and tx.tables.runs[entry.run_id].trigger == "manual")
                for entry in tx.said
            )
            self._must(by_hand, f"{name} left quarantine without a person")

    def _tier_begins(self, tx: MemoryTransaction, run: Run, step: Step) -> None:
        tier, steps = cast(Tier, step.name), tx.tables.steps[run.id]
        tried = [name for name in steps if name in TIERS]
        first = TIERS.index(run.method) if run.method in TIERS else 0
        self._must(
            tried == list(TIERS[first : first + len(tried)]), f"{run.id} skips or repeats a tier: {tried}"
        )
        mode = mode_for(self.settings.modes, tx.tables.bots[run.bot].environment, tier)
        if run.trigger == "alert":
            self.first = self.first or (round(self.time(), 6), run.bot, tier)
            self._allowed(tx, run, tier, mode)
        if step.state == "shadowed":
            self._must(mode == "shadow", f"{run.id} was shadowed in mode {mode}")
            return
        self._must(run.trigger == "manual" or mode != "shadow", f"{run.id}: {tier} was done in shadow mode")
        self._rate(tx.now)
        self._caps(tx.tables, tx.tables.bots[run.bot])

    def _allowed(self, tx: MemoryTransaction, run: Run, tier: Tier, mode: str) -> None:
        """What the run itself saw just before must not have kept it from acting."""
        tables, settings, now = tx.tables, self.settings, tx.now
        bot, what = tables.bots[run.bot], f"{run.id}: {tier} of {run.bot} begun though"
        seen = self._looks.get(run.bot)
        if seen is None:
            self.violated(f"{what} nobody looked")
            return
        fleet = seen.fleet
        quarantined = sum(one.ill and one.quarantined for one in fleet.seen)
        ill = sum(one.ill for one in fleet.seen) - quarantined
        self._must(not seen.look.healthy, f"{what} it was healthy")
        self._must(not seen.blind, f"{what} blind: {seen.blind}")
        left = len(fleet.seen) - quarantined
        self._must(ill <= self._most(left), f"{what} {ill} of {left} were ill")
        self._must(quarantined <= self._most(len(fleet.seen)), f"{what} {quarantined} were in quarantine")
        storm = tables.facts.get("storm") or {}
        self._must(not storm.get("active"), f"{what} there was a storm")
        held = [one.reason for one in tables.holds.values() if one.covers(bot, now)]
        self._must(not held, f"{what} it was paused: {held}")
        self._must(run.cancel is None, f"{what} its end was asked for")
        alerts = [one for one in tables.alerts.values() if one.run_id == run.id]
        self._must(any(one.status == "firing" for one in alerts), f"{what} every alert was resolved")
        silenced = any(
            matcher["value"] == one.labels.get(matcher["name"])
            for silence in seen.silences
            for matcher in cast(list[dict[str, str]], silence["matchers"])
            for one in alerts
        )
        self._must(not silenced, f"{what} it was silenced")
        self._must(bot.quarantined_at is None, f"{what} it was in quarantine")
        earlier = sum(
            other.bot == run.bot and other.trigger == "alert" and name in TIERS
            and one.state != "shadowed" and one.intended_at > max(now - 86400, bot.attempts_from)
            for other in tables.runs.values()
            for name, one in tables.steps.get(other.id, {}).items()
        )  # fmt: skip
        self._must(earlier <= settings.max_attempts, f"{what} {earlier - 1} attempts had been made")
        if mode == "approve":
            asked = tables.approvals.get((run.id, tier))
            self._must(asked is not None and asked.decision == "yes", f"{what} nobody had approved")

    def _most(self, bots: int) -> int:
        """Ill bots that a fleet of so many may have."""
        share = math.floor(self.settings.fleet_max_unhealthy_ratio * bots + 1e-9)
        return max(self.settings.fleet_min_unhealthy, share)

    def too_many(self, ill: list[str], bots: int) -> bool:
        """Whether so many ill ones are a storm, of so many that are seen."""
        known = self.database.tables.bots
        aside = sum(name in known and known[name].quarantined_at is not None for name in ill)
        return len(ill) - aside > self._most(bots - aside) or aside > self._most(bots)

    def _rate(self, now: float) -> None:
        burst, refill = self.settings.actions_burst, self.settings.actions_refill
        level, at = self._bucket or (float(burst), now)
        level = min(burst, level + (now - at) / refill) - 1
        self._must(level >= -1e-3, "more actions at once than the rate allows")
        self._bucket = level, now

    def _caps(self, tables: Tables, bot: Bot) -> None:
        """Asked when a tier begins: a redeploy may take a bot to another zone."""
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
            count = sum(bool(mine) and getattr(one, kind) == mine for one in acting)
            self._must(not most or count <= most, f"{count} bots of {kind} {mine} are being acted on")

    # AWS

    def effect(self, replica: str, operation: str, run_id: str, machine: str) -> None:
        """An effect has just happened, by that replica and for that run."""
        self.note(f"{replica}: {operation} {machine} for {run_id}")
        tables = self.database.tables
        run, bot = tables.runs.get(run_id), self.world.machines[machine].bot
        if run is None:
            self.violated(f"{operation} of {machine} for no run")
            return
        now = EPOCH + self.time()
        what = f"{operation} of {machine} by {replica} for {run_id}"
        held = run.owner == replica and run.finished_at is None and (run.lease_until or 0) >= now
        self._must(held or self.database.alone, f"{what}: the run was not its own")
        self._must(run.bot == bot, f"{what}: that is {bot}'s")
        step = tables.steps.get(run_id, {}).get(STEP_OF.get(operation, operation))
        if operation == "terminate":
            kept = [one for one in tables.bots.values() if one.instance_id == machine]
            registered = [one.name for one in kept if run.kind != "retire" or one.name != run.bot]
            self._must(not registered, f"{what}: {registered} are there")
            return
        self._must(step is not None and step.state == "intended", f"{what}: without an intent")
        self._effects[run_id, operation] += operation != "stop"  # one that is stopped may be told so again
        self._must(self._effects[run_id, operation] <= 1, f"{what}: a second time")
        live = self.world.live(bot)
        self._must(len(live) <= 2 + self._left_behind(bot), f"{bot} has {len(live)} live instances")

    def _left_behind(self, bot: str) -> int:
        """Instances that a run could not end, and said so."""
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
        """When faults have stopped, every bot is well and every run should be over."""
        tables = self.database.tables
        for run_id in tables.active.values():
            run = tables.runs[run_id]
            self.violated(f"{run_id} of {run.bot} never ends ({run.status}: {run.reason})")
        for bot in {one.bot for one in self.world.machines.values()}:
            live, most = self.world.live(bot), (bot in tables.bots) + self._left_behind(bot)
            self._must(len(live) <= most, f"{bot} was left with {len(live)} live instances")
        if self.growth is not None:
            self.growth.ended(tables)
        for fault in trail.faults(self.database.trail, tables.facts.get("audit_head", "")):
            self.violated(f"the audit trail: {fault}")
