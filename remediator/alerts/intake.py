"""Alerts in: stored, and made into runs, in the transaction that the 2xx stands for.

Called by the API for each payload; the runs that are returned are for the engine to drive.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import structlog

from remediator.alerts.decide import Decision, Ignore, Join, Start, decide, new_run_id
from remediator.alerts.webhook import Alert, Webhook
from remediator.metrics import Metrics
from remediator.model import Bot, Run, StoredAlert
from remediator.notifications.messages import truncated
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from remediator.timestamps import DAY

log = structlog.get_logger()

LOG_LINES: Final = 20  # that a payload is worth; further ones are counted

TRUNCATION: Final = "alerts_truncated"  # the fact: when a payload last was (Unix seconds)
TRUNCATION_OVER: Final = DAY  # seconds without one after which the next is news: repeat_interval is hours

ReceivedAlert = tuple[Alert, StoredAlert]
"""As it was sent, and as it is stored."""


@dataclass
class Received:
    """What follows from a payload."""

    started: list[Run] = field(default_factory=list)
    concerned: set[str] = field(default_factory=set)  # ids of runs that should be woken
    ignored: list[tuple[StoredAlert, str]] = field(default_factory=list)  # as stored before, and the reason


@dataclass
class _Registry:
    """The bots of a payload and their runs, read at once: a thousand alerts take a few statements."""

    now: float
    relapse_after: float
    bots: dict[str, Bot]
    active: dict[str, Run]  # by bot; a run that is started is added
    last: dict[str, Run]  # by bot
    runs: dict[str, Run]  # by id, those that alerts belong to

    @classmethod
    async def read(cls, tx: Transaction, firing: Sequence[ReceivedAlert], relapse_after: float) -> Self:
        """Read all that `decide` needs for these alerts."""
        bots = await tx.bots_named({alert.bot for alert, _ in firing})
        active, last = await tx.active_runs_of(bots), await tx.last_recoveries(bots)
        runs = {run.id: run for run in (*active.values(), *last.values())}
        runs |= await tx.runs_named({stored.run_id for _, stored in firing if stored.run_id} - runs.keys())
        return cls(tx.now, relapse_after, bots, active, last, runs)

    def decide(self, alert: Alert, stored: StoredAlert) -> Decision:
        """Decide on one of the alerts, given those before it."""
        return decide(
            alert,
            first_seen=stored.first_seen,
            bot=self.bots.get(alert.bot),
            active=self.active.get(alert.bot),
            own=self.runs.get(stored.run_id or ""),
            last=self.last.get(alert.bot),
            now=self.now,
            relapse_after=self.relapse_after,
        )

    def new_run_ids(self, firing: Sequence[ReceivedAlert]) -> set[str]:
        """Return the ids of all runs that these alerts might start."""
        return {
            new_run_id(alert, stored.first_seen, self.last.get(alert.bot))
            for alert, stored in firing
            if alert.bot in self.bots and alert.bot not in self.active
        }


async def receive(store: Store, webhook: Webhook, metrics: Metrics, relapse_after: float) -> Received:
    """Store every alert and start the runs that are due, in one transaction.

    Whatever is resent, reordered or sent by two Alertmanagers finds what its twin left behind.
    `relapse_after`: seconds, see `decide`.
    """
    async with store.write() as tx:
        await tx.load_alerts({alert.episode for alert in webhook.alerts})
        alerts: list[ReceivedAlert] = []
        for alert in webhook.alerts:
            stored, changed = await store_alert(tx, alert, relapse_after)
            alerts.append((alert, stored))
            if changed:
                await _audit(tx, alert)
        received = await _start_runs(tx, alerts, relapse_after)
        if webhook.truncated:
            await _record_truncation(tx, webhook.truncated)
    _report(webhook, received, metrics)
    return received


async def _record_truncation(tx: Transaction, count: int) -> None:
    """Tell people of alerts that were left out, once while it lasts: every payload says it anew."""
    last = await tx.fact(TRUNCATION)
    await tx.set_fact(TRUNCATION, tx.now)
    await tx.audit("alerts.truncated", actor="alertmanager", count=count)
    if last is None or tx.now - last > TRUNCATION_OVER:
        await tx.notify("", truncated(count))


async def store_alert(tx: Transaction, alert: Alert, late: float) -> tuple[StoredAlert, bool]:
    """Write the alert down. Return it as stored, and whether it says anything new.

    One that fires in the `late` seconds after it was resolved was overtaken on its way. One that fires
    after that was resolved by mistake: Alertmanager does so when it hears nothing of Prometheus for long.
    A fingerprint has one present state, that of its newest episode: an earlier one that still fires flapped,
    and its resolution was lost.
    """
    known = await tx.alert(alert.fingerprint, alert.started)
    stored = known or _first_seen(alert, tx.now)
    others = [other for other in await tx.present_episodes(alert.fingerprint) if other != known]
    later = [other for other in others if other.began > stored.began]
    fires = alert.status == "firing"
    superseded = fires and any(_is_recent(other, tx.now, late) for other in later)
    if not superseded:
        await _resolve(tx, [other for other in others if other not in later], alert)
    if known is None:
        stored = replace(stored, status="resolved" if superseded else alert.status)
        await tx.add_alert(stored)
        return stored, True
    overtaken = superseded or (fires and known.status == "resolved" and _is_recent(known, tx.now, late))
    changes: dict[str, Any] = {"status": "resolved" if overtaken else alert.status}
    changes |= {"last_seen": known.last_seen if overtaken else tx.now, "times_seen": known.times_seen + 1}
    await tx.change_alert(known, **changes)
    changed = replace(known, **changes)
    return changed, changed.status != known.status


def _first_seen(alert: Alert, now: float) -> StoredAlert:
    return StoredAlert(
        fingerprint=alert.fingerprint,
        starts_at=alert.started,
        name=alert.name,
        bot=alert.bot[:63],
        status=alert.status,
        labels=alert.labels,
        annotations=alert.annotations,
        first_seen=now,
        last_seen=now,
        times_seen=1,
        run_id=None,
        ignored="",
    )


async def _resolve(tx: Transaction, earlier: Sequence[StoredAlert], alert: Alert) -> None:
    """Resolve what fires of the earlier episodes: the alert is the same one's next."""
    for other in earlier:
        if other.status == "firing":
            await tx.change_alert(other, status="resolved", last_seen=tx.now)
            why = f"it began again at {alert.starts_at.isoformat()}"
            facts = {"alert": other.name, "fingerprint": other.fingerprint, "why": why}
            await tx.audit("alert.resolved", bot=other.bot, actor="alertmanager", **facts)


def _is_recent(other: StoredAlert, now: float, late: float) -> bool:
    return other.status == "firing" or now < other.last_seen + late


async def _start_runs(tx: Transaction, alerts: Sequence[ReceivedAlert], relapse_after: float) -> Received:
    """Start or join a recovery for each firing alert."""
    alerts = [(alert, await tx.alert(*alert.episode) or stored) for alert, stored in alerts]
    firing = [(alert, stored) for alert, stored in alerts if stored.status == "firing"]
    registry = await _Registry.read(tx, firing, relapse_after)
    existing_ids = set(await tx.runs_named(registry.new_run_ids(firing)))
    new_runs: list[Run] = []
    resolved = {stored.run_id for _, stored in alerts if stored.status != "firing" and stored.run_id}
    received = Received(concerned=resolved)
    for alert, stored in firing:
        match registry.decide(alert, stored):
            case Ignore(reason):
                await tx.change_alert(stored, ignored=reason)
                received.ignored.append((stored, reason))
            case Join(run_id):
                if stored.run_id != run_id:
                    await tx.change_alert(stored, run_id=run_id, ignored="")
            case Start(run_id):
                if run_id not in existing_ids:
                    existing_ids.add(run_id)
                    registry.active[alert.bot] = run = _recovery(alert, run_id, tx.now)
                    new_runs.append(run)
                    await tx.audit(
                        "run.started", bot=run.bot, run_id=run_id, actor="alertmanager", alert=alert.name
                    )
                await tx.change_alert(stored, run_id=run_id, ignored="")
    received.started = await tx.add_runs(new_runs)
    return received


def _recovery(alert: Alert, run_id: str, at: float) -> Run:
    reason = f"{alert.name} is firing"
    return Run.begin(
        "recover",
        bot=alert.bot,
        trigger="alert",
        method=alert.first_tier,
        reason=reason,
        at=at,
        run_id=run_id,
    )


async def _audit(tx: Transaction, alert: Alert) -> None:
    await tx.audit(
        f"alert.{alert.status}",
        bot=alert.bot,
        actor="alertmanager",
        alert=alert.name,
        fingerprint=alert.fingerprint,
        starts_at=alert.starts_at.isoformat(),
    )


def _report(webhook: Webhook, received: Received, metrics: Metrics) -> None:
    """Count it once it is on disk, and log it so that a fleet's end does not flood the log."""
    for status, count in Counter(alert.status for alert in webhook.alerts).items():
        metrics.alerts.labels(status).inc(count)
    for reason, count in Counter(reason for _, reason in received.ignored).items():
        metrics.ignored.labels(reason).inc(count)
    for run in received.started[:LOG_LINES]:
        log.info("run started", run=run.id, bot=run.bot, why=run.reason)
    newly_ignored = [(stored, reason) for stored, reason in received.ignored if reason != stored.ignored]
    for stored, reason in newly_ignored[:LOG_LINES]:
        log.info("alert starts nothing", alert=stored.name, bot=stored.bot, reason=reason)
    if max(len(received.started), len(newly_ignored)) > LOG_LINES:
        log.warning(
            "a large payload", runs_started=len(received.started), starting_nothing=len(newly_ignored)
        )
    metrics.ignored.labels("malformed").inc(len(webhook.malformed))
    for refused in webhook.malformed[:LOG_LINES]:
        log.error("no alert, left out of its payload", field=refused.field, reason=refused.message)
    if webhook.truncated:
        metrics.truncated.inc(webhook.truncated)
        log.error("alerts were left out", count=webhook.truncated, remedy="set max_alerts: 0")
