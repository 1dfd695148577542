"""The API's answers as typed shapes, and how they are made of the store's rows. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from typing_extensions import TypedDict

from remediator.model import TIERS, AuditEntry, Bot, Hold, Run, Step, StoredAlert, StoredVerdict
from remediator.provisioning.progress import Progress
from remediator.timestamps import iso, maybe_iso

JUST_BEGUN: Final = Progress(0, None)


class AttemptView(TypedDict):
    tier: str
    outcome: str
    startedAt: str
    finishedAt: str | None
    detail: str


class GateView(TypedDict):
    at: str
    tier: str
    gate: str
    verdict: str
    why: str


class StepView(TypedDict):
    name: str
    status: str
    startedAt: str
    finishedAt: str | None
    detail: str


class AlertView(TypedDict):
    name: str
    bot: str
    status: str
    startsAt: str
    lastSeen: str
    timesSeen: int
    recoveryId: str | None
    ignored: str
    labels: Mapping[str, str]


class RecoveryView(TypedDict):
    recoveryId: str
    botId: str
    kind: str
    trigger: str
    status: str
    reason: str
    tier: str
    startedAt: str
    finishedAt: str | None
    attempts: list[AttemptView]
    steps: list[StepView]
    gates: list[GateView]
    alerts: list[AlertView]


class DeploymentView(TypedDict):
    deploymentId: str
    botName: str
    kind: str
    status: str
    reason: str
    startedAt: str
    finishedAt: str | None
    percent: int
    estimatedSeconds: float | None
    estimatedFinish: str | None
    warnings: list[str]
    steps: list[StepView]


class BotView(TypedDict):
    bot: str
    template: str
    environment: str
    state: str
    address: str
    instance_id: str
    config_sha: str
    health_score: float | None
    quarantined_at: str | None
    quarantine_reason: str | None
    created_at: str


class AuditView(TypedDict):
    id: int
    at: str
    actor: str
    event: str
    bot: str
    runId: str
    detail: Mapping[str, Any]


def recovery(
    run: Run,
    steps: Sequence[Step] = (),
    verdicts: Iterable[StoredVerdict] = (),
    alerts: Iterable[StoredAlert] = (),
) -> RecoveryView:
    """Return a recovery; steps that are tiers are its attempts."""
    return {
        "recoveryId": run.id,
        "botId": run.bot,
        "kind": run.kind,
        "trigger": run.trigger,
        "status": run.status,
        "reason": run.reason,
        "tier": run.tier,
        "startedAt": iso(run.created_at),
        "finishedAt": maybe_iso(run.finished_at),
        "attempts": [_attempt(step) for step in steps if step.name in TIERS],
        "steps": [_step(step) for step in steps if step.name not in TIERS],
        "gates": [_gate(verdict) for verdict in verdicts],
        "alerts": [alert(stored) for stored in alerts],
    }


def deployment(
    run: Run,
    steps: Iterable[Step] = (),
    progress: Progress = JUST_BEGUN,
    *,
    now: float = 0,
    warnings: Sequence[str] = (),
) -> DeploymentView:
    """Return a deployment. `now`: when `progress` was judged, in Unix seconds."""
    seconds = progress.seconds
    return {
        "deploymentId": run.id,
        "botName": run.bot,
        "kind": run.kind,
        "status": run.status,
        "reason": run.reason,
        "startedAt": iso(run.created_at),
        "finishedAt": maybe_iso(run.finished_at),
        "percent": progress.percent,
        "estimatedSeconds": None if seconds is None else round(seconds, 1),
        "estimatedFinish": None if seconds is None else iso(now + seconds),
        "warnings": list(warnings),
        "steps": [_step(step) for step in steps],
    }


def bot(bot: Bot, score: float | None) -> BotView:
    """Return a bot of the registry. `score`: its health's, from 0 to 100; None: unknown."""
    return {
        "bot": bot.name,
        "template": bot.template,
        "environment": bot.environment,
        "state": "quarantined" if bot.quarantined_at is not None else bot.state,
        "address": bot.address,
        "instance_id": bot.instance_id,
        "config_sha": bot.config_sha,
        "health_score": score,
        "quarantined_at": maybe_iso(bot.quarantined_at),
        "quarantine_reason": bot.quarantine_reason,
        "created_at": iso(bot.created_at),
    }


def alert(alert: StoredAlert) -> AlertView:
    """Return an alert, and the recovery that it belongs to."""
    return {
        "name": alert.name,
        "bot": alert.bot,
        "status": alert.status,
        "startsAt": iso(alert.starts_at),
        "lastSeen": iso(alert.last_seen),
        "timesSeen": alert.times_seen,
        "recoveryId": alert.run_id,
        "ignored": alert.ignored,
        "labels": alert.labels,
    }


def audit(entry: AuditEntry) -> AuditView:
    """Return an entry of the audit trail."""
    return {
        "id": entry.id,
        "at": iso(entry.at),
        "actor": entry.actor,
        "event": entry.event,
        "bot": entry.bot,
        "runId": entry.run_id,
        "detail": entry.detail,
    }


def hold(hold: Hold) -> dict[str, Any]:
    """Return a hold: a pause, or a maintenance window where it has an end."""
    return {
        "id": hold.id,
        "kind": "pause" if hold.ends_at is None else "maintenance",
        "scope": hold.scope,
        "name": hold.name,
        "reason": hold.reason,
        "by": hold.actor,
        "startsAt": iso(hold.starts_at),
        "endsAt": maybe_iso(hold.ends_at),
    }


def service_discovery(bots: Iterable[Bot]) -> list[dict[str, Any]]:
    """Return Prometheus's http_sd document. A bot that is still being deployed is not in it."""
    return [
        {
            "targets": [bot.address],
            "labels": {
                "bot": bot.name,
                "template": bot.template,
                "environment": bot.environment,
                "instance_id": bot.instance_id,
                "__health_path__": bot.health_path,
                "__mesh_path__": bot.mesh_path,
            },
        }
        for bot in bots
        if bot.state == "active"
    ]


def _attempt(step: Step) -> AttemptView:
    running = step.state in ("intended", "acted")
    return {
        "tier": step.name,
        "outcome": "running" if running else step.state,
        "startedAt": iso(step.intended_at),
        "finishedAt": maybe_iso(step.finished_at),
        "detail": step.detail,
    }


def _step(step: Step) -> StepView:
    return {
        "name": step.name,
        "status": "running" if step.state == "intended" else step.state,
        "startedAt": iso(step.intended_at),
        "finishedAt": maybe_iso(step.finished_at),
        "detail": step.detail,
    }


def _gate(verdict: StoredVerdict) -> GateView:
    return {
        "at": iso(verdict.at),
        "tier": verdict.tier,
        "gate": verdict.gate,
        "verdict": "open" if verdict.allowed else "closed",
        "why": verdict.why,
    }
