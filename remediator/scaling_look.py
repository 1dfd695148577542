"""What scaling sees before it decides, and the gates that recoveries have, as far as they concern a group."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import structlog

from remediator.gates import Effect, Fleet, Limits, Seen, Storm, Verdict, over_limit, tokens
from remediator.ladder import TIERS
from remediator.model import Bot, Run
from remediator.prometheus import Prometheus, PrometheusError
from remediator.scaling import Group
from remediator.transaction import Transaction

log = structlog.get_logger()

HEALTHY: Final = 70  # of the score; as the dashboard has it
CRITICAL: Final = 30
DAY: Final = 86400.0
CONTEXT: Final = "max by (bot) (bot_context_usage_ratio)"
EVENT_LOOP: Final = "max by (bot) (bot_event_loop_usage_ratio)"
CPU: Final = (
    "max by (bot) (bot:node_cpu_busy:rate5m)"
    ' / on (bot) count by (bot) (count by (bot, cpu) (node_cpu_seconds_total{bot!=""}))'
)


@dataclass(frozen=True, slots=True)
class Sights:
    """What Prometheus says of every bot."""

    scores: Mapping[str, float]
    loads: Mapping[str, float]  # of the event loop where the bot tells, else of CPU, else of the context


async def look(prometheus: Prometheus) -> Sights | None:
    """None where Prometheus is away: then nobody knows who is healthy."""
    try:
        scores, *loads = await asyncio.gather(
            prometheus.scores(), *(prometheus.by_bot(query) for query in (CONTEXT, CPU, EVENT_LOOP))
        )
    except PrometheusError as error:
        log.warning("no group was looked at", error=str(error))
        return None
    contexts, cpus, loops = loads
    return Sights(scores, {**contexts, **cpus, **loops})


async def storm(tx: Transaction, bots: Sequence[Bot], sights: Sights, limits: Limits) -> bool:
    """The recoveries' own storm, or the look of one, if no recovery has asked yet."""
    if Storm.of(await tx.fact("storm")).active:
        return True
    seen = tuple(
        Seen(
            bot.template,
            bot.environment,
            bot.zone,
            ill=sights.scores[bot.name] < CRITICAL,
            quarantined=bot.quarantined_at is not None,
        )
        for bot in bots
        if bot.state == "active" and bot.name in sights.scores
    )
    return over_limit(Fleet(len(seen), seen), limits)


async def held_by(
    tx: Transaction, ours: Sequence[Bot], template: str, environment: str, blind: str, limits: Limits
) -> Verdict | None:
    """The gate that holds a move back, by the names and limits that recoveries have."""
    now = tx.now
    for hold in await tx.holds():
        names = {"fleet": hold.name, "template": template, "environment": environment}
        covers = names.get(hold.scope) == hold.name or any(hold.covers(bot, now) for bot in ours)
        if covers and hold.starts_at <= now:
            return Verdict("paused", Effect.hold, f"{hold.actor}: {hold.reason}")
    if blind:
        return Verdict("sight", Effect.hold, blind)
    acting = await tx.in_flight(TIERS, "")
    if len(acting) >= limits.max_in_flight:
        return Verdict("in_flight", Effect.hold, f"{len(acting)} bots are being recovered")
    if tokens(await tx.intents(TIERS, now - DAY), now, limits) < 1:
        return Verdict("rate", Effect.hold, "too many actions at once")
    return None


async def added_by(tx: Transaction, bots: Sequence[Bot], actor: str) -> list[str]:
    """Those that this actor deployed, oldest first."""
    asked = await tx.brought_by([bot.name for bot in bots])
    ours = [bot for bot in bots if asked.get(bot.name) == actor]
    return [bot.name for bot in sorted(ours, key=lambda bot: (bot.created_at, bot.name))]


def group_of(
    bots: Sequence[Bot], added: Sequence[str], active: Sequence[Run], sights: Sights, storm: bool
) -> Group:
    """A bot without a score is not healthy, as far as anybody knows."""
    names = {bot.name for bot in bots}
    healthy = [name for name in names if sights.scores.get(name, 0.0) >= HEALTHY]
    loads = [sights.loads[name] for name in healthy if name in sights.loads]
    return Group(
        bots=len(bots),
        healthy=len(healthy),
        added=sum(name in names for name in added),
        load=fmean(loads) if loads else None,
        storm=storm,
        busy=any(run.kind != "recover" and run.bot in names for run in active),
    )
