"""Everything that runs, made from the settings and taken down again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import aiohttp

from exporter.probe import open_session
from remediator.accounts import Accounts
from remediator.actions import Hands
from remediator.adopt import Adoption
from remediator.answers import Answers
from remediator.bluegreen import BlueGreen
from remediator.bookkeeper import Bookkeeper
from remediator.counsel import Counsel
from remediator.deploy import Deployment
from remediator.ec2 import Aws
from remediator.engine import Engine, Runner
from remediator.inspector import Inspector
from remediator.launch import Launcher
from remediator.metrics import Metrics
from remediator.model import RunKind
from remediator.notify import Notifier, Telegram
from remediator.observer import InstanceObserver
from remediator.orphans import OrphanWatch
from remediator.pricing import Pricing
from remediator.prober import Prober
from remediator.prometheus import Prometheus
from remediator.recovery import Recovery
from remediator.restarters import restarter_of
from remediator.restored import compare_if_restored
from remediator.retire import Retirement
from remediator.rollouts import Conductor
from remediator.settings import Settings
from remediator.sight import Sight
from remediator.standbys import Standbys
from remediator.store import Store
from templates import Templates, load

VERSION = version("bot-orchestrator")


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    templates: Templates
    store: Store
    aws: Aws
    prober: Prober
    recovery: Recovery
    engine: Engine
    metrics: Metrics
    prometheus: Prometheus | None
    accounts: Accounts
    counsel: Counsel


@asynccontextmanager
async def run_services(settings: Settings) -> AsyncIterator[Services]:
    """Ready, and every unfinished run taken up again, when this yields."""
    async with AsyncExitStack() as stack:
        templates = load(settings.templates_dir)
        store = await Store.open(settings.database_url, lease_seconds=settings.lease)
        stack.push_async_callback(store.close)
        probing = await stack.enter_async_context(open_session())
        calling = await stack.enter_async_context(aiohttp.ClientSession())
        metrics = Metrics(VERSION)
        metrics.fleet_limit.set(settings.fleet_max_unhealthy_ratio)
        aws = await asyncio.to_thread(
            Aws,
            region=settings.aws_region,
            endpoint_url=settings.aws_endpoint_url,
            concurrency=settings.aws_concurrency,
            timeout=settings.aws_timeout,
        )
        await compare_if_restored(store, aws, settings)
        prober = Prober(
            probing,
            timeout=settings.probe_timeout,
            interval=settings.verify_interval,
            needed=settings.verify_probes,
            sample=settings.fleet_sample,
        )
        launcher = Launcher(aws, InstanceObserver(aws, settings.aws_poll), prober, settings, metrics)
        prometheus = Prometheus(settings.prometheus_url, calling) if settings.prometheus_url else None
        sight = Sight(prometheus, settings.alertmanager_url, calling)
        hands = Hands(aws, launcher, prober, restarter_of(settings, aws))
        recovery = Recovery(store, hands, sight, metrics, settings)
        notifier = Notifier(store, metrics, calling, _telegram(settings))
        runners: dict[RunKind, Runner] = {
            "recover": recovery.run,
            "deploy": Deployment(store, launcher).run,
            "redeploy": BlueGreen(store, launcher).run,
            "adopt": Adoption(store, launcher).run,
            "retire": Retirement(store, launcher).run,
        }
        engine = Engine(store, runners, notifier, metrics, settings.public_url)
        pricing = await _pricing(settings)
        accounts = Accounts(store, aws, prometheus, pricing, metrics, settings)
        counsel = Counsel(accounts, templates)
        bookkeeper = Bookkeeper(accounts, counsel)
        standbys = Standbys(store, aws, settings.gate_interval)
        services: list[Callable[[], Coroutine[Any, Any, None]]] = [
            notifier.serve,
            recovery.watch_storm,
            standbys.serve,
            lambda: OrphanWatch(store, aws, metrics).serve(settings.orphan_interval),
            bookkeeper.serve,
            Inspector(store, aws, prober, settings).serve,
        ]
        if notifier.telegram is not None and any(rule.mode == "approve" for rule in settings.modes):
            services.append(Answers(store, engine, notifier.telegram, calling).serve)
        for serve in services:
            task = asyncio.create_task(serve())
            stack.push_async_callback(_cancelled, task)
        await engine.start()
        stack.push_async_callback(engine.stop)
        running = Services(
            settings,
            templates,
            store,
            aws,
            prober,
            recovery,
            engine,
            metrics,
            prometheus,
            accounts,
            counsel,
        )
        rolling = asyncio.create_task(Conductor(running).serve())
        stack.push_async_callback(_cancelled, rolling)
        yield running


async def _pricing(settings: Settings) -> Pricing | None:
    """A client takes a moment to make; without leave to ask there is none."""
    if not settings.prices_refresh:
        return None
    return await asyncio.to_thread(Pricing, settings.pricing_endpoint_url)


def _telegram(settings: Settings) -> Telegram | None:
    if settings.telegram_token is None or settings.telegram_chat_id is None:
        return None
    return Telegram(settings.telegram_api_url, settings.telegram_token, settings.telegram_chat_id)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
