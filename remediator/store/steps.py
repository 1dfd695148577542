"""The steps of runs, and the verdicts of the gates that held them back or let them go on."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import case, func, insert, select, update

from remediator.model import Bot, Effect, Step, StoredVerdict, Verdict
from remediator.store.schema import bots, runs, steps, verdicts
from remediator.store.statements import Statements


class StepQueries(Statements):
    """The statements on `steps` and `verdicts`."""

    async def steps(self, run_id: str) -> list[Step]:
        return await self.all(Step, select(steps).where(steps.c.run_id == run_id).order_by(steps.c.id))

    async def steps_of_recent_runs(self, kind: str, statuses: Sequence[str], limit: int) -> list[Step]:
        newest = (
            select(runs.c.id)
            .where(runs.c.kind == kind, runs.c.status.in_(statuses))
            .order_by(runs.c.finished_at.desc())
            .limit(limit)
        )
        of_runs = select(steps).where(steps.c.run_id.in_(newest))
        return await self.all(Step, of_runs.order_by(steps.c.run_id, steps.c.id))

    async def add_step(self, run_id: str, name: str, request: Mapping[str, Any]) -> None:
        await self.execute(
            insert(steps).values(
                run_id=run_id,
                name=name,
                state="intended",
                request=dict(request),
                result={},
                detail="",
                intended_at=self.now,
            )
        )

    async def change_step(self, run_id: str, name: str, **changes: object) -> None:
        await self.execute(
            update(steps).where(steps.c.run_id == run_id, steps.c.name == name).values(**changes)
        )

    async def in_flight(self, tiers: Sequence[str], excluding: str) -> list[Bot]:
        acting = (
            select(runs.c.bot)
            .join(steps, runs.c.id == steps.c.run_id)
            .where(
                runs.c.finished_at.is_(None),
                steps.c.name.in_(tiers),
                steps.c.state.in_(("intended", "acted")),
                steps.c.run_id != excluding,
            )
        )
        return await self.all(Bot, select(bots).where(bots.c.name.in_(acting)))

    async def intents(self, tiers: Sequence[str], since: float) -> list[float]:
        rows = await self.execute(
            select(steps.c.intended_at)
            .where(steps.c.name.in_(tiers), steps.c.intended_at > since)
            .order_by(steps.c.intended_at)
        )
        return list(rows.scalars())

    async def attempts_of(self, bot: str, tiers: Sequence[str], since: float) -> int:
        rows = await self.execute(
            select(func.count())
            .select_from(steps.join(runs, runs.c.id == steps.c.run_id))
            .where(
                runs.c.bot == bot,
                runs.c.trigger == "alert",
                steps.c.name.in_(tiers),
                steps.c.state != "shadowed",
                steps.c.intended_at > since,
            )
        )
        return int(rows.scalar_one())

    async def launched_by(self, bot: Bot) -> Mapping[str, Any] | None:
        of_bot = steps.join(runs, runs.c.id == steps.c.run_id)
        launches = (runs.c.bot == bot.name) & steps.c.name.like("launch%") & (steps.c.state == "done")
        newest = select(steps).select_from(of_bot).where(launches).order_by(steps.c.id.desc())
        for step in await self.all(Step, newest):
            if step.result.get("instance_id") == bot.instance_id and "UserData" in step.request:
                return step.request
        return None

    async def verdicts(self, run_id: str) -> list[StoredVerdict]:
        return await self.all(
            StoredVerdict, select(verdicts).where(verdicts.c.run_id == run_id).order_by(verdicts.c.id)
        )

    async def add_verdicts(self, run_id: str, tier: str, judged: Sequence[Verdict]) -> None:
        await self.execute(
            insert(verdicts),
            [
                {
                    "run_id": run_id,
                    "at": self.now,
                    "tier": tier,
                    "gate": verdict.gate,
                    "allowed": verdict.effect is Effect.go,
                    "why": verdict.reason,
                }
                for verdict in judged
            ],
        )

    async def steps_under_way(self) -> dict[str, list[Step]]:
        request = case((steps.c.name == "plan", steps.c.request), else_=None).label("request")
        times = (steps.c.intended_at, steps.c.acted_at, steps.c.finished_at)
        deployments = runs.c.finished_at.is_(None) & (runs.c.kind != "recover")
        rows = await self.execute(
            select(steps.c.id, steps.c.run_id, steps.c.name, steps.c.state, request, *times)
            .join(runs, runs.c.id == steps.c.run_id)
            .where(deployments)
            .order_by(steps.c.run_id, steps.c.id)
        )
        by_run: dict[str, list[Step]] = {}
        for row in rows:
            step = Step(**{**row._mapping, "request": row.request or {}}, result={}, detail="")
            by_run.setdefault(row.run_id, []).append(step)
        return by_run
