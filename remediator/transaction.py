"""What is kept, and the few ways it changes. Every method of a `Transaction` is one statement or two.

A room with tables of its own keeps its statements in a module of its own, made over `one`, `all` and
`execute` (for example `Rollouts(tx).get(rollout_id)`).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, insert, or_, select, tuple_, update

from remediator.alerts import Alert
from remediator.database import Connection
from remediator.gates import Effect, Verdict
from remediator.model import (
    Approval,
    AuditEntry,
    Bot,
    ConfigVersion,
    Hold,
    Notification,
    Step,
    StoredAlert,
    StoredVerdict,
)
from remediator.run_rows import RunRows
from remediator.schema import (
    alerts,
    approvals,
    audit,
    bots,
    config_versions,
    facts,
    holds,
    notifications,
    runs,
    scaling,
    steps,
    verdicts,
)

BROUGHT: Final = ("deploy.asked", "adopt.asked")  # how a bot comes into the registry
ENGINE = "engine"  # the actor in the audit trail when the engine itself decided

ALERT_CHANGES: Final = ("status", "last_seen", "times_seen", "run_id", "ignored")
ALERT_FIELDS: Final = tuple(alerts.c.keys())
ALERT_VALUES: Final = attrgetter(*ALERT_FIELDS)
TRAIL_TEXT: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)

Episode = tuple[str, float]  # fingerprint, startsAt


class Transaction(RunRows):
    """One transaction, and one reading of the clock for all that is written in it."""

    def __init__(
        self, connection: Connection, now: float, replica: str, lease_seconds: float, alone: bool
    ) -> None:
        super().__init__(connection, now, replica, lease_seconds, alone)
        self._audit_head: str | None = None
        self._audited: list[dict[str, Any]] = []
        self._expected: set[Episode] = set()  # what is kept of them is in _alerts
        self._alerts: dict[Episode, StoredAlert] = {}
        self._new: dict[Episode, None] = {}
        self._changed: dict[Episode, None] = {}

    async def flush(self) -> None:
        """Write what was gathered: a thousand alerts take a few statements, not thousands."""
        if self._new:
            new = [dict(zip(ALERT_FIELDS, ALERT_VALUES(self._alerts[key]), strict=True)) for key in self._new]
            await self.execute(insert(alerts), new)
        if self._changed:
            episode = (alerts.c.fingerprint == bindparam("of")) & (alerts.c.starts_at == bindparam("since"))
            changed = update(alerts).where(episode)
            changed = changed.values({name: bindparam(f"new_{name}") for name in ALERT_CHANGES})
            await self.execute(
                changed,
                [
                    {"of": key[0], "since": key[1]}
                    | {f"new_{name}": getattr(self._alerts[key], name) for name in ALERT_CHANGES}
                    for key in self._changed
                ],
            )
        if self._audited:
            await self.execute(insert(audit), self._audited)
            await self.set_fact("audit_head", self._audit_head)
        self._audited, self._new, self._changed = [], {}, {}

    # bots

    async def bot(self, name: str) -> Bot | None:
        return await self.one(Bot, select(bots).where(bots.c.name == name))

    async def bots(self) -> list[Bot]:
        return await self.all(Bot, select(bots).order_by(bots.c.name))

    async def bots_named(self, names: Collection[str]) -> dict[str, Bot]:
        found = await self.among(Bot, select(bots), bots.c.name, names)
        return {bot.name: bot for bot in found}

    async def fleet(self, most: int) -> tuple[int, list[Bot]]:
        """How many active bots there are, and at most so many of them, drawn at random."""
        active = bots.c.state == "active"
        total = (await self.execute(select(func.count()).select_from(bots).where(active))).scalar_one()
        drawn = select(bots).where(active)
        if total > most:
            names = select(bots.c.name).where(active).order_by(func.random()).limit(most)
            drawn = drawn.where(bots.c.name.in_(names))
        return int(total), await self.all(Bot, drawn.order_by(bots.c.name))

    async def add_bot(self, bot: Bot) -> None:
        await self.execute(insert(bots).values(asdict(bot)))

    async def change_bot(self, name: str, **changes: object) -> None:
        await self.execute(update(bots).where(bots.c.name == name).values(updated_at=self.now, **changes))

    async def remove_bot(self, name: str) -> None:
        await self.execute(bots.delete().where(bots.c.name == name))

    # configurations of a bot

    async def versions(self, bot: str) -> list[ConfigVersion]:
        """Oldest first."""
        of_bot = select(config_versions).where(config_versions.c.bot == bot)
        return await self.all(ConfigVersion, of_bot.order_by(config_versions.c.version))

    async def version(self, bot: str, number: int | None = None) -> ConfigVersion | None:
        """That one, or the newest."""
        of_bot = select(config_versions).where(config_versions.c.bot == bot)
        if number is not None:
            of_bot = of_bot.where(config_versions.c.version == number)
        newest = of_bot.order_by(config_versions.c.version.desc()).limit(1)
        return await self.one(ConfigVersion, newest)

    async def add_version(self, version: ConfigVersion) -> None:
        await self.execute(insert(config_versions).values(asdict(version)))

    # alerts

    async def see_alert(self, alert: Alert, late: float) -> tuple[StoredAlert, bool]:
        """Keep it, and say whether it tells anything new.

        One that fires in the `late` seconds after it was resolved was overtaken on its way. One that fires
        after that was resolved by mistake: Alertmanager does so when it hears nothing of Prometheus for long.
        """
        kept = await self.alert(alert.fingerprint, alert.started)
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
            await self.add_alert(kept)
            return kept, True
        overtaken = (
            alert.status == "firing" and kept.status == "resolved" and self.now < kept.last_seen + late
        )
        status = "resolved" if overtaken else alert.status
        last_seen = kept.last_seen if overtaken else self.now
        seen = replace(kept, status=status, last_seen=last_seen, times_seen=kept.times_seen + 1)
        await self.change_alert(kept, status=status, last_seen=last_seen, times_seen=seen.times_seen)
        return seen, status != kept.status

    async def alert(self, fingerprint: str, starts_at: float) -> StoredAlert | None:
        key = (fingerprint, starts_at)
        if key not in self._expected:
            await self.expect([key])
        return self._alerts.get(key)

    async def expect(self, episodes: Collection[Episode]) -> None:
        """Read what is kept of these at once, before they are asked for one by one."""
        key = tuple_(alerts.c.fingerprint, alerts.c.starts_at)
        for kept in await self.among(StoredAlert, select(alerts), key, episodes):
            self._alerts[kept.fingerprint, kept.starts_at] = kept
        self._expected |= set(episodes)

    async def add_alert(self, kept: StoredAlert) -> None:
        key = (kept.fingerprint, kept.starts_at)
        self._alerts[key], self._new[key] = kept, None

    async def change_alert(self, alert: StoredAlert, **changes: object) -> None:
        key = (alert.fingerprint, alert.starts_at)
        self._alerts[key] = replace(self._alerts.get(key, alert), **changes)  # type: ignore[arg-type]
        if key not in self._new:
            self._changed[key] = None

    async def alerts_of(self, run_id: str) -> list[StoredAlert]:
        await self.flush()
        return await self.all(
            StoredAlert, select(alerts).where(alerts.c.run_id == run_id).order_by(alerts.c.first_seen)
        )

    async def firing_alerts(self, limit: int) -> list[StoredAlert]:
        await self.flush()
        return await self.all(
            StoredAlert,
            select(alerts)
            .where(alerts.c.status == "firing")
            .order_by(alerts.c.last_seen.desc())
            .limit(limit),
        )

    # steps and verdicts of a run

    async def steps(self, run_id: str) -> list[Step]:
        return await self.all(Step, select(steps).where(steps.c.run_id == run_id).order_by(steps.c.id))

    async def intend(self, run_id: str, name: str, request: Mapping[str, Any]) -> None:
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
        """The bots of other runs that are in the middle of a tier."""
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
        """When tiers were begun, in any run, oldest first."""
        found = await self.execute(
            select(steps.c.intended_at)
            .where(steps.c.name.in_(tiers), steps.c.intended_at > since)
            .order_by(steps.c.intended_at)
        )
        return list(found.scalars())

    async def attempts_of(self, bot: str, tiers: Sequence[str], since: float) -> int:
        """Tiers that were tried on the bot."""
        found = await self.execute(
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
        return int(found.scalar_one())

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
                    "why": verdict.why,
                }
                for verdict in judged
            ],
        )

    # what people read

    async def audit(
        self, event: str, *, bot: str = "", run_id: str = "", actor: str = ENGINE, **detail: object
    ) -> None:
        """Add to the trail. Each row's hash covers the row and the hash of the one before it."""
        if self._audit_head is None:
            newest = select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)
            self._audit_head = (await self.execute(newest)).scalar_one_or_none() or ""
        row = {"at": self.now, "actor": actor[:255], "event": event, "bot": bot[:63], "run_id": run_id}
        row["detail"] = detail
        self._audit_head = chained(self._audit_head, row)
        self._audited.append({"hash": self._audit_head, **row})

    async def audit_trail(self, *, bot: str | None, after: int | None, limit: int) -> list[AuditEntry]:
        """Oldest first: the entries that follow `after`, or the newest ones where it is None."""
        await self.flush()
        statement = select(audit).limit(limit)
        if bot is not None:
            statement = statement.where(audit.c.bot == bot)
        if after is not None:
            return await self.all(AuditEntry, statement.where(audit.c.id > after).order_by(audit.c.id))
        newest = await self.all(AuditEntry, statement.order_by(audit.c.id.desc()))
        return newest[::-1]

    async def notify(self, run_id: str, text: str) -> None:
        await self.execute(
            insert(notifications).values(at=self.now, run_id=run_id, text=text, tries=0, error="")
        )

    async def unsent(self, limit: int = 20) -> list[Notification]:
        waiting = notifications.c.sent_at.is_(None)
        return await self.all(
            Notification, select(notifications).where(waiting).order_by(notifications.c.id).limit(limit)
        )

    async def change_notification(self, notification_id: int, **changes: object) -> None:
        await self.execute(
            update(notifications).where(notifications.c.id == notification_id).values(**changes)
        )

    # what keeps recovery off, and what people decided

    async def holds(self) -> list[Hold]:
        """Those that are not over."""
        current = or_(holds.c.ends_at.is_(None), holds.c.ends_at > self.now)
        return await self.all(Hold, select(holds).where(current).order_by(holds.c.id))

    async def add_hold(self, **values: object) -> int:
        found = await self.execute(insert(holds).values(**values).returning(holds.c.id))
        return int(found.scalar_one())

    async def remove_hold(self, hold_id: int) -> bool:
        return (await self.execute(delete(holds).where(holds.c.id == hold_id))).rowcount == 1

    async def approval(self, run_id: str, tier: str) -> Approval | None:
        key = (approvals.c.run_id == run_id) & (approvals.c.tier == tier)
        return await self.one(Approval, select(approvals).where(key))

    async def open_approval(self, run_id: str) -> Approval | None:
        """What waits for a person's answer, or has waited too long."""
        unanswered = (approvals.c.run_id == run_id) & (approvals.c.decision == "")
        return await self.one(Approval, select(approvals).where(unanswered))

    async def ask_approval(self, run_id: str, tier: str, expires_at: float) -> None:
        asked = Approval(run_id, tier, self.now, expires_at, "", "")
        await self.execute(insert(approvals).values(asdict(asked)))

    async def decide_approval(self, run_id: str, decision: str, actor: str) -> Approval | None:
        """Answer what is being asked of this run; None where nothing is (any more)."""
        open_ = (approvals.c.run_id == run_id) & (approvals.c.decision == "")
        asked = await self.one(Approval, select(approvals).where(open_, approvals.c.expires_at > self.now))
        if asked is not None:
            await self.execute(update(approvals).where(open_).values(decision=decision, actor=actor[:255]))
        return asked

    async def turn(self, name: str, seconds: float) -> bool:
        """Whether this replica has the turn at what only one should do at a time, for so long from now."""
        if self._alone:
            return True
        kept = await self.fact(f"turn:{name}")
        if kept and kept["replica"] != self._replica and kept["until"] >= self.now:
            return False
        await self.set_fact(f"turn:{name}", {"replica": self._replica, "until": self.now + seconds})
        return True

    async def fact(self, name: str) -> Any:
        """None where it was never set."""
        found = await self.execute(select(facts.c.value).where(facts.c.name == name))
        return found.scalar_one_or_none()

    async def set_fact(self, name: str, value: object) -> None:
        changed = update(facts).where(facts.c.name == name).values(value=value)
        if (await self.execute(changed)).rowcount == 0:
            await self.execute(insert(facts).values(name=name, value=value))

    # scaling

    async def scaling(self, template: str, environment: str) -> dict[str, Any]:
        """What is kept of that group; nothing where it never was looked at."""
        of = (scaling.c.template == template) & (scaling.c.environment == environment)
        found = (await self.execute(select(scaling.c.state).where(of))).scalar_one_or_none()
        return dict(found or {})

    async def keep_scaling(self, template: str, environment: str, state: Mapping[str, Any]) -> None:
        of = (scaling.c.template == template) & (scaling.c.environment == environment)
        if (await self.execute(update(scaling).where(of).values(state=dict(state)))).rowcount == 0:
            row = {"template": template, "environment": environment, "state": dict(state)}
            await self.execute(insert(scaling).values(row))

    async def brought_by(self, bots: Collection[str]) -> dict[str, str]:
        """Who asked for each of these bots, by deploying or adopting it, as the audit trail has it."""
        asked = select(audit.c.bot, audit.c.actor).where(
            audit.c.event.in_(BROUGHT), audit.c.bot.in_(list(bots))
        )
        found = await self.execute(asked.order_by(audit.c.id))
        return {row.bot: row.actor for row in found}  # the newest: a name may be used again


def chained(before: str, row: Mapping[str, Any]) -> str:
    """The hash of an audit row on top of the one before it."""
    return sha256(f"{before}\n{TRAIL_TEXT.encode(row)}".encode()).hexdigest()
