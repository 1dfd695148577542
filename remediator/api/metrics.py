"""GET /metrics: what is counted in memory, and the state that each feature reads from the store."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from remediator import metrics as series
from remediator.api import deployments, rollouts
from remediator.api.lookup import runtime_of
from remediator.api.operation import TEXT, Operation
from remediator.configuration.drift_detector import last_report
from remediator.metrics import Samples, Series, StateCollector
from remediator.provisioning.orphans import orphan_instances
from remediator.recovery.queue_watch import last_report as queue_report
from remediator.recovery.storm import Storm
from remediator.recovery.storm_watch import read_dependencies
from remediator.runtime import Runtime
from remediator.scaling import exposition as scaling
from remediator.store.transaction import Transaction

Source = Callable[[Transaction], Awaitable[Mapping[Series, Samples]]]
"""Gives all samples of the series that are its own, in a number of statements that no fleet makes larger."""


async def run_samples(tx: Transaction) -> Mapping[Series, Samples]:
    """Return the runs under way, and the gate that each waits at."""
    runs = await tx.active_runs()
    blocked = [run for run in runs if run.status == "blocked"]
    return {
        series.ACTIVE: [((run.bot, run.kind, run.tier), 1) for run in runs],
        series.BLOCKED: [((run.bot, run.reason.partition(":")[0]), 1) for run in blocked],
    }


async def fleet_samples(tx: Transaction) -> Mapping[Series, Samples]:
    """Return how many bots there are, and of each its version, drift, launch and quarantine."""
    bots, report = await tx.bots(), await last_report(tx)
    names = [bot.name for bot in bots]
    drift, launched = report["bots"], report["launched"]
    return {
        series.CONFIG_VERSION: [((bot.name,), bot.version) for bot in bots],
        series.DRIFT: [
            ((name, difference["field"]), 1) for name in names for difference in drift.get(name, [])
        ],
        series.DRIFT_LOOKED: [] if report["at"] is None else [((), report["at"])],
        series.LAUNCHED: [((name,), launched[name]) for name in names if name in launched],
        series.QUARANTINED: [((bot.name,), 1) for bot in bots if bot.quarantined_at is not None],
        series.MANAGED: [((), sum(bot.state == "active" for bot in bots))],
    }


async def queue_samples(tx: Transaction) -> Mapping[Series, Samples]:
    """Return the queues of bots' channels, as they were last looked at."""
    queues = [
        ((bot, channel), queue)
        for bot, channels in (await queue_report(tx)).items()
        for channel, queue in channels.items()
    ]
    answered = [(labels, queue) for labels, queue in queues if not queue.refused]
    return {
        series.PENDING_UPDATES: [(labels, queue.pending[-1]) for labels, queue in answered],
        series.QUEUE_STALLED: [(labels, float(queue.stalled)) for labels, queue in answered],
        series.TOKEN_REFUSED: [(labels, float(queue.refused)) for labels, queue in queues],
    }


async def recovery_samples(tx: Transaction) -> Mapping[Series, Samples]:
    """Return whether a storm is on, and of which symptoms too many bots have one at once."""
    storm = Storm.from_fact(await tx.fact("storm"))
    away = {dependency.symptom for dependency in await read_dependencies(tx)}
    return {
        series.STORM: [((), float(storm.active))],
        series.DEPENDENCY: [((symptom,), float(symptom in away)) for symptom in series.DEPENDENT],
    }


async def orphan_samples(tx: Transaction) -> Mapping[Series, Samples]:
    """Return how many instances are nobody's, as was last seen."""
    return {series.ORPHANS: [((), await orphan_instances(tx))]}


def own_samples(runtime: Runtime) -> Mapping[Series, Samples]:
    """Return what this process alone knows: its settings, and the last census that it took itself."""
    settings, fleet = runtime.settings, runtime.census.latest
    return {
        series.FLEET_RATIO: [((), fleet.ratio if fleet is not None else 0.0)],
        series.FLEET_LIMIT: [((), settings.fleet_max_unhealthy_ratio)],
        series.TURN_LIMIT: [((), settings.turn_limit)],
    }


SOURCES: Final[Sequence[Source]] = (
    deployments.samples,
    rollouts.samples,
    run_samples,
    fleet_samples,
    queue_samples,
    recovery_samples,
    orphan_samples,
)


async def read_state(tx: Transaction, sources: Sequence[Source]) -> StateCollector:
    """Return the samples of all sources, as of the transaction's one moment."""
    samples: dict[Series, Samples] = {}
    for source in sources:
        samples |= await source(tx)
    return StateCollector(samples)


async def exposition(runtime: Runtime) -> bytes:
    """Return the remediator's own series in Prometheus's text format."""
    scaling_samples = partial(scaling.samples, templates=runtime.templates)
    async with runtime.store.read() as tx:
        state = await read_state(tx, (runtime.cost_worker.samples, scaling_samples, *SOURCES))
    own = StateCollector(own_samples(runtime))
    return b"".join(map(generate_latest, (runtime.metrics.registry, own, state)))


async def metrics(request: Request) -> Response:
    """Return the remediator's own series."""
    return Response(await exposition(runtime_of(request)), media_type=CONTENT_TYPE_LATEST)


OPERATIONS: Final = (
    Operation("GET", "/metrics", metrics, {200: ("Prometheus's text format.", TEXT)}, access="metrics"),
)
