"""Everything that runs: built from the settings, started, and taken down again. Used by `remediator.app`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import aiohttp

from exporter.probing.probe import open_session
from remediator.aws.aws import Aws
from remediator.aws.instance_waiter import InstanceWaiter
from remediator.backup.post_restore import reconcile_after_restore
from remediator.configuration.drift_detector import DriftDetector
from remediator.cost.metering import CostMeter
from remediator.cost.model_metering import ModelMeter
from remediator.cost.model_pricing import parse_aliases
from remediator.cost.price_refresh import PriceRefresher
from remediator.cost.pricing_api import Pricing
from remediator.cost.recommender import Recommender
from remediator.cost.worker import CostWorker
from remediator.engine.engine import Engine, Runner
from remediator.metrics import Metrics
from remediator.model import RunKind
from remediator.monitoring.alertmanager import Alertmanager
from remediator.monitoring.prober import Prober
from remediator.monitoring.prometheus import Prometheus
from remediator.notifications.notifier import Notifier
from remediator.notifications.telegram import Telegram
from remediator.provisioning.adopt import Adoption
from remediator.provisioning.blue_green import BlueGreen
from remediator.provisioning.cutover import Cutover
from remediator.provisioning.deploy import Deployment
from remediator.provisioning.files_keeper import FilesKeeper, check_sizes
from remediator.provisioning.launcher import Launcher
from remediator.provisioning.orphans import OrphanDetector
from remediator.provisioning.retire import Retirement
from remediator.provisioning.standby_cleanup import StandbyCleaner
from remediator.recovery.census import Census
from remediator.recovery.gatekeeper import Gatekeeper
from remediator.recovery.limits import Limits
from remediator.recovery.monitoring_status import MonitoringStatus
from remediator.recovery.queue_watch import QueueWatch
from remediator.recovery.recovery import Recovery
from remediator.recovery.restarters import restarter_of
from remediator.recovery.soak import watched
from remediator.recovery.storm_watch import StormWatch
from remediator.recovery.telegram_approvals import TelegramApprovals
from remediator.recovery.tiers import Actuators
from remediator.rollouts.controller import RolloutController
from remediator.scaling.autoscaler import Autoscaler
from remediator.settings import Settings
from remediator.store.store import Store
from templates import Templates, load

VERSION: Final = version("bot-orchestrator")

BackgroundTask = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the API's functions use. A background task is given its own parts, never all of this."""

    settings: Settings
    templates: Templates
    metrics: Metrics
    store: Store
    aws: Aws
    files: FilesKeeper
    session: aiohttp.ClientSession
    prometheus: Prometheus | None
    alertmanager: Alertmanager
    prober: Prober
    monitoring: MonitoringStatus
    storm_watch: StormWatch
    queue_watch: QueueWatch
    notifier: Notifier
    engine: Engine
    cost_worker: CostWorker


@asynccontextmanager
async def run(settings: Settings) -> AsyncIterator[Runtime]:
    """Run the service: ready, and every unfinished run taken up again, when this yields."""
    async with AsyncExitStack() as stack:
        runtime = await build(settings, stack)
        await runtime.engine.start()
        stack.push_async_callback(runtime.engine.stop)
        for task in background_tasks(runtime):
            stack.push_async_callback(_cancel, asyncio.create_task(task()))
        yield runtime


async def build(settings: Settings, stack: AsyncExitStack) -> Runtime:
    """Build all parts, which `stack` closes. A restored store is reconciled with AWS before any acts."""
    templates, metrics = load_templates(settings), build_metrics(settings)
    store = await build_store(settings, stack)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    aws = await build_aws(settings)
    files = FilesKeeper(aws, templates.archives)
    await reconcile_after_restore(store, aws, settings)
    prober = await build_prober(settings, stack)
    prometheus = Prometheus(settings.prometheus_url, session) if settings.prometheus_url else None
    alertmanager = Alertmanager(settings.alertmanager_url, session)
    monitoring = MonitoringStatus.from_settings(settings, store, prometheus)
    storm_watch = build_storm_watch(settings, store, prober, metrics, prometheus)
    queue_watch = QueueWatch(store, aws, session, settings)
    gatekeeper = Gatekeeper(
        store, prober, alertmanager, monitoring, storm_watch, queue_watch, metrics, settings
    )
    notifier = Notifier(store, metrics, session, build_telegram(settings))
    cost_worker = await build_cost_worker(settings, store, aws, prometheus, templates, metrics)
    return Runtime(
        settings=settings,
        templates=templates,
        metrics=metrics,
        store=store,
        aws=aws,
        files=files,
        session=session,
        prometheus=prometheus,
        alertmanager=alertmanager,
        prober=prober,
        monitoring=monitoring,
        storm_watch=storm_watch,
        queue_watch=queue_watch,
        notifier=notifier,
        engine=build_engine(settings, store, aws, files, prober, gatekeeper, notifier, metrics),
        cost_worker=cost_worker,
    )


def load_templates(settings: Settings) -> Templates:
    """Load the bot types. TemplateError where one is wrong, or its files too large for their store."""
    templates = load(settings.templates_dir)
    check_sizes(templates, settings)
    return templates


def build_metrics(settings: Settings) -> Metrics:
    """Build the counters and gauges."""
    metrics = Metrics(VERSION)
    metrics.fleet_limit.set(settings.fleet_max_unhealthy_ratio)
    metrics.turn_limit.set(settings.turn_limit)
    return metrics


async def build_store(settings: Settings, stack: AsyncExitStack) -> Store:
    """Open the database, migrated."""
    store = await Store.open(settings.database_url, lease_seconds=settings.lease)
    stack.push_async_callback(store.close)
    return store


async def build_aws(settings: Settings) -> Aws:
    """Build the clients of AWS: in a thread, as they take a moment to make."""
    return await asyncio.to_thread(
        Aws,
        region=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url,
        concurrency=settings.aws_concurrency,
        timeout=settings.aws_timeout,
        files_bucket=settings.files_bucket,
    )


def build_engine(
    settings: Settings,
    store: Store,
    aws: Aws,
    files: FilesKeeper,
    prober: Prober,
    gatekeeper: Gatekeeper,
    notifier: Notifier,
    metrics: Metrics,
) -> Engine:
    """Build the engine, with a runner for each kind of run."""
    waiter, cutover = InstanceWaiter(aws, settings.aws_poll), Cutover(aws, settings)
    launcher = Launcher(aws, files, waiter, prober, settings, metrics)
    soak = partial(watched, gatekeeper.queue_watch)
    actuators = Actuators(aws, launcher, cutover, prober, restarter_of(settings, aws, prober))
    runners: dict[RunKind, Runner] = {
        "recover": Recovery(store, actuators, gatekeeper, metrics, settings).run,
        "deploy": Deployment(store, aws, launcher, cutover).run,
        "redeploy": BlueGreen(store, aws, waiter, prober, launcher, cutover, settings, soak).run,
        "adopt": Adoption(store, aws, cutover).run,
        "retire": Retirement(store, aws, waiter, cutover, settings).run,
    }
    return Engine(store, runners, notifier, metrics, settings.public_url)


async def build_cost_worker(
    settings: Settings,
    store: Store,
    aws: Aws,
    prometheus: Prometheus | None,
    templates: Templates,
    metrics: Metrics,
) -> CostWorker:
    """Build what meters, counts, refreshes and recommends."""
    region, aliases = settings.aws_region, parse_aliases(settings.model_priced_as)
    return CostWorker(
        store,
        CostMeter(store, aws, prometheus, region),
        ModelMeter(store, prometheus, aliases),
        PriceRefresher(
            store,
            await build_pricing(settings),
            region,
            metrics,
            [*templates.instance_types, *settings.instance_types],
        ),
        Recommender(store, prometheus, templates, aliases, region, settings.advice_interval),
        settings.cost_interval,
    )


async def build_pricing(settings: Settings) -> Pricing | None:
    """Build the client of AWS's price list; None where prices are not to be refreshed."""
    if not settings.prices_refresh:
        return None
    return await asyncio.to_thread(Pricing, settings.pricing_endpoint_url)


async def build_prober(settings: Settings, stack: AsyncExitStack) -> Prober:
    """Build the prober, with connections of its own."""
    return Prober(
        await stack.enter_async_context(open_session()),
        timeout=settings.probe_timeout,
        interval=settings.verify_interval,
        needed=settings.verify_probes,
    )


def build_storm_watch(
    settings: Settings, store: Store, prober: Prober, metrics: Metrics, prometheus: Prometheus | None
) -> StormWatch:
    """Build the watch over the fleet's storms, and the census that it takes."""
    census = Census(store, prober, metrics, settings.fleet_sample, prometheus, settings.turn_limit)
    return StormWatch(store, census, metrics, Limits.from_settings(settings), settings.gate_interval)


def build_telegram(settings: Settings) -> Telegram | None:
    """Build the client of Telegram; None where there is no token or no chat."""
    if settings.telegram_token is None or settings.telegram_chat_id is None:
        return None
    return Telegram(settings.telegram_api_url, settings.telegram_token, settings.telegram_chat_id)


def background_tasks(runtime: Runtime) -> list[BackgroundTask]:
    """Return what goes on beside the runs, each until it is cancelled."""
    settings, store, aws, engine = runtime.settings, runtime.store, runtime.aws, runtime.engine
    orphans = OrphanDetector(store, aws, runtime.metrics)
    tasks: list[BackgroundTask] = [
        runtime.notifier.serve,
        runtime.storm_watch.serve,
        StandbyCleaner(store, aws, settings.gate_interval).serve,
        lambda: orphans.serve(settings.orphan_interval),
        runtime.cost_worker.serve,
        DriftDetector(store, aws, runtime.prober, settings).serve,
        RolloutController(store, runtime.prober, engine, settings).serve,
    ]
    if settings.queue_looks:
        tasks.append(runtime.queue_watch.serve)
    telegram = runtime.notifier.telegram
    if telegram is not None and any(rule.mode == "approve" for rule in settings.modes):
        tasks.append(TelegramApprovals(store, engine, telegram, runtime.session).serve)
    autoscaler = build_autoscaler(runtime)
    if autoscaler.groups():
        tasks.append(autoscaler.serve)
    return tasks


def build_autoscaler(runtime: Runtime) -> Autoscaler:
    """Build what makes groups of bots larger and smaller."""
    return Autoscaler(
        store=runtime.store,
        settings=runtime.settings,
        templates=runtime.templates,
        aws=runtime.aws,
        engine=runtime.engine,
        metrics=runtime.metrics,
        prometheus=runtime.prometheus,
        alertmanager=runtime.alertmanager,
        monitoring=runtime.monitoring,
        limits=runtime.storm_watch.limits,
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel the task, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
