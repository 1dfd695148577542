"""`GET /dashboard`: one document of all there is to know, with the seed's field names."""

from collections.abc import Iterable
from typing import Any

from remediator import reconcile, views
from remediator.cost_report import open_books, summary
from remediator.deployments import described
from remediator.experience import Experience
from remediator.inspector import seen
from remediator.prometheus import PrometheusError
from remediator.services import Services

RECENT = 50  # deployments, recoveries and alerts shown


async def dashboard(services: Services) -> dict[str, Any]:
    async with services.store.read() as tx:
        bots = await tx.bots()
        recent = await tx.recent_deployments(RECENT)
        expected = {kind: await Experience(tx).of(kind) for kind in {run.kind for run in recent}}
        deployments = [await described(tx, run, expected=expected[run.kind]) for run in recent]
        recoveries = [
            views.recovery(run, await tx.steps(run.id), await tx.verdicts(run.id))
            for run in await tx.recent_runs("recover", RECENT)
        ]
        active = await tx.active_runs()
        drift = reconcile.view(await seen(tx))
        alerts = [views.alert(one) for one in await tx.firing_alerts(RECENT)]
        books = await open_books(tx, services.accounts)
        now = tx.now
    scores, history = await _from_prometheus(services, now)
    return {
        "timestamp": views.iso(now),
        "summary": {
            **_bands(len(bots), (scores[bot.name] for bot in bots if bot.name in scores)),
            "active_recoveries": sum(run.kind == "recover" for run in active),
            "active_deployments": sum(run.kind != "recover" for run in active),
            "quarantined": sum(bot.quarantined_at is not None for bot in bots),
            "drifted": len(drift["bots"]),
            "storm": _storm(services),
        },
        "registry": [views.bot(bot, scores.get(bot.name)) for bot in bots],
        "state": {"deployments": deployments, "recoveries": recoveries},
        "drift": drift,
        "alerts": alerts,
        "metrics": {"health_score": scores},
        "history": history,
        "cost": summary(books),
    }


def _bands(total: int, scores: Iterable[float]) -> dict[str, int]:
    """The seed's bands: 70 and more is healthy, 30 to 69 degraded, less is critical."""
    known = list(scores)
    healthy, critical = sum(score >= 70 for score in known), sum(score < 30 for score in known)
    return {
        "bots": total,
        "healthy": healthy,
        "degraded": len(known) - healthy - critical,
        "critical": critical,
        "unknown": total - len(known),
    }


def _storm(services: Services) -> dict[str, Any]:
    """What the fleet gate saw when it last looked; it looks only when a recovery asks, or in a storm."""
    limits, storm, fleet = services.recovery.limits, services.recovery.storm, services.prober.last_census
    shown: dict[str, Any] = {"active": storm.active, "limit": limits.fleet_max_ratio, "reason": ""}
    if fleet is None:
        return shown | {"unhealthy": None, "total": None, "ratio": None}
    if storm.active:
        shown["since"] = views.iso(storm.since)
        shown["reason"] = (
            f"{fleet.unhealthy} of {fleet.probed} bots are ill, limit: {limits.fleet_max_ratio:.0%}; "
            "the cause is likely shared, so no bot is recovered automatically until the fleet has been "
            f"within its limit for {limits.storm_cooldown:g} s (last over it: {views.iso(storm.over_at)})"
        )
    return shown | {"unhealthy": fleet.unhealthy, "total": fleet.total, "ratio": fleet.ratio}


async def _from_prometheus(services: Services, now: float) -> tuple[dict[str, float], dict[str, Any]]:
    if services.prometheus is None:
        return {}, {"available": False, "reason": "BOT_REMEDIATOR_PROMETHEUS_URL is not set"}
    try:
        scores = await services.prometheus.scores()
        points = await services.prometheus.history(now)
    except PrometheusError as error:
        return {}, {"available": False, "reason": str(error)}
    return scores, {"available": True, "hours": 24, "health_score": points}
