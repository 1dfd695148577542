"""Alerts in: kept, and turned into runs, in the transaction that the 2xx stands for."""

from dataclasses import dataclass, field

import structlog

from remediator.alerts import Alert, Ignore, Join, Start, Webhook, decide
from remediator.metrics import Metrics
from remediator.model import Bot, Run, StoredAlert
from remediator.store import Store
from remediator.transaction import Transaction
from remediator.words import truncated

log = structlog.get_logger()


@dataclass
class Taken:
    """What follows from a payload: runs that were begun, and those that should hear of it."""

    started: list[Run] = field(default_factory=list)
    concerned: set[str] = field(default_factory=set)


async def take_in(store: Store, webhook: Webhook, metrics: Metrics, relapse_after: float) -> Taken:
    """Keep every alert and begin what is due.

    Whatever is resent, reordered or sent by two Alertmanagers finds what its twin left behind.
    """
    taken = Taken()
    ignored: list[tuple[StoredAlert, str]] = []
    async with store.write() as tx:
        await tx.expect(sorted({alert.fingerprint for alert in webhook.alerts}))
        bots = {bot.name: bot for bot in await tx.bots()}
        active = {run.bot: run for run in await tx.active_runs()}
        for alert in webhook.alerts:
            kept, news = await tx.see_alert(alert, relapse_after)
            if news:
                await _audit(tx, alert)
            if kept.status == "firing":
                reason = await _firing(tx, alert, kept, relapse_after, taken, bots.get(alert.bot), active)
                if reason:
                    ignored.append((kept, reason))
            elif kept.run_id is not None:
                taken.concerned.add(kept.run_id)
        if webhook.truncated:
            await tx.notify("", truncated(webhook.truncated))
            await tx.audit("alerts.truncated", actor="alertmanager", count=webhook.truncated)
    for alert in webhook.alerts:
        metrics.alerts.labels(alert.status).inc()
    for kept, reason in ignored:
        metrics.ignored.labels(reason).inc()
        if reason != kept.ignored:
            log.info("alert starts nothing", alert=kept.name, bot=kept.bot, reason=reason)
    if webhook.truncated:
        metrics.truncated.inc(webhook.truncated)
        log.error("alerts were left out", count=webhook.truncated, remedy="set max_alerts: 0")
    return taken


async def _firing(
    tx: Transaction,
    alert: Alert,
    kept: StoredAlert,
    relapse_after: float,
    taken: Taken,
    bot: Bot | None,
    active: dict[str, Run],
) -> str:
    """Why nothing follows from it; empty if it belongs to a run. `active`, by bot, is kept so."""
    last = await tx.last_recovery(alert.bot) if bot is not None else None
    decision = decide(
        alert,
        first_seen=kept.first_seen,
        bot=bot,
        active=active.get(alert.bot),
        last=last,
        now=tx.now,
        relapse_after=relapse_after,
    )
    match decision:
        case Ignore(reason):
            await tx.change_alert(kept, ignored=reason)
            return reason
        case Join(run_id):
            if kept.run_id != run_id:
                await tx.change_alert(kept, run_id=run_id, ignored="")
            return ""
        case Start(run_id):
            if await tx.run(run_id) is None:
                active[alert.bot] = await _start(tx, alert, run_id)
                taken.started.append(active[alert.bot])
            await tx.change_alert(kept, run_id=run_id, ignored="")
            return ""


async def _start(tx: Transaction, alert: Alert, run_id: str) -> Run:
    run = Run(
        id=run_id,
        kind="recover",
        bot=alert.bot,
        trigger="alert",
        method="",
        status="running",
        reason=f"{alert.name} is firing",
        tier="",
        created_at=tx.now,
        finished_at=None,
    )
    run = await tx.add_run(run)
    await tx.audit("run.started", bot=alert.bot, run_id=run_id, actor="alertmanager", alert=alert.name)
    log.info("run started", run=run_id, bot=alert.bot, alert=alert.name)
    return run


async def _audit(tx: Transaction, alert: Alert) -> None:
    await tx.audit(
        f"alert.{alert.status}",
        bot=alert.bot,
        actor="alertmanager",
        alert=alert.name,
        fingerprint=alert.fingerprint,
        starts_at=alert.starts_at.isoformat(),
    )
