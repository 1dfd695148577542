"""What must hold of groups that scale, said once more and independently of the code that scales them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from remediator.model import Bot, Mode, Run
from remediator.settings import Settings
from sandbox.simulator.memory_tables import Tables
from sandbox.simulator.memory_transaction import MemoryTransaction
from sandbox.simulator.scaling_groups import Group, GroupKey, Scrapes

ACTOR: Final = "scaling"
MARGIN: Final = 0.05
KINDS: Final = {"deploy": "out", "retire": "in"}


@dataclass(frozen=True, slots=True)
class Move:
    """A group became larger or smaller by one bot."""

    at: float
    direction: str
    run_id: str


@dataclass
class ScalingOracle:
    """Checks of every group what scaling does, and whether it may."""

    settings: Settings
    mode: Mode
    groups: Mapping[GroupKey, Group]
    scrapes: Scrapes
    violated: Callable[[str], None]
    moves: dict[GroupKey, list[Move]] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)  # bots that are there because scaling asked for them
    approved: dict[GroupKey, str] = field(default_factory=dict)
    unchanged_since: float | None = None

    @property
    def move_count(self) -> int:
        return sum(map(len, self.moves.values()))

    def count(self, direction: str) -> int:
        return sum(move.direction == direction for moves in self.moves.values() for move in moves)

    def committed(self, tx: MemoryTransaction) -> None:
        """Check what the transaction has begun."""
        for entry in tx.entries:
            if entry.event == "scale.approved":
                key = str(entry.detail["template"]), str(entry.detail["environment"])
                self.approved[key] = str(entry.detail["direction"])
            elif entry.event in ("deploy.asked", "retire.asked") and entry.actor == ACTOR:
                self._moved(tx, tx.tables.runs[entry.run_id])
        if tx.tables.bots is not tx.before.bots:
            self.added &= tx.tables.bots.keys()

    def _moved(self, tx: MemoryTransaction, run: Run) -> None:
        """Check a group that begins to be larger or smaller by one."""
        bot, direction = tx.tables.bots[run.bot], KINDS[run.kind]
        key = bot.template, bot.environment
        subject = f"{run.id}: {run.bot} of {'/'.join(key)} goes {direction}"

        def must(condition: bool, violation: str) -> None:
            if not condition:
                self.violated(f"{subject} {violation}")

        group = self.groups.get(key)
        if group is None:
            self.violated(f"{subject}, and that group does not scale")
            return
        before = _bots_of(tx.before, key)
        remaining = [bot for bot in _bots_of(tx.tables, key) if bot.state != "retiring"]
        if direction == "out":
            must(len(before) < group.max, f"though there were {len(before)} of {group.max} bots")
        else:
            must(len(remaining) >= group.min, f"though {len(remaining)} bots are left, of {group.min}")
            must(run.bot in self.added, "and people declared it")
        self._check_gates(tx, key, run, direction, must)
        moves = self.moves.setdefault(key, [])
        if moves:
            since, last = tx.now - moves[-1].at, moves[-1].direction
            wait = self.settings.scaling_patience if last == direction else self.settings.scaling_calm
            must(since >= wait, f"{since:.0f} s after it went {last}")
            unchanged = self.unchanged_since is not None and moves[-1].at > self.unchanged_since
            must(not unchanged or last == direction, "though nothing had changed: it oscillates")
        begun = [entry for entry in tx.entries if entry.event == "scale.begun" and entry.run_id == run.id]
        must(bool(begun) and begun[0].detail["direction"] == direction, "and the trail does not say so")
        moves.append(Move(tx.now, direction, run.id))
        if direction == "out":
            self.added.add(run.bot)

    def _check_gates(
        self,
        tx: MemoryTransaction,
        key: GroupKey,
        run: Run,
        direction: str,
        must: Callable[[bool, str], None],
    ) -> None:
        bots = _bots_of(tx.before, key)
        busy = [self._run(tx.before, bot.name) for bot in bots]
        must(not any(other and other.kind != "recover" for other in busy), f"while it is busy: {busy}")
        must(self._run(tx.before, run.bot) is None, "in the middle of another run")
        must(self.mode != "shadow", "in shadow")
        if self.mode == "approve":
            must(self.approved.pop(key, "") == direction, "and nobody had said yes")
        self._check_storm(tx, must)
        scopes = {"fleet": "", "template": key[0]}
        reasons = [
            hold.reason
            for hold in tx.before.holds.values()
            if scopes.get(hold.scope) == hold.name or hold.name in [bot.name for bot in bots]
        ]
        must(not reasons, f"while it is paused: {reasons}")

    def _run(self, tables: Tables, bot: str) -> Run | None:
        return tables.runs[tables.active[bot]] if bot in tables.active else None

    def _check_storm(self, tx: MemoryTransaction, must: Callable[[bool, str], None]) -> None:
        """Check that no storm is on, in the store or in Prometheus, and that what was read is not old."""
        storm, now = tx.before.facts.get("storm") or {}, self.scrapes.world.time()
        must(not storm.get("active"), "in a storm")
        age = now - self.scrapes.read_at.get(tx.replica.name, float("-inf"))
        lasts = 2 * self.settings.scaling_interval + 1
        must(age <= lasts, f"by what was seen {age:.0f} s ago")
        since = self.scrapes.over_since
        must(since is None or now - since <= lasts, f"in a storm since {since}")

    # the end

    def ended(self, tables: Tables) -> None:
        """Check, once nothing has changed for long, that each group has come to rest where it should."""
        for key, group in self.groups.items():
            bots = _bots_of(tables, key)
            added, state = len(self.added & {bot.name for bot in bots}), tables.scaled.get(key, {})
            subject = f"{'/'.join(key)}, {len(bots)} bots and {added} of them added, came to no rest"
            if self.mode != "auto" or len(bots) <= added or any(bot.state != "active" for bot in bots):
                continue
            work, explained = self.scrapes.work(key, group), bool(state.get("said"))
            if len(bots) < group.max and self._is_short(group, len(bots), work) and not explained:
                self.violated(f"{subject}: it is short, and says nothing")
            spare = added and len(bots) > group.min and not self._is_short(group, len(bots) - 1, work, MARGIN)
            if (spare or (added and len(bots) > group.max)) and not explained:
                self.violated(f"{subject}: it has more than it needs, and says nothing")

    def _is_short(self, group: Group, healthy: int, work: float, margin: float = 0) -> bool:
        if healthy < group.min:
            return True
        free = 1 - min(1.0, work / healthy)
        return free < group.target + margin


def _bots_of(tables: Tables, key: GroupKey) -> list[Bot]:
    return [bot for bot in tables.bots.values() if (bot.template, bot.environment) == key]
