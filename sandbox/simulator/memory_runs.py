"""Runs, their steps and the gates' verdicts on them, over plain values."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remediator.model import QUEUE_GATES, Bot, Effect, Run, Step, StoredVerdict, Verdict
from remediator.store.errors import ConflictError
from remediator.store.lease import OWN_GRACE, Lease, LeaseLostError
from sandbox.simulator.memory_tables import MemoryRows


class MemoryRuns(MemoryRows):
    """What `remediator.store.runs` and `remediator.store.steps` are on a database."""

    async def run(self, run_id: str) -> Run | None:
        return self.tables.runs.get(run_id)

    def _unfinished(self) -> list[Run]:
        runs = [self.tables.runs[run_id] for run_id in self.tables.active.values()]
        return sorted(runs, key=lambda run: (run.created_at, run.id))

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
        runs = {name: await self.last_recovery(name) for name in names}
        return {name: run for name, run in runs.items() if run is not None}

    async def runs_named(self, run_ids: Collection[str]) -> dict[str, Run]:
        return {run_id: self.tables.runs[run_id] for run_id in run_ids if run_id in self.tables.runs}

    async def recent_deployments(self, limit: int) -> list[Run]:
        runs = [run for run in self.tables.runs.values() if run.kind != "recover"]
        return sorted(runs, key=lambda run: -run.created_at)[:limit]

    async def recent_runs(self, kind: str, limit: int) -> list[Run]:
        runs = [run for run in self.tables.runs.values() if run.kind == kind]
        return sorted(runs, key=lambda run: -run.created_at)[:limit]

    async def add_run(self, run: Run) -> Run:
        (stored,) = await self.add_runs([run])
        return stored

    async def add_runs(self, begun: Sequence[Run]) -> list[Run]:
        until = self.now + self.replica.lease_seconds
        stored = [replace(run, owner=self.replica.name, lease_until=until, fence=1) for run in begun]
        for run in stored:
            self._add("runs", run.id, run)
            self._add("active", run.bot, run.id)
        return stored

    async def renew_or_raise(self, lease: Lease) -> None:
        run = self.tables.runs.get(lease.run_id)
        mine = run is not None and run.owner == self.replica.name and run.fence == lease.fence
        if run is None or not mine or run.finished_at is not None:
            raise LeaseLostError(lease.run_id)
        if not self.replica.alone:
            await self.change_run(run.id, lease_until=self.now + self.replica.lease_seconds)

    async def renew(self, run_ids: Sequence[str]) -> dict[str, int]:
        ids = set(run_ids)
        mine = [run for run in self._unfinished() if run.id in ids and run.owner == self.replica.name]
        for run in mine:
            await self.change_run(run.id, lease_until=self.now + self.replica.lease_seconds)
        return {run.id: run.fence for run in mine}

    def _free(self, run: Run) -> bool:
        until = run.lease_until if run.lease_until is not None else float("inf")
        if run.owner is None:
            return True
        if run.owner != self.replica.name:
            return self.replica.alone or until < self.now
        return until < self.now - OWN_GRACE

    async def claim(self, live: Sequence[str], limit: int) -> list[Run]:
        driven = set(live)
        free = [run for run in self._unfinished() if run.id not in driven and self._free(run)][:limit]
        until = self.now + self.replica.lease_seconds
        for run in free:
            await self.change_run(run.id, owner=self.replica.name, fence=run.fence + 1, lease_until=until)
        return [self.tables.runs[run.id] for run in free]

    async def release(self, run_ids: Sequence[str]) -> None:
        for run in self._unfinished():
            if run.id in set(run_ids) and run.owner == self.replica.name:
                await self.change_run(run.id, owner=None)

    async def blocked(self, limit: int) -> list[Run]:
        return [run for run in self._unfinished() if run.status == "blocked"][:limit]

    def _queued(self) -> list[Run]:
        waits = tuple(f"{gate}:" for gate in QUEUE_GATES)
        return [run for run in self._unfinished() if run.status == "blocked" and run.reason.startswith(waits)]

    async def queue(self, limit: int) -> list[str]:
        return [run.id for run in self._queued()][:limit]

    async def queue_position(self, run: Run) -> int:
        key = run.created_at, run.id
        return sum((queued.created_at, queued.id) < key for queued in self._queued())

    async def change_run(self, run_id: str, **changes: Any) -> None:
        run = self.tables.runs.get(run_id)
        if run is None:
            return
        changed = replace(run, **changes)
        self._put("runs", run_id, changed)
        if run.finished_at is None and changed.finished_at is not None:
            self._drop("active", run.bot)

    async def end_waiting(self, run_id: str, status: str, reason: str) -> bool:
        run = self.tables.runs.get(run_id)
        if run is None or run.finished_at is not None or run.status != "blocked":
            return False
        await self.change_run(run_id, status=status, reason=reason, finished_at=self.now)
        return True

    # steps and verdicts of a run

    async def steps(self, run_id: str) -> list[Step]:
        return list(self.tables.steps.get(run_id, {}).values())

    async def steps_of_recent_runs(self, kind: str, statuses: Sequence[str], limit: int) -> list[Step]:
        raise NotImplementedError("what is learned from earlier runs is not simulated")

    async def add_step(self, run_id: str, name: str, request: Mapping[str, Any]) -> None:
        of_run = dict(self.tables.steps.get(run_id, {}))
        if name in of_run:
            raise ConflictError(f"step {name} of {run_id} is there already")
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

    async def steps_under_way(self) -> dict[str, list[Step]]:
        raise NotImplementedError("scrapes are not simulated")

    async def launched_by(self, bot: Bot) -> Mapping[str, Any] | None:
        raise NotImplementedError("the requests of launches are not simulated")

    async def verdicts(self, run_id: str) -> list[StoredVerdict]:
        return list(self.tables.verdicts.get(run_id, ()))

    async def add_verdicts(self, run_id: str, tier: str, judged: Sequence[Verdict]) -> None:
        added = tuple(
            StoredVerdict(
                id=0,
                run_id=run_id,
                at=self.now,
                tier=tier,
                gate=verdict.gate,
                allowed=verdict.effect is Effect.go,
                why=verdict.reason,
            )
            for verdict in judged
        )
        self._put("verdicts", run_id, self.tables.verdicts.get(run_id, ()) + added)
