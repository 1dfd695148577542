"""The rows of runs: which there are, who drives them, and which of them are queued."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Final

from sqlalchemy import ColumnElement, func, insert, literal, or_, select, tuple_, update

from remediator.model import QUEUE_GATES, Run
from remediator.store.lease import OWN_GRACE, Lease, LeaseLostError
from remediator.store.schema import runs
from remediator.store.statements import Statements

_QUEUED: Final = (
    runs.c.finished_at.is_(None)
    & (runs.c.status == "blocked")
    & or_(*(runs.c.reason.startswith(f"{gate}:") for gate in QUEUE_GATES))
)


class RunQueries(Statements):
    """The statements on `runs`."""

    async def run(self, run_id: str) -> Run | None:
        return await self.one(Run, select(runs).where(runs.c.id == run_id))

    async def active_runs(self) -> list[Run]:
        return await self.all(
            Run, select(runs).where(runs.c.finished_at.is_(None)).order_by(runs.c.created_at)
        )

    async def active_run(self, bot: str) -> Run | None:
        return await self.one(Run, select(runs).where(runs.c.bot == bot, runs.c.finished_at.is_(None)))

    async def last_recovery(self, bot: str) -> Run | None:
        ended = runs.c.finished_at.is_not(None)
        return await self.one(
            Run,
            select(runs)
            .where(runs.c.bot == bot, runs.c.kind == "recover", ended)
            .order_by(runs.c.finished_at.desc())
            .limit(1),
        )

    async def active_runs_of(self, names: Collection[str]) -> dict[str, Run]:
        active = select(runs).where(runs.c.finished_at.is_(None))
        return {run.bot: run for run in await self.where_in(Run, active, runs.c.bot, names)}

    async def last_recoveries(self, names: Collection[str]) -> dict[str, Run]:
        ended = (runs.c.kind == "recover") & runs.c.finished_at.is_not(None)
        other = runs.alias()
        newest = (
            select(func.max(other.c.finished_at))
            .where(other.c.bot == runs.c.bot, other.c.kind == "recover")
            .scalar_subquery()
        )
        last = select(runs).where(ended, runs.c.finished_at == newest)
        return {run.bot: run for run in await self.where_in(Run, last, runs.c.bot, names)}

    async def runs_named(self, run_ids: Collection[str]) -> dict[str, Run]:
        return {run.id: run for run in await self.where_in(Run, select(runs), runs.c.id, run_ids)}

    async def recent_deployments(self, limit: int) -> list[Run]:
        newest = select(runs).where(runs.c.kind != "recover").order_by(runs.c.created_at.desc())
        return await self.all(Run, newest.limit(limit))

    async def recent_runs(self, kind: str, limit: int) -> list[Run]:
        return await self.all(
            Run, select(runs).where(runs.c.kind == kind).order_by(runs.c.created_at.desc()).limit(limit)
        )

    async def add_run(self, run: Run) -> Run:
        (stored,) = await self.add_runs([run])
        return stored

    async def add_runs(self, begun: Sequence[Run]) -> list[Run]:
        until = self._lease_until()
        stored = [replace(run, owner=self._replica.name, lease_until=until, fence=1) for run in begun]
        if stored:
            await self.execute(insert(runs), [asdict(run) for run in stored])
        return stored

    async def renew_or_raise(self, lease: Lease) -> None:
        # Where no other replica can have taken it, it is only read: what changes nothing takes no fsync.
        mine = self._mine & (runs.c.id == lease.run_id) & (runs.c.fence == lease.fence)
        if self._replica.alone:
            renewed = (await self.execute(select(runs.c.id).where(mine))).first() is not None
        else:
            renewal = update(runs).where(mine).values(lease_until=self._lease_until())
            renewed = (await self.execute(renewal)).rowcount == 1
        if not renewed:
            raise LeaseLostError(lease.run_id)

    async def renew(self, run_ids: Sequence[str]) -> dict[str, int]:
        mine = self._mine & runs.c.id.in_(run_ids)
        await self.execute(update(runs).where(mine).values(lease_until=self._lease_until()))
        rows = await self.execute(select(runs.c.id, runs.c.fence).where(mine))
        return {row.id: row.fence for row in rows}

    async def claim(self, live: Sequence[str], limit: int) -> list[Run]:
        others = runs.c.owner != self._replica.name
        silent = runs.c.lease_until < self.now
        # One of our own that nobody drives: a request is doing its first step, or has failed to.
        forgotten = (runs.c.owner == self._replica.name) & (runs.c.lease_until < self.now - OWN_GRACE)
        free = or_(runs.c.owner.is_(None), others if self._replica.alone else others & silent, forgotten)
        waiting = select(runs).where(runs.c.finished_at.is_(None), free, runs.c.id.not_in(live))
        unowned = await self.all(Run, waiting.order_by(runs.c.created_at, runs.c.id).limit(limit))
        until = self._lease_until()
        claimed = [
            replace(run, owner=self._replica.name, fence=run.fence + 1, lease_until=until) for run in unowned
        ]
        for run in claimed:
            await self.change_run(run.id, owner=run.owner, fence=run.fence, lease_until=until)
        return claimed

    async def release(self, run_ids: Sequence[str]) -> None:
        await self.execute(update(runs).where(self._mine, runs.c.id.in_(run_ids)).values(owner=None))

    async def blocked(self, limit: int) -> list[Run]:
        waiting = select(runs).where(runs.c.finished_at.is_(None), runs.c.status == "blocked")
        return await self.all(Run, waiting.order_by(runs.c.created_at, runs.c.id).limit(limit))

    async def queue(self, limit: int) -> list[str]:
        waiting = select(runs.c.id).where(_QUEUED).order_by(runs.c.created_at, runs.c.id).limit(limit)
        return list((await self.execute(waiting)).scalars())

    async def queue_position(self, run: Run) -> int:
        before = tuple_(runs.c.created_at, runs.c.id) < tuple_(literal(run.created_at), literal(run.id))
        rows = await self.execute(select(func.count()).select_from(runs).where(_QUEUED, before))
        return int(rows.scalar_one())

    async def change_run(self, run_id: str, **changes: object) -> None:
        await self.execute(update(runs).where(runs.c.id == run_id).values(**changes))

    async def end_waiting(self, run_id: str, status: str, reason: str) -> bool:
        waiting = (runs.c.id == run_id) & runs.c.finished_at.is_(None) & (runs.c.status == "blocked")
        end = update(runs).where(waiting).values(status=status, reason=reason, finished_at=self.now)
        return (await self.execute(end)).rowcount == 1

    @property
    def _mine(self) -> ColumnElement[bool]:
        return (runs.c.owner == self._replica.name) & runs.c.finished_at.is_(None)

    def _lease_until(self) -> float:
        return self.now + self._replica.lease_seconds
