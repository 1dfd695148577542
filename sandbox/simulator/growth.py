"""What must hold of groups that scale, said once more and independently of the code that scales them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from remediator.gates import Mode
from remediator.model import Bot, Run
from remediator.settings import Settings
from sandbox.simulator.groups import Group, Scrapes, Where
from sandbox.simulator.tables import MemoryTransaction, Tables

ACTOR: Final = "scaling"
MARGIN: Final = 0.05
KINDS: Final = {"deploy": "out", "retire": "in"}


@dataclass(frozen=True, slots=True)
class Made:
    """A move."""

    at: float
    direction: str
    run_id: str


@dataclass
class Growth:
    """Of every group: what scaling did, and whether it might."""

    settings: Settings
    mode: Mode
    groups: Mapping[Where, Group]
    scrapes: Scrapes
    violated: Callable[[str], None]
    made: dict[Where, list[Made]] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)  # bots that are there because scaling asked for them
    approved: dict[Where, str] = field(default_factory=dict)
    still_since: float | None = None

    @property
    def moves(self) -> int:
        return sum(map(len, self.made.values()))

    def count(self, direction: str) -> int:
        return sum(one.direction == direction for moves in self.made.values() for one in moves)

    def committed(self, tx: MemoryTransaction) -> None:
        for entry in tx.said:
            if entry.event == "scale.approved":
                where = str(entry.detail["template"]), str(entry.detail["environment"])
                self.approved[where] = str(entry.detail["direction"])
            elif entry.event in ("deploy.asked", "retire.asked") and entry.actor == ACTOR:
                self._moved(tx, tx.tables.runs[entry.run_id])
        if tx.tables.bots is not tx.before.bots:
            self.added &= tx.tables.bots.keys()

    def _moved(self, tx: MemoryTransaction, run: Run) -> None:
        """A group begins to be larger or smaller by one."""
        bot, direction, now = tx.tables.bots[run.bot], KINDS[run.kind], tx.now
        where = bot.template, bot.environment
        what = f"{run.id}: {run.bot} of {'/'.join(where)} goes {direction}"

        def must(holds: bool, why: str) -> None:
            if not holds:
                self.violated(f"{what} {why}")

        group = self.groups.get(where)
        if group is None:
            self.violated(f"{what}, and that group does not scale")
            return
        before = _of(tx.before, where)
        there = [one for one in _of(tx.tables, where) if one.state != "retiring"]
        if direction == "out":
            must(len(before) < group.max, f"though there were {len(before)} of {group.max} bots")
        else:
            must(len(there) >= group.min, f"though {len(there)} bots are left, of {group.min}")
            must(run.bot in self.added, "and people declared it")
        busy = [self._run(tx.before, one.name) for one in before]
        must(not any(one and one.kind != "recover" for one in busy), f"while it is busy: {busy}")
        must(self._run(tx.before, run.bot) is None, "in the middle of another run")
        must(self.mode != "shadow", "in shadow")
        if self.mode == "approve":
            must(self.approved.pop(where, "") == direction, "and nobody had said yes")
        self._weather(tx, must)
        names = {"fleet": "", "template": where[0]}
        held = [
            hold.reason
            for hold in tx.before.holds.values()
            if names.get(hold.scope) == hold.name or hold.name in [one.name for one in before]
        ]
        must(not held, f"while it is paused: {held}")
        moves = self.made.setdefault(where, [])
        if moves:
            since, last = now - moves[-1].at, moves[-1].direction
            wait = self.settings.scaling_patience if last == direction else self.settings.scaling_calm
            must(since >= wait, f"{since:.0f} s after it went {last}")
            still = self.still_since is not None and moves[-1].at > self.still_since
            must(not still or last == direction, "though nothing had changed: it oscillates")
        begun = [one for one in tx.said if one.event == "scale.begun" and one.run_id == run.id]
        must(bool(begun) and begun[0].detail["direction"] == direction, "and the trail does not say so")
        moves.append(Made(now, direction, run.id))
        if direction == "out":
            self.added.add(run.bot)

    def _run(self, tables: Tables, bot: str) -> Run | None:
        return tables.runs[tables.active[bot]] if bot in tables.active else None

    def _weather(self, tx: MemoryTransaction, must: Callable[[bool, str], None]) -> None:
        """No storm is on, as it is kept or as Prometheus has it; and what was seen is not old."""
        storm, now = tx.before.facts.get("storm") or {}, self.scrapes.world.time()
        must(not storm.get("active"), "in a storm")
        old = now - self.scrapes.asked.get(tx.replica, float("-inf"))
        lasts = 2 * self.settings.scaling_interval + 1
        must(old <= lasts, f"by what was seen {old:.0f} s ago")
        since = self.scrapes.over_since
        must(since is None or now - since <= lasts, f"in a storm since {since}")

    # the end

    def ended(self, tables: Tables) -> None:
        """Nothing has changed for long: each group has come to rest, where it should."""
        for where, group in self.groups.items():
            bots = _of(tables, where)
            added, kept = len(self.added & {one.name for one in bots}), tables.scaled.get(where, {})
            what = f"{'/'.join(where)}, {len(bots)} bots and {added} of them added, came to no rest"
            if self.mode != "auto" or len(bots) <= added or any(one.state != "active" for one in bots):
                continue
            work = self.scrapes.work(where, group)
            if len(bots) < group.max and self._short(group, len(bots), added, work) and not kept.get("said"):
                self.violated(f"{what}: it is short, and says nothing")
            spare = (
                added and len(bots) > group.min and not self._short(group, len(bots) - 1, added, work, MARGIN)
            )
            if (spare or (added and len(bots) > group.max)) and not kept.get("said"):
                self.violated(f"{what}: it has more than it needs, and says nothing")

    def _short(self, group: Group, well: int, added: int, work: float, margin: float = 0) -> bool:
        if well < group.min:
            return True
        free = 1 - min(1.0, work / well)
        return free < group.target + margin


def _of(tables: Tables, where: Where) -> list[Bot]:
    return [bot for bot in tables.bots.values() if (bot.template, bot.environment) == where]
