"""The rows of runs: which there are, who drives them, and which of them wait their turn."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Final

from sqlalchemy import func, insert, literal, or_, select, tuple_, update

from remediator.lease import Lease, LeaseLostError
from remediator.model import Run
from remediator.schema import runs
from remediator.statements import Statements

OWN_GRACE = 60.0  # seconds a request may take for the first step of the run it began

_QUEUED: Final = (
    runs.c.finished_at.is_(None)
    & (runs.c.status == "blocked")
    & or_(runs.c.reason.startswith("in_flight:"), runs.c.reason.startswith("rate:"))
)


class RunRows(Statements):
    async def run(self, run_id: str) -> Run | None:
        return await self.one(Run, select(runs).where(runs.c.id == run_id))

    async def active_runs(self) -> list[Run]:
        return await self.all(
            Run, select(runs).where(runs.c.finished_at.is_(None)).order_by(runs.c.created_at)
        )

    async def active_run(self, bot: str) -> Run | None:
        return await self.one(Run, select(runs).where(runs.c.bot == bot, runs.c.finished_at.is_(None)))

    async def last_recovery(self, bot: str) -> Run | None:
        """The bot's most recent recovery that ended."""
        ended = runs.c.finished_at.is_not(None)
        return await self.one(
            Run,
            select(runs)
            .where(runs.c.bot == bot, runs.c.kind == "recover", ended)
            .order_by(runs.c.finished_at.desc())
            .limit(1),
        )

    async def active_runs_of(self, names: Collection[str]) -> dict[str, Run]:
        """By bot."""
        active = select(runs).where(runs.c.finished_at.is_(None))
        return {run.bot: run for run in await self.among(Run, active, runs.c.bot, names)}

    async def last_recoveries(self, names: Collection[str]) -> dict[str, Run]:
        """Of each bot the most recent recovery that ended."""
        ended = (runs.c.kind == "recover") & runs.c.finished_at.is_not(None)
        other = runs.alias()
        newest = (
            select(func.max(other.c.finished_at))
            .where(other.c.bot == runs.c.bot, other.c.kind == "recover")
            .scalar_subquery()
        )
        last = select(runs).where(ended, runs.c.finished_at == newest)
        return {run.bot: run for run in await self.among(Run, last, runs.c.bot, names)}

    async def runs_named(self, run_ids: Collection[str]) -> dict[str, Run]:
        """Those of the ids that there are."""
        return {run.id: run for run in await self.among(Run, select(runs), runs.c.id, run_ids)}

    async def recent_deployments(self, limit: int) -> list[Run]:
        """The newest of all runs that are no recoveries."""
        newest = select(runs).where(runs.c.kind != "recover").order_by(runs.c.created_at.desc())
        return await self.all(Run, newest.limit(limit))

    async def recent_runs(self, kind: str, limit: int) -> list[Run]:
        return await self.all(
            Run, select(runs).where(runs.c.kind == kind).order_by(runs.c.created_at.desc()).limit(limit)
        )

    async def add_run(self, run: Run) -> Run:
        """Begin a run, held by this replica; as it was kept."""
        (kept,) = await self.add_runs([run])
        return kept

    async def add_runs(self, begun: Sequence[Run]) -> list[Run]:
        """The same for many."""
        until = self.now + self._lease_seconds
        kept = [replace(run, owner=self._replica, lease_until=until, fence=1) for run in begun]
        if kept:
            await self.execute(insert(runs), [asdict(run) for run in kept])
        return kept

    async def prove(self, lease: Lease) -> None:
        """Hold the run on, or raise LeaseLostError: then nothing of this transaction is kept.

        Where nobody else can be there to take it, it is only looked at: what changes nothing takes no fsync.
        """
        mine = (runs.c.id == lease.run_id) & (runs.c.owner == self._replica) & (runs.c.fence == lease.fence)
        mine &= runs.c.finished_at.is_(None)
        if self._alone:
            held = (await self.execute(select(runs.c.id).where(mine))).first() is not None
        else:
            on = update(runs).where(mine).values(lease_until=self.now + self._lease_seconds)
            held = (await self.execute(on)).rowcount == 1
        if not held:
            raise LeaseLostError(lease.run_id)

    async def beat(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Hold these runs on; run id → fence of those that are still this replica's."""
        mine = (runs.c.owner == self._replica) & runs.c.finished_at.is_(None) & runs.c.id.in_(run_ids)
        await self.execute(update(runs).where(mine).values(lease_until=self.now + self._lease_seconds))
        found = await self.execute(select(runs.c.id, runs.c.fence).where(mine))
        return {row.id: row.fence for row in found}

    async def claim(self, live: Sequence[str], limit: int) -> list[Run]:
        """Take the oldest runs that nobody holds, or whose holder has gone silent.

        `live`: those this replica is driving. Where no other process can be at work on the database, whoever
        held a run before this one is dead.
        """
        others = runs.c.owner != self._replica
        silent = runs.c.lease_until < self.now
        # One of our own that nobody drives: a request is doing its first step, or has failed to.
        forgotten = (runs.c.owner == self._replica) & (runs.c.lease_until < self.now - OWN_GRACE)
        free = or_(runs.c.owner.is_(None), others if self._alone else others & silent, forgotten)
        waiting = select(runs).where(runs.c.finished_at.is_(None), free, runs.c.id.not_in(live))
        found = await self.all(Run, waiting.order_by(runs.c.created_at, runs.c.id).limit(limit))
        until = self.now + self._lease_seconds
        claimed = [replace(run, owner=self._replica, fence=run.fence + 1, lease_until=until) for run in found]
        for run in claimed:
            await self.change_run(run.id, owner=run.owner, fence=run.fence, lease_until=until)
        return claimed

    async def release(self, run_ids: Sequence[str]) -> None:
        """Give them back, for whoever comes first."""
        mine = (runs.c.owner == self._replica) & runs.c.finished_at.is_(None) & runs.c.id.in_(run_ids)
        await self.execute(update(runs).where(mine).values(owner=None))

    async def blocked(self, limit: int) -> list[Run]:
        """The runs that have waited longest at a gate."""
        waiting = select(runs).where(runs.c.finished_at.is_(None), runs.c.status == "blocked")
        return await self.all(Run, waiting.order_by(runs.c.created_at, runs.c.id).limit(limit))

    async def queue(self, limit: int) -> list[str]:
        """The runs that have waited longest for a place or a turn."""
        waiting = select(runs.c.id).where(_QUEUED).order_by(runs.c.created_at, runs.c.id).limit(limit)
        return list((await self.execute(waiting)).scalars())

    async def ahead(self, run: Run) -> int:
        """How many stand before it in that queue."""
        before = tuple_(runs.c.created_at, runs.c.id) < tuple_(literal(run.created_at), literal(run.id))
        found = await self.execute(select(func.count()).select_from(runs).where(_QUEUED, before))
        return int(found.scalar_one())

    async def change_run(self, run_id: str, **changes: object) -> None:
        await self.execute(update(runs).where(runs.c.id == run_id).values(**changes))
