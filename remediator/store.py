"""What is kept, and the few ways it changes. Every method of a `Transaction` is one statement or two."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Any, Self, TypeVar

from sqlalchemy import Executable, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from remediator.alerts import Alert
from remediator.database import Database
from remediator.gates import Effect, Verdict
from remediator.model import AuditEntry, Bot, Notification, Run, Step, StoredAlert, StoredVerdict
from remediator.schema import alerts, audit, bots, notifications, runs, steps, verdicts

ENGINE = "engine"  # the actor in the audit trail when the engine itself decided

T = TypeVar("T")


class Transaction:
    """One transaction, and one reading of the clock for all that is written in it."""

    def __init__(self, connection: AsyncConnection, now: float) -> None:
        self._connection = connection
        self.now = now

    async def _one(self, kind: Callable[..., T], statement: Executable) -> T | None:
        row = (await self._connection.execute(statement)).first()
        return None if row is None else kind(**row._mapping)

    async def _all(self, kind: Callable[..., T], statement: Executable) -> list[T]:
        return [kind(**row._mapping) for row in await self._connection.execute(statement)]

    # bots

    async def bot(self, name: str) -> Bot | None:
        return await self._one(Bot, select(bots).where(bots.c.name == name))

    async def bots(self) -> list[Bot]:
        return await self._all(Bot, select(bots).order_by(bots.c.name))

    async def add_bot(self, bot: Bot) -> None:
        await self._connection.execute(insert(bots).values(asdict(bot)))

    async def change_bot(self, name: str, **changes: object) -> None:
        await self._connection.execute(
            update(bots).where(bots.c.name == name).values(updated_at=self.now, **changes)
        )

    async def remove_bot(self, name: str) -> None:
        await self._connection.execute(bots.delete().where(bots.c.name == name))

    # runs

    async def run(self, run_id: str) -> Run | None:
        return await self._one(Run, select(runs).where(runs.c.id == run_id))

    async def active_runs(self) -> list[Run]:
        return await self._all(
            Run, select(runs).where(runs.c.finished_at.is_(None)).order_by(runs.c.created_at)
        )

    async def active_run(self, bot: str) -> Run | None:
        return await self._one(Run, select(runs).where(runs.c.bot == bot, runs.c.finished_at.is_(None)))

    async def last_recovery(self, bot: str) -> Run | None:
        """The bot's most recent recovery that ended."""
        ended = runs.c.finished_at.is_not(None)
        return await self._one(
            Run,
            select(runs)
            .where(runs.c.bot == bot, runs.c.kind == "recover", ended)
            .order_by(runs.c.finished_at.desc())
            .limit(1),
        )

    async def recent_runs(self, kind: str, limit: int) -> list[Run]:
        return await self._all(
            Run, select(runs).where(runs.c.kind == kind).order_by(runs.c.created_at.desc()).limit(limit)
        )

    async def add_run(self, run: Run) -> None:
        await self._connection.execute(insert(runs).values(asdict(run)))

    async def change_run(self, run_id: str, **changes: object) -> None:
        await self._connection.execute(update(runs).where(runs.c.id == run_id).values(**changes))

    # alerts

    async def see_alert(self, alert: Alert, late: float) -> tuple[StoredAlert, bool]:
        """Keep it, and say whether it tells anything new.

        One that fires in the `late` seconds after it was resolved was overtaken on its way. One that fires
        after that was resolved by mistake: Alertmanager does so when it hears nothing of Prometheus for long.
        """
        episode = (alerts.c.fingerprint == alert.fingerprint) & (alerts.c.starts_at == alert.started)
        kept = await self._one(StoredAlert, select(alerts).where(episode))
        if kept is None:
            kept = StoredAlert(
                fingerprint=alert.fingerprint,
                starts_at=alert.started,
                name=alert.name,
                bot=alert.bot[:63],
                status=alert.status,
                labels=alert.labels,
                annotations=alert.annotations,
                first_seen=self.now,
                last_seen=self.now,
                times_seen=1,
                run_id=None,
                ignored="",
            )
            await self._connection.execute(insert(alerts).values(asdict(kept)))
            return kept, True
        overtaken = (
            alert.status == "firing" and kept.status == "resolved" and self.now < kept.last_seen + late
        )
        status = "resolved" if overtaken else alert.status
        last_seen = kept.last_seen if overtaken else self.now
        seen = replace(kept, status=status, last_seen=last_seen, times_seen=kept.times_seen + 1)
        await self.change_alert(kept, status=status, last_seen=last_seen, times_seen=seen.times_seen)
        return seen, status != kept.status

    async def change_alert(self, alert: StoredAlert, **changes: object) -> None:
        await self._connection.execute(
            update(alerts)
            .where(alerts.c.fingerprint == alert.fingerprint, alerts.c.starts_at == alert.starts_at)
            .values(**changes)
        )

    async def alerts_of(self, run_id: str) -> list[StoredAlert]:
        return await self._all(
            StoredAlert, select(alerts).where(alerts.c.run_id == run_id).order_by(alerts.c.first_seen)
        )

    async def firing_alerts(self, limit: int) -> list[StoredAlert]:
        return await self._all(
            StoredAlert,
            select(alerts)
            .where(alerts.c.status == "firing")
            .order_by(alerts.c.last_seen.desc())
            .limit(limit),
        )

    # steps and verdicts of a run

    async def steps(self, run_id: str) -> list[Step]:
        return await self._all(Step, select(steps).where(steps.c.run_id == run_id).order_by(steps.c.id))

    async def intend(self, run_id: str, name: str, request: Mapping[str, Any]) -> None:
        await self._connection.execute(
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
        await self._connection.execute(
            update(steps).where(steps.c.run_id == run_id, steps.c.name == name).values(**changes)
        )

    async def in_flight(self, tiers: Sequence[str], excluding: str) -> int:
        """Other runs that are in the middle of a tier."""
        statement = (
            select(func.count(steps.c.run_id.distinct()))
            .join(runs, runs.c.id == steps.c.run_id)
            .where(
                runs.c.finished_at.is_(None),
                steps.c.name.in_(tiers),
                steps.c.state.in_(("intended", "acted")),
                steps.c.run_id != excluding,
            )
        )
        return int((await self._connection.execute(statement)).scalar_one())

    async def verdicts(self, run_id: str) -> list[StoredVerdict]:
        return await self._all(
            StoredVerdict, select(verdicts).where(verdicts.c.run_id == run_id).order_by(verdicts.c.id)
        )

    async def add_verdicts(self, run_id: str, tier: str, judged: Sequence[Verdict]) -> None:
        await self._connection.execute(
            insert(verdicts),
            [
                {
                    "run_id": run_id,
                    "at": self.now,
                    "tier": tier,
                    "gate": verdict.gate,
                    "allowed": verdict.effect is Effect.go,
                    "why": verdict.why,
                }
                for verdict in judged
            ],
        )

    # what people read

    async def audit(
        self, event: str, *, bot: str = "", run_id: str = "", actor: str = ENGINE, **detail: object
    ) -> None:
        await self._connection.execute(
            insert(audit).values(
                at=self.now, actor=actor[:255], event=event, bot=bot[:63], run_id=run_id, detail=detail
            )
        )

    async def audit_trail(self, *, bot: str | None, after: int | None, limit: int) -> list[AuditEntry]:
        """Oldest first: the entries that follow `after`, or the newest ones where it is None."""
        statement = select(audit).limit(limit)
        if bot is not None:
            statement = statement.where(audit.c.bot == bot)
        if after is not None:
            return await self._all(AuditEntry, statement.where(audit.c.id > after).order_by(audit.c.id))
        newest = await self._all(AuditEntry, statement.order_by(audit.c.id.desc()))
        return newest[::-1]

    async def notify(self, run_id: str, text: str) -> None:
        await self._connection.execute(
            insert(notifications).values(at=self.now, run_id=run_id, text=text, tries=0, error="")
        )

    async def unsent(self, limit: int = 20) -> list[Notification]:
        waiting = notifications.c.sent_at.is_(None)
        return await self._all(
            Notification, select(notifications).where(waiting).order_by(notifications.c.id).limit(limit)
        )

    async def change_notification(self, notification_id: int, **changes: object) -> None:
        await self._connection.execute(
            update(notifications).where(notifications.c.id == notification_id).values(**changes)
        )


class Store:
    """Opens transactions. The clock is an argument, so that a test owns the time."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self.clock = database, clock

    @classmethod
    async def open(cls, url: str, clock: Callable[[], float] = time.time) -> Self:
        return cls(await Database.open(url), clock)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        async with self._database.write() as connection:
            yield Transaction(connection, self.clock())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        async with self._database.read() as connection:
            yield Transaction(connection, self.clock())

    async def close(self) -> None:
        await self._database.close()
