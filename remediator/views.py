"""What the API answers, as typed shapes, and how they are made from what the store keeps. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import TypedDict

from remediator.ladder import TIERS
from remediator.model import AuditEntry, Bot, Hold, Run, Step, StoredAlert, StoredVerdict
from remediator.progress import Progress

BEGUN: Final = Progress(0, None)


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


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_iso(at: float | None) -> str | None:
    return None if at is None else iso(at)


def recovery(
    run: Run,
    steps: Sequence[Step] = (),
    verdicts: Iterable[StoredVerdict] = (),
    alerts: Iterable[StoredAlert] = (),
) -> RecoveryView:
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
        "alerts": [alert(one) for one in alerts],
    }


def deployment(
    run: Run,
    steps: Iterable[Step] = (),
    progress: Progress = BEGUN,
    *,
    now: float = 0,
    warnings: Sequence[str] = (),
) -> DeploymentView:
    """`now`: when `progress` was judged."""
    left = progress.seconds
    return {
        "deploymentId": run.id,
        "botName": run.bot,
        "kind": run.kind,
        "status": run.status,
        "reason": run.reason,
        "startedAt": iso(run.created_at),
        "finishedAt": maybe_iso(run.finished_at),
        "percent": progress.percent,
        "estimatedSeconds": None if left is None else round(left, 1),
        "estimatedFinish": None if left is None else iso(now + left),
        "warnings": list(warnings),
        "steps": [_step(step) for step in steps],
    }


def bot(one: Bot, score: float | None) -> BotView:
    return {
        "bot": one.name,
        "template": one.template,
        "environment": one.environment,
        "state": "quarantined" if one.quarantined_at is not None else one.state,
        "address": one.address,
        "instance_id": one.instance_id,
        "config_sha": one.config_sha,
        "health_score": score,
        "quarantined_at": maybe_iso(one.quarantined_at),
        "quarantine_reason": one.quarantine_reason,
        "created_at": iso(one.created_at),
    }


def alert(one: StoredAlert) -> AlertView:
    return {
        "name": one.name,
        "bot": one.bot,
        "status": one.status,
        "startsAt": iso(one.starts_at),
        "lastSeen": iso(one.last_seen),
        "timesSeen": one.times_seen,
        "recoveryId": one.run_id,
        "ignored": one.ignored,
        "labels": one.labels,
    }


def audit(entry: AuditEntry) -> AuditView:
    return {
        "id": entry.id,
        "at": iso(entry.at),
        "actor": entry.actor,
        "event": entry.event,
        "bot": entry.bot,
        "runId": entry.run_id,
        "detail": entry.detail,
    }


def hold(one: Hold) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": "pause" if one.ends_at is None else "maintenance",
        "scope": one.scope,
        "name": one.name,
        "reason": one.reason,
        "by": one.actor,
        "startsAt": iso(one.starts_at),
        "endsAt": maybe_iso(one.ends_at),
    }


def service_discovery(bots: Iterable[Bot]) -> list[dict[str, Any]]:
    """Prometheus's http_sd document. A bot that is still being deployed is not in it."""
    return [
        {
            "targets": [one.address],
            "labels": {
                "bot": one.name,
                "template": one.template,
                "environment": one.environment,
                "instance_id": one.instance_id,
                "__health_path__": one.health_path,
                "__mesh_path__": one.mesh_path,
            },
        }
        for one in bots
        if one.state == "active"
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
