"""`GET /dashboard`: one document of all there is to know, with the seed's field names."""

from collections.abc import Iterable
from typing import Any, Final

from exporter.score import DEGRADED, MINOR
from remediator.api import views
from remediator.api.configuration.drift import drift_view
from remediator.api.cost.views import summary
from remediator.api.deployments import deployment_view
from remediator.configuration.drift_detector import last_report
from remediator.cost.snapshot import take_snapshot
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.provisioning.progress import expected_seconds
from remediator.recovery.limits import Limits
from remediator.recovery.storm import Fleet, Storm
from remediator.runtime import Runtime
from remediator.store.transaction import Transaction
from remediator.timestamps import iso

RECENT: Final = 50  # deployments, recoveries and alerts in it


async def read_dashboard(runtime: Runtime) -> dict[str, Any]:
    """Return the document; what Prometheus cannot say is left out, with the reason."""
    async with runtime.store.read() as tx:
        now, bots = tx.now, await tx.bots()
        deployments, recoveries = await _deployments(tx), await _recoveries(tx)
        active = await tx.active_runs()
        drift = drift_view(await last_report(tx))
        alerts = [views.alert(alert) for alert in await tx.firing_alerts(RECENT)]
        cost = summary(await take_snapshot(tx, runtime.cost_worker.meter))
    scores, history = await _from_prometheus(runtime.prometheus, now)
    return {
        "timestamp": iso(now),
        "summary": {
            **_bands(len(bots), (scores[bot.name] for bot in bots if bot.name in scores)),
            "active_recoveries": sum(run.kind == "recover" for run in active),
            "active_deployments": sum(run.kind != "recover" for run in active),
            "quarantined": sum(bot.quarantined_at is not None for bot in bots),
            "drifted": len(drift["bots"]),
            "storm": _storm_view(runtime.storm_watch.storm, runtime.census.latest, runtime.limits),
        },
        "registry": [views.bot(bot, scores.get(bot.name)) for bot in bots],
        "state": {"deployments": deployments, "recoveries": recoveries},
        "drift": drift,
        "alerts": alerts,
        "metrics": {"health_score": scores},
        "history": history,
        "cost": cost,
    }


async def _deployments(tx: Transaction) -> list[views.DeploymentView]:
    """Return the recent ones; what to expect of their steps is read once a kind."""
    runs = await tx.recent_deployments(RECENT)
    expected = {kind: await expected_seconds(tx, kind) for kind in {run.kind for run in runs}}
    return [await deployment_view(tx, run, expected=expected[run.kind]) for run in runs]


async def _recoveries(tx: Transaction) -> list[views.RecoveryView]:
    return [
        views.recovery(run, await tx.steps(run.id), await tx.verdicts(run.id))
        for run in await tx.recent_runs("recover", RECENT)
    ]


def _bands(total: int, scores: Iterable[float]) -> dict[str, int]:
    """Return how many bots are in each of the seed's bands: `minor` and better is healthy."""
    scores = list(scores)
    healthy, critical = sum(score >= MINOR for score in scores), sum(score < DEGRADED for score in scores)
    return {
        "bots": total,
        "healthy": healthy,
        "degraded": len(scores) - healthy - critical,
        "critical": critical,
        "unknown": total - len(scores),
    }


def _storm_view(storm: Storm, fleet: Fleet | None, limits: Limits) -> dict[str, Any]:
    """Return the fleet gate's last census; one is taken only when a recovery asks, or in a storm."""
    view: dict[str, Any] = {"active": storm.active, "limit": limits.fleet_max_ratio, "reason": ""}
    if fleet is None:
        return view | {"unhealthy": None, "total": None, "ratio": None}
    if storm.active:
        view["since"] = iso(storm.since)
        view["reason"] = (
            f"{fleet.unhealthy} of {fleet.probed} bots are ill, limit: {limits.fleet_max_ratio:.0%}; "
            "the cause is likely shared, so no bot is recovered automatically until the fleet has been "
            f"within its limit for {limits.storm_cooldown:g} s (last over it: {iso(storm.over_at)})"
        )
    return view | {"unhealthy": fleet.unhealthy, "total": fleet.total, "ratio": fleet.ratio}


async def _from_prometheus(
    prometheus: Prometheus | None, now: float
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return each bot's score, and the last 24 hours of scores; or nothing, and why."""
    if prometheus is None:
        return {}, {"available": False, "reason": "BOT_REMEDIATOR_PROMETHEUS_URL is not set"}
    try:
        scores = await prometheus.scores()
        points = await prometheus.history(now)
    except PrometheusError as error:
        return {}, {"available": False, "reason": str(error)}
    return scores, {"available": True, "hours": 24, "health_score": points}
