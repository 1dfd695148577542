"""The tables of the store as plain values, and transactions over them by copy."""

import itertools
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import Executable
from sqlalchemy.exc import IntegrityError

from remediator.gates import Effect, Verdict
from remediator.lease import Lease, LeaseLostError
from remediator.model import (
    Approval,
    AuditEntry,
    Bot,
    ConfigVersion,
    Hold,
    Notification,
    Run,
    Step,
    StoredAlert,
    StoredVerdict,
)
from remediator.run_rows import OWN_GRACE
from remediator.transaction import BROUGHT, ENGINE, Episode, Transaction, chained

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tables:
    """Never changed in place: a transaction copies what it writes to, and a commit puts the copies here."""

    bots: Mapping[str, Bot] = field(default_factory=dict)
    versions: Mapping[str, tuple[ConfigVersion, ...]] = field(default_factory=dict)  # oldest first
    runs: Mapping[str, Run] = field(default_factory=dict)
    active: Mapping[str, str] = field(default_factory=dict)  # bot → its unfinished run
    alerts: Mapping[Episode, StoredAlert] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Step]] = field(default_factory=dict)
    verdicts: Mapping[str, tuple[StoredVerdict, ...]] = field(default_factory=dict)
    holds: Mapping[int, Hold] = field(default_factory=dict)
    approvals: Mapping[tuple[str, str], Approval] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notifications: Mapping[int, Notification] = field(default_factory=dict)
    scaled: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)


class MemoryTransaction(Transaction):
    """`tables` is what this transaction sees, its own writes among it."""

    def __init__(
        self,
        tables: Tables,
        trail: list[AuditEntry],
        now: float,
        replica: str,
        lease_seconds: float,
        alone: bool,
    ) -> None:
        self.tables, self.before = tables, tables
        self.now = now
        self._replica, self._lease_seconds, self._alone = replica, lease_seconds, alone
        self._trail, self.said = trail, list[AuditEntry]()

    def _set(self, table: str, rows: Any) -> None:
        self.tables = replace(self.tables, **{table: rows})

    def _put(self, table: str, key: object, row: object) -> None:
        rows: dict[object, object] = getattr(self.tables, table)
        if rows is getattr(self.before, table):
            rows = dict(rows)
            self._set(table, rows)
        rows[key] = row

    def _drop(self, table: str, key: object) -> bool:
        rows = dict(getattr(self.tables, table))
        found = rows.pop(key, None)
        self._set(table, rows)
        return found is not None

    def _add(self, table: str, key: object, row: object) -> None:
        if key in getattr(self.tables, table):
            raise IntegrityError(f"INSERT INTO {table}", {}, Exception(f"{key!r} is there already"))
        self._put(table, key, row)

    @property
    def replica(self) -> str:
        return self._replica

    # the tables of other rooms, which recovery never asks: there is nothing in them

    async def one(self, kind: Callable[..., T], statement: Executable) -> T | None:
        return None

    async def all(self, kind: Callable[..., T], statement: Executable) -> list[T]:
        return []

    # bots

    async def bot(self, name: str) -> Bot | None:
        return self.tables.bots.get(name)

    async def bots(self) -> list[Bot]:
        return sorted(self.tables.bots.values(), key=lambda bot: bot.name)

    async def bots_named(self, names: Collection[str]) -> dict[str, Bot]:
        return {name: self.tables.bots[name] for name in names if name in self.tables.bots}

    async def fleet(self, most: int) -> tuple[int, list[Bot]]:
        active = [bot for bot in await self.bots() if bot.state == "active"]
        return len(active), active if len(active) <= most else random.sample(active, most)

    async def add_bot(self, bot: Bot) -> None:
        self._add("bots", bot.name, bot)

    async def change_bot(self, name: str, **changes: Any) -> None:
        bot = self.tables.bots.get(name)
        if bot is not None:
            self._put("bots", name, replace(bot, **{"updated_at": self.now, **changes}))

    async def remove_bot(self, name: str) -> None:
        self._drop("bots", name)

    # configurations of a bot

    async def versions(self, bot: str) -> list[ConfigVersion]:
        return list(self.tables.versions.get(bot, ()))

    async def version(self, bot: str, number: int | None = None) -> ConfigVersion | None:
        found = [one for one in await self.versions(bot) if number in (None, one.version)]
        return found[-1] if found else None

    async def add_version(self, version: ConfigVersion) -> None:
        kept = self.tables.versions.get(version.bot, ())
        if version.version in [one.version for one in kept]:
            raise IntegrityError("INSERT INTO config_versions", {}, Exception("it is there already"))
        self._put("versions", version.bot, (*kept, version))

    # runs

    async def run(self, run_id: str) -> Run | None:
        return self.tables.runs.get(run_id)

    def _unfinished(self) -> list[Run]:
        found = [self.tables.runs[run_id] for run_id in self.tables.active.values()]
        return sorted(found, key=lambda run: (run.created_at, run.id))

    async def active_runs(self) -> list[Run]:
        return self._unfinished()

    async def active_run(self, bot: str) -> Run | None:
        run_id = self.tables.active.get(bot)
        return self.tables.runs[run_id] if run_id is not None else None

    async def last_recovery(self, bot: str) -> Run | None:
        ended = [
            run
            for run in self.tables.runs.values()
            if run.bot == bot and run.kind == "recover" and run.finished_at is not None
        ]
        return max(ended, key=lambda run: run.finished_at or 0, default=None)

    async def active_runs_of(self, names: Collection[str]) -> dict[str, Run]:
        active = self.tables.active
        return {name: self.tables.runs[active[name]] for name in names if name in active}

    async def last_recoveries(self, names: Collection[str]) -> dict[str, Run]:
        found = {name: await self.last_recovery(name) for name in names}
        return {name: run for name, run in found.items() if run is not None}

    async def runs_named(self, run_ids: Collection[str]) -> dict[str, Run]:
        return {run_id: self.tables.runs[run_id] for run_id in run_ids if run_id in self.tables.runs}

    async def recent_deployments(self, limit: int) -> list[Run]:
        found = [run for run in self.tables.runs.values() if run.kind != "recover"]
        return sorted(found, key=lambda run: -run.created_at)[:limit]

    async def recent_runs(self, kind: str, limit: int) -> list[Run]:
        found = [run for run in self.tables.runs.values() if run.kind == kind]
        return sorted(found, key=lambda run: -run.created_at)[:limit]

    async def add_runs(self, begun: Sequence[Run]) -> list[Run]:
        until = self.now + self._lease_seconds
        kept = [replace(run, owner=self._replica, lease_until=until, fence=1) for run in begun]
        for run in kept:
            self._add("runs", run.id, run)
            self._add("active", run.bot, run.id)
        return kept

    async def prove(self, lease: Lease) -> None:
        run = self.tables.runs.get(lease.run_id)
        mine = run is not None and run.owner == self._replica and run.fence == lease.fence
        if run is None or not mine or run.finished_at is not None:
            raise LeaseLostError(lease.run_id)
        if not self._alone:
            await self.change_run(run.id, lease_until=self.now + self._lease_seconds)

    async def beat(self, run_ids: Sequence[str]) -> dict[str, int]:
        asked = set(run_ids)
        mine = [run for run in self._unfinished() if run.id in asked and run.owner == self._replica]
        for run in mine:
            await self.change_run(run.id, lease_until=self.now + self._lease_seconds)
        return {run.id: run.fence for run in mine}

    def _free(self, run: Run) -> bool:
        until = run.lease_until if run.lease_until is not None else float("inf")
        if run.owner is None:
            return True
        if run.owner != self._replica:
            return self._alone or until < self.now
        return until < self.now - OWN_GRACE

    async def claim(self, live: Sequence[str], limit: int) -> list[Run]:
        driven = set(live)
        free = [run for run in self._unfinished() if run.id not in driven and self._free(run)][:limit]
        until = self.now + self._lease_seconds
        for run in free:
            await self.change_run(run.id, owner=self._replica, fence=run.fence + 1, lease_until=until)
        return [self.tables.runs[run.id] for run in free]

    async def release(self, run_ids: Sequence[str]) -> None:
        for run in self._unfinished():
            if run.id in set(run_ids) and run.owner == self._replica:
                await self.change_run(run.id, owner=None)

    async def blocked(self, limit: int) -> list[Run]:
        return [run for run in self._unfinished() if run.status == "blocked"][:limit]

    def _queued(self) -> list[Run]:
        waits = ("in_flight:", "rate:")
        return [run for run in self._unfinished() if run.status == "blocked" and run.reason.startswith(waits)]

    async def queue(self, limit: int) -> list[str]:
        return [run.id for run in self._queued()][:limit]

    async def ahead(self, run: Run) -> int:
        return sum((one.created_at, one.id) < (run.created_at, run.id) for one in self._queued())

    async def change_run(self, run_id: str, **changes: Any) -> None:
        run = self.tables.runs.get(run_id)
        if run is None:
            return
        changed = replace(run, **changes)
        self._put("runs", run_id, changed)
        if run.finished_at is None and changed.finished_at is not None:
            self._drop("active", run.bot)

    # alerts

    async def alert(self, fingerprint: str, starts_at: float) -> StoredAlert | None:
        return self.tables.alerts.get((fingerprint, starts_at))

    async def expect(self, episodes: Collection[Episode]) -> None:
        """All is at hand already."""

    async def add_alert(self, kept: StoredAlert) -> None:
        self._add("alerts", (kept.fingerprint, kept.starts_at), kept)

    async def change_alert(self, alert: StoredAlert, **changes: Any) -> None:
        key = alert.fingerprint, alert.starts_at
        if key in self.tables.alerts:
            self._put("alerts", key, replace(self.tables.alerts[key], **changes))

    async def alerts_of(self, run_id: str) -> list[StoredAlert]:
        found = [alert for alert in self.tables.alerts.values() if alert.run_id == run_id]
        return sorted(found, key=lambda alert: alert.first_seen)

    async def firing_alerts(self, limit: int) -> list[StoredAlert]:
        found = [alert for alert in self.tables.alerts.values() if alert.status == "firing"]
        return sorted(found, key=lambda alert: -alert.last_seen)[:limit]

    # steps and verdicts of a run

    async def steps(self, run_id: str) -> list[Step]:
        return list(self.tables.steps.get(run_id, {}).values())

    async def intend(self, run_id: str, name: str, request: Mapping[str, Any]) -> None:
        of_run = dict(self.tables.steps.get(run_id, {}))
        if name in of_run:
            raise IntegrityError("INSERT INTO steps", {}, Exception(f"{run_id} {name} is there already"))
        number = sum(map(len, self.tables.steps.values())) + 1
        of_run[name] = Step(
            number, run_id, name, "intended", dict(request), {}, "", self.now, acted_at=None, finished_at=None
        )
        self._put("steps", run_id, of_run)

    async def change_step(self, run_id: str, name: str, **changes: Any) -> None:
        of_run = dict(self.tables.steps.get(run_id, {}))
        if name in of_run:
            of_run[name] = replace(of_run[name], **changes)
            self._put("steps", run_id, of_run)

    async def in_flight(self, tiers: Sequence[str], excluding: str) -> list[Bot]:
        return [
            self.tables.bots[run.bot]
            for run in self._unfinished()
            if run.id != excluding
            and run.bot in self.tables.bots
            and any(
                step.name in tiers and step.state in ("intended", "acted")
                for step in self.tables.steps.get(run.id, {}).values()
            )
        ]

    def _tiers(self, tiers: Sequence[str], since: float) -> list[Step]:
        return [
            step
            for of_run in self.tables.steps.values()
            for step in of_run.values()
            if step.name in tiers and step.intended_at > since
        ]

    async def intents(self, tiers: Sequence[str], since: float) -> list[float]:
        return sorted(step.intended_at for step in self._tiers(tiers, since))

    async def attempts_of(self, bot: str, tiers: Sequence[str], since: float) -> int:
        runs = self.tables.runs
        return sum(
            runs[step.run_id].bot == bot and runs[step.run_id].trigger == "alert" and step.state != "shadowed"
            for step in self._tiers(tiers, since)
        )

    async def verdicts(self, run_id: str) -> list[StoredVerdict]:
        return list(self.tables.verdicts.get(run_id, ()))

    async def add_verdicts(self, run_id: str, tier: str, judged: Sequence[Verdict]) -> None:
        kept = self.tables.verdicts.get(run_id, ())
        added = tuple(
            StoredVerdict(0, run_id, self.now, tier, one.gate, one.effect is Effect.go, one.why)
            for one in judged
        )
        self._put("verdicts", run_id, kept + added)

    # what people read

    async def audit(
        self, event: str, *, bot: str = "", run_id: str = "", actor: str = ENGINE, **detail: object
    ) -> None:
        row = {"at": self.now, "actor": actor[:255], "event": event, "bot": bot[:63], "run_id": run_id}
        head = chained(await self.fact("audit_head") or "", {**row, "detail": detail})
        number = len(self._trail) + len(self.said) + 1
        self.said.append(
            AuditEntry(number, self.now, actor[:255], event, bot[:63], run_id, detail=detail, hash=head)
        )
        await self.set_fact("audit_head", head)

    async def audit_trail(self, *, bot: str | None, after: int | None, limit: int) -> list[AuditEntry]:
        found = [entry for entry in [*self._trail, *self.said] if bot is None or entry.bot == bot]
        if after is None:
            return found[-limit:]
        return [entry for entry in found if entry.id > after][:limit]

    async def notify(self, run_id: str, text: str) -> None:
        number = len(self.tables.notifications) + 1
        self._put("notifications", number, Notification(number, self.now, run_id, text, 0, "", None))

    async def unsent(self, limit: int = 20) -> list[Notification]:
        return [one for one in self.tables.notifications.values() if one.sent_at is None][:limit]

    async def change_notification(self, notification_id: int, **changes: Any) -> None:
        kept = self.tables.notifications[notification_id]
        self._put("notifications", notification_id, replace(kept, **changes))

    # what keeps recovery off, and what people decided

    async def holds(self) -> list[Hold]:
        return [one for one in self.tables.holds.values() if one.ends_at is None or one.ends_at > self.now]

    async def add_hold(self, **values: Any) -> int:
        number = max(self.tables.holds, default=0) + 1
        self._put("holds", number, Hold(id=number, **values))
        return number

    async def remove_hold(self, hold_id: int) -> bool:
        return self._drop("holds", hold_id)

    async def approval(self, run_id: str, tier: str) -> Approval | None:
        return self.tables.approvals.get((run_id, tier))

    async def ask_approval(self, run_id: str, tier: str, expires_at: float) -> None:
        self._add("approvals", (run_id, tier), Approval(run_id, tier, self.now, expires_at, "", ""))

    async def decide_approval(self, run_id: str, decision: Any, actor: str) -> Approval | None:
        for key, asked in self.tables.approvals.items():
            if asked.run_id == run_id and asked.decision == "" and asked.expires_at > self.now:
                self._put("approvals", key, replace(asked, decision=decision, actor=actor[:255]))
                return asked
        return None

    async def fact(self, name: str) -> Any:
        return self.tables.facts.get(name)

    async def set_fact(self, name: str, value: object) -> None:
        self._put("facts", name, value)

    # scaling

    async def scaling(self, template: str, environment: str) -> dict[str, Any]:
        return dict(self.tables.scaled.get((template, environment), {}))

    async def keep_scaling(self, template: str, environment: str, state: Mapping[str, Any]) -> None:
        self._put("scaled", (template, environment), dict(state))

    async def brought_by(self, bots: Collection[str]) -> dict[str, str]:
        trail = itertools.chain(self._trail, self.said)
        return {one.bot: one.actor for one in trail if one.event in BROUGHT and one.bot in bots}
