"""Transactions over the tables in memory."""

import itertools
import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from remediator.model import (
    Approval,
    AuditEntry,
    Bot,
    ConfigVersion,
    Episode,
    Hold,
    Notification,
    StoredAlert,
)
from remediator.store.audit import ENGINE, REGISTRATIONS, chained, row_of
from remediator.store.errors import ConflictError
from remediator.store.lease import may_lead
from sandbox.simulator.memory_runs import MemoryRuns


class MemoryTransaction(MemoryRuns):
    """Fulfils `remediator.store.transaction.Transaction`, as far as what is simulated asks for it."""

    # bots

    async def bot(self, name: str) -> Bot | None:
        return self.tables.bots.get(name)

    async def bots(self) -> list[Bot]:
        return sorted(self.tables.bots.values(), key=lambda bot: bot.name)

    async def bots_named(self, names: Collection[str]) -> dict[str, Bot]:
        return {name: self.tables.bots[name] for name in names if name in self.tables.bots}

    async def fleet(self, sample: int) -> tuple[int, list[Bot]]:
        active = [bot for bot in await self.bots() if bot.state == "active"]
        return len(active), active if len(active) <= sample else random.sample(active, sample)

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
        versions = [version for version in await self.versions(bot) if number in (None, version.version)]
        return versions[-1] if versions else None

    async def add_version(self, version: ConfigVersion) -> None:
        earlier = self.tables.versions.get(version.bot, ())
        if version.version in [other.version for other in earlier]:
            raise ConflictError(f"version {version.version} of {version.bot} is there already")
        self._put("versions", version.bot, (*earlier, version))

    # alerts

    async def alert(self, fingerprint: str, starts_at: float) -> StoredAlert | None:
        return self.tables.alerts.get((fingerprint, starts_at))

    async def load_alerts(self, episodes: Collection[Episode]) -> None:
        """Do nothing: all of them are in memory."""

    async def present_episodes(self, fingerprint: str) -> list[StoredAlert]:
        episodes = [alert for alert in self.tables.alerts.values() if alert.fingerprint == fingerprint]
        newest = max((alert.starts_at for alert in episodes), default=0.0)
        return [alert for alert in episodes if alert.status == "firing" or alert.starts_at == newest]

    async def add_alert(self, alert: StoredAlert) -> None:
        self._add("alerts", alert.episode, alert)

    async def change_alert(self, alert: StoredAlert, **changes: Any) -> None:
        if alert.episode in self.tables.alerts:
            self._put("alerts", alert.episode, replace(self.tables.alerts[alert.episode], **changes))

    async def alerts_of(self, run_id: str) -> list[StoredAlert]:
        alerts = [alert for alert in self.tables.alerts.values() if alert.run_id == run_id]
        return sorted(alerts, key=lambda alert: alert.first_seen)

    async def firing_alerts(self, limit: int) -> list[StoredAlert]:
        alerts = [alert for alert in self.tables.alerts.values() if alert.status == "firing"]
        return sorted(alerts, key=lambda alert: -alert.last_seen)[:limit]

    # rollouts

    async def cancel_rollouts(self, reason: str) -> None:
        raise NotImplementedError("rollouts are not simulated")

    # the audit trail

    async def audit(
        self, event: str, *, bot: str = "", run_id: str = "", actor: str = ENGINE, **detail: object
    ) -> None:
        row = row_of(event, bot, run_id, actor, detail, self.now)
        head = chained(await self.fact("audit_head") or "", row)
        number = len(self._trail) + len(self.entries) + 1
        self.entries.append(AuditEntry(id=number, hash=head, **row))
        await self.set_fact("audit_head", head)

    async def audit_trail(self, *, bot: str | None, after: int | None, limit: int) -> list[AuditEntry]:
        trail = [entry for entry in [*self._trail, *self.entries] if bot is None or entry.bot == bot]
        if after is None:
            return trail[-limit:]
        return [entry for entry in trail if entry.id > after][:limit]

    async def deployed_by(self, bots: Collection[str]) -> dict[str, str]:
        trail = itertools.chain(self._trail, self.entries)
        registrations = (entry for entry in trail if entry.event in REGISTRATIONS)
        return {entry.bot: entry.actor for entry in registrations if entry.bot in bots}

    # messages to people

    async def notify(self, run_id: str, text: str) -> None:
        number = len(self.tables.notifications) + 1
        self._put("notifications", number, Notification(number, self.now, run_id, text, 0, "", None))

    async def unsent(self, limit: int = 20) -> list[Notification]:
        waiting = [message for message in self.tables.notifications.values() if message.sent_at is None]
        return waiting[:limit]

    async def change_notification(self, notification_id: int, **changes: Any) -> None:
        message = self.tables.notifications[notification_id]
        self._put("notifications", notification_id, replace(message, **changes))

    # what people decide

    async def holds(self) -> list[Hold]:
        holds = self.tables.holds.values()
        return [hold for hold in holds if hold.ends_at is None or hold.ends_at > self.now]

    async def add_hold(self, **values: Any) -> int:
        number = max(self.tables.holds, default=0) + 1
        self._put("holds", number, Hold(id=number, **values))
        return number

    async def remove_hold(self, hold_id: int) -> bool:
        return self._drop("holds", hold_id)

    async def approval(self, run_id: str, tier: str) -> Approval | None:
        return self.tables.approvals.get((run_id, tier))

    async def open_approval(self, run_id: str) -> Approval | None:
        unanswered = (approval for approval in self.tables.approvals.values() if not approval.decision)
        return next((approval for approval in unanswered if approval.run_id == run_id), None)

    async def ask_approval(self, run_id: str, tier: str, expires_at: float) -> None:
        self._add("approvals", (run_id, tier), Approval(run_id, tier, self.now, expires_at, "", ""))

    async def decide_approval(self, run_id: str, decision: Any, actor: str) -> Approval | None:
        approval = await self.open_approval(run_id)
        if approval is None or approval.expires_at <= self.now:
            return None
        answered = replace(approval, decision=decision, actor=actor[:255])
        self._put("approvals", (run_id, approval.tier), answered)
        return approval

    # facts

    async def fact(self, name: str) -> Any:
        return self.tables.facts.get(name)

    async def set_fact(self, name: str, value: object) -> None:
        self._put("facts", name, value)

    async def try_lead(self, role: str, seconds: float) -> bool:
        if self.replica.alone:
            return True
        if not may_lead(await self.fact(f"turn:{role}"), self.replica.name, self.now):
            return False
        await self.set_fact(f"turn:{role}", {"replica": self.replica.name, "until": self.now + seconds})
        return True

    async def scaling(self, template: str, environment: str) -> dict[str, Any]:
        return dict(self.tables.scaled.get((template, environment), {}))

    async def scaling_states(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {group: dict(state) for group, state in self.tables.scaled.items()}

    async def set_scaling(self, template: str, environment: str, state: Mapping[str, Any]) -> None:
        self._put("scaled", (template, environment), dict(state))
