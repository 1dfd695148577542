"""Alerts in: kept, and turned into runs, in the transaction that the 2xx stands for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from remediator.alerts import Alert, Decision, Ignore, Join, Start, Webhook, decide
from remediator.metrics import Metrics
from remediator.model import Bot, Run, StoredAlert
from remediator.store import Store
from remediator.transaction import Transaction
from remediator.words import truncated

log = structlog.get_logger()

FEW = 20  # lines of the log that a payload is worth; what there is more of is counted

Seen = tuple[Alert, StoredAlert]


@dataclass
class Taken:
    """What follows from a payload: runs begun, runs that should hear of it, alerts that began nothing."""

    started: list[Run] = field(default_factory=list)
    concerned: set[str] = field(default_factory=set)
    ignored: list[tuple[StoredAlert, str]] = field(default_factory=list)  # as it was before, and why


@dataclass
class _Known:
    """The bots of a payload and their runs, read at once: a thousand alerts take a few statements."""

    now: float
    relapse_after: float
    bots: dict[str, Bot]
    active: dict[str, Run]  # by bot, and kept so
    last: dict[str, Run]
    runs: dict[str, Run]  # by id, those that alerts belong to

    def decide(self, alert: Alert, kept: StoredAlert) -> Decision:
        return decide(
            alert,
            first_seen=kept.first_seen,
            bot=self.bots.get(alert.bot),
            active=self.active.get(alert.bot),
            own=self.runs.get(kept.run_id or ""),
            last=self.last.get(alert.bot),
            now=self.now,
            relapse_after=self.relapse_after,
        )


async def take_in(store: Store, webhook: Webhook, metrics: Metrics, relapse_after: float) -> Taken:
    """Keep every alert and begin what is due.

    Whatever is resent, reordered or sent by two Alertmanagers finds what its twin left behind.
    """
    async with store.write() as tx:
        await tx.expect({alert.episode for alert in webhook.alerts})
        seen: list[Seen] = []
        for alert in webhook.alerts:
            kept, news = await tx.see_alert(alert, relapse_after)
            seen.append((alert, kept))
            if news:
                await _audit(tx, alert)
        taken = await _follow(tx, seen, relapse_after)
        if webhook.truncated:
            await tx.notify("", truncated(webhook.truncated))
            await tx.audit("alerts.truncated", actor="alertmanager", count=webhook.truncated)
    _tell(webhook, taken, metrics)
    return taken


async def _follow(tx: Transaction, seen: Sequence[Seen], relapse_after: float) -> Taken:
    """What was seen, made into runs."""
    firing = [(alert, kept) for alert, kept in seen if kept.status == "firing"]
    names = {alert.bot for alert, _ in firing}
    bots = await tx.bots_named(names)
    active, last = await tx.active_runs_of(bots), await tx.last_recoveries(bots)
    runs = {run.id: run for run in (*active.values(), *last.values())}
    runs |= await tx.runs_named({kept.run_id for _, kept in firing if kept.run_id} - runs.keys())
    known = _Known(tx.now, relapse_after, bots, active, last, runs)
    wished = [decision for one in firing if isinstance(decision := known.decide(*one), Start)]
    there = set(await tx.runs_named({decision.run_id for decision in wished}))
    begun: list[Run] = []
    taken = Taken(concerned={kept.run_id for _, kept in seen if kept.status != "firing" and kept.run_id})
    for alert, kept in firing:
        match known.decide(alert, kept):
            case Ignore(reason):
                await tx.change_alert(kept, ignored=reason)
                taken.ignored.append((kept, reason))
            case Join(run_id):
                if kept.run_id != run_id:
                    await tx.change_alert(kept, run_id=run_id, ignored="")
            case Start(run_id):
                if run_id not in there:
                    there.add(run_id)
                    known.active[alert.bot] = run = _run(alert, run_id, tx.now)
                    begun.append(run)
                    await tx.audit(
                        "run.started", bot=run.bot, run_id=run_id, actor="alertmanager", alert=alert.name
                    )
                await tx.change_alert(kept, run_id=run_id, ignored="")
    taken.started = await tx.add_runs(begun)
    return taken


def _run(alert: Alert, run_id: str, now: float) -> Run:
    return Run(
        id=run_id,
        kind="recover",
        bot=alert.bot,
        trigger="alert",
        method="",
        status="running",
        reason=f"{alert.name} is firing",
        tier="",
        created_at=now,
        finished_at=None,
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


def _tell(webhook: Webhook, taken: Taken, metrics: Metrics) -> None:
    """Once it is on disk: in the metrics, and in a log that a fleet's end does not flood."""
    for status, count in Counter(alert.status for alert in webhook.alerts).items():
        metrics.alerts.labels(status).inc(count)
    for reason, count in Counter(reason for _, reason in taken.ignored).items():
        metrics.ignored.labels(reason).inc(count)
    for run in taken.started[:FEW]:
        log.info("run started", run=run.id, bot=run.bot, why=run.reason)
    news = [(kept, reason) for kept, reason in taken.ignored if reason != kept.ignored]
    for kept, reason in news[:FEW]:
        log.info("alert starts nothing", alert=kept.name, bot=kept.bot, reason=reason)
    if max(len(taken.started), len(news)) > FEW:
        log.warning("a large payload", runs_started=len(taken.started), starting_nothing=len(news))
    if webhook.truncated:
        metrics.truncated.inc(webhook.truncated)
        log.error("alerts were left out", count=webhook.truncated, remedy="set max_alerts: 0")
