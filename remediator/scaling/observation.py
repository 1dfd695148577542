"""What scaling reads before it decides, and the gates of recoveries as far as they concern a group."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import structlog

from exporter.score import DEGRADED, MINOR
from remediator.model import TIERS, Bot, Effect, Run, Verdict
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.recovery.limits import Limits, tokens
from remediator.recovery.storm import CensusEntry, Fleet, Storm, over_limit
from remediator.scaling.policy import Group
from remediator.store.transaction import Transaction
from remediator.timestamps import DAY

log = structlog.get_logger()

CONTEXT: Final = "max by (bot) (bot_context_usage_ratio)"
EVENT_LOOP: Final = "max by (bot) (bot_event_loop_usage_ratio)"
CPU: Final = (
    "max by (bot) (bot:node_cpu_busy:rate5m)"
    ' / on (bot) count by (bot) (count by (bot, cpu) (node_cpu_seconds_total{bot!=""}))'
)


@dataclass(frozen=True, slots=True)
class FleetMetrics:
    """What Prometheus says of every bot."""

    scores: Mapping[str, float]
    loads: Mapping[str, float]  # of the event loop where the bot tells, else of CPU, else of the context


async def read_fleet_metrics(prometheus: Prometheus) -> FleetMetrics | None:
    """Return what Prometheus says; None where it is away: then nobody knows which bots are healthy."""
    try:
        scores, *loads = await asyncio.gather(
            prometheus.scores(), *(prometheus.by_bot(query) for query in (CONTEXT, CPU, EVENT_LOOP))
        )
    except PrometheusError as error:
        log.warning("no group was looked at", error=str(error))
        return None
    contexts, cpus, loops = loads
    return FleetMetrics(scores, {**contexts, **cpus, **loops})


async def is_storm(tx: Transaction, bots: Sequence[Bot], metrics: FleetMetrics, limits: Limits) -> bool:
    """Return whether recoveries have a storm, or would have one by the scores if a recovery asked now."""
    if Storm.from_fact(await tx.fact("storm")).active:
        return True
    entries = tuple(
        CensusEntry(
            bot.template,
            bot.environment,
            bot.zone,
            ill=metrics.scores[bot.name] < DEGRADED,
            quarantined=bot.quarantined_at is not None,
        )
        for bot in bots
        if bot.state == "active" and bot.name in metrics.scores
    )
    return over_limit(Fleet(len(entries), entries), limits)


async def blocking_gate(
    tx: Transaction, bots: Sequence[Bot], template: str, environment: str, problem: str, limits: Limits
) -> Verdict | None:
    """Return the gate that holds a move back, by the names and limits that recoveries have.

    `bots`: of the group. `problem`: why no alert can be trusted now; empty where they can.
    """
    now = tx.now
    for hold in await tx.holds():
        names = {"fleet": hold.name, "template": template, "environment": environment}
        covers = names.get(hold.scope) == hold.name or any(hold.covers(bot, now) for bot in bots)
        if covers and hold.starts_at <= now:
            return Verdict("paused", Effect.hold, f"{hold.actor}: {hold.reason}")
    if problem:
        return Verdict("monitoring", Effect.hold, problem)
    acting = await tx.in_flight(TIERS, "")
    if len(acting) >= limits.max_in_flight:
        return Verdict("in_flight", Effect.hold, f"{len(acting)} bots are being recovered")
    if tokens(await tx.intents(TIERS, now - DAY), now, limits) < 1:
        return Verdict("rate", Effect.hold, "too many actions at once")
    return None


async def added_by(tx: Transaction, bots: Sequence[Bot], actor: str) -> list[str]:
    """Return the names of those that this actor deployed, oldest first."""
    actors = await tx.deployed_by([bot.name for bot in bots])
    added = [bot for bot in bots if actors.get(bot.name) == actor]
    return [bot.name for bot in sorted(added, key=lambda bot: (bot.created_at, bot.name))]


def group_of(
    bots: Sequence[Bot], added: Sequence[str], active: Sequence[Run], metrics: FleetMetrics, storm: bool
) -> Group:
    """Return the group of these bots. One without a score is not healthy, as far as anybody knows."""
    names = {bot.name for bot in bots}
    healthy = [name for name in names if metrics.scores.get(name, 0.0) >= MINOR]
    loads = [metrics.loads[name] for name in healthy if name in metrics.loads]
    return Group(
        bots=len(bots),
        healthy=len(healthy),
        added=sum(name in names for name in added),
        load=fmean(loads) if loads else None,
        storm=storm,
        busy=any(run.kind != "recover" and run.bot in names for run in active),
    )
