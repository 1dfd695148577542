"""Durable runs: one task a run, taken up again after every start until it has ended.

Everything a run has come to is in the store; a task holds nothing that its next start could miss.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from remediator.metrics import Metrics
from remediator.model import Bot, Ended, Run, RunKind
from remediator.notify import Notifier
from remediator.store import Store
from remediator.words import message

log = structlog.get_logger()

STUMBLE_PAUSE: Final = 2.0  # seconds before a run whose task failed is taken up again
MOST_STUMBLES: Final = 10  # over faults of our own, until a recovery is handed to a person

# Drives a run to its end. The event is set when something happened that concerns the run.
Runner = Callable[[Run, Bot, asyncio.Event], Awaitable[Ended]]


@dataclass
class _Task:
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)  # nobody need wait for it any more
    task: asyncio.Task[None] | None = None


@dataclass
class Engine:
    store: Store
    runners: Mapping[RunKind, Runner]
    notifier: Notifier
    metrics: Metrics
    public_url: str
    _tasks: dict[str, _Task] = field(default_factory=dict)
    _leaving: bool = False

    async def start(self) -> None:
        """Take up every run that has not ended."""
        async with self.store.read() as tx:
            unfinished = await tx.active_runs()
        for run in unfinished:
            log.info("run resumed", run=run.id, kind=run.kind, bot=run.bot, tier=run.tier)
            self.wake(run.id)

    async def stop(self) -> None:
        """Let go of every run where it stands; the next start takes it up from there."""
        tasks = [item.task for item in self._tasks.values() if item.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self, run_id: str) -> None:
        """Start the run's task, or tell it that something happened."""
        item = self._tasks.get(run_id)
        if item is None:
            item = self._tasks[run_id] = _Task()
            item.task = asyncio.create_task(self._serve(run_id, item), name=run_id)
        item.wake.set()

    async def wait(self, run_id: str, seconds: float) -> None:
        """Until the run has ended, or that long; not at all once the service is about to stop."""
        item = self._tasks.get(run_id)
        if item is None or self._leaving:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(item.told.wait(), seconds)

    def let_go(self) -> None:
        """The service is about to stop: whoever waits for a run gets an answer now."""
        self._leaving = True
        for item in self._tasks.values():
            item.told.set()

    async def _serve(self, run_id: str, item: _Task) -> None:
        """The boundary of the service: whatever goes wrong in here, no run is lost by it.

        A broken store fails no run, however long it lasts. A fault of our own that comes again and again
        must not hold a bot and a place in the in-flight cap for ever: a person is asked.
        """
        stumbles, ended = 0, False
        while not ended:
            try:
                ended = await self._drive(run_id, item.wake, stumbles)
            except Exception as error:
                stumbles += not isinstance(error, SQLAlchemyError)
                log.exception("run stumbled", run=run_id, next_try_seconds=STUMBLE_PAUSE)
                await asyncio.sleep(STUMBLE_PAUSE)
        item.told.set()
        del self._tasks[run_id]

    async def _drive(self, run_id: str, wake: asyncio.Event, stumbles: int) -> bool:
        """Whether the run has ended."""
        async with self.store.read() as tx:
            run = await tx.run(run_id)
            bot = await tx.bot(run.bot) if run is not None else None
        if run is None or run.finished_at is not None:
            return True
        if bot is None:
            return await self._finish(run, Ended("cancelled", "the bot is no longer in the registry"))
        if run.kind == "recover" and stumbles >= MOST_STUMBLES:
            return await self._finish(run, Ended("escalated", "a fault of this service: its log says more"))
        return await self._finish(run, await self.runners[run.kind](run, bot, wake))

    async def _finish(self, run: Run, ended: Ended) -> bool:
        """The end of a run, what it means for the bot, and what people are told: one transaction.

        False where an alert joined the run after it was found that all of its alerts are resolved.
        """
        outcome, why = ended.outcome, ended.why
        async with self.store.write() as tx:
            now = tx.now
            if outcome == "resolved" and any(one.status == "firing" for one in await tx.alerts_of(run.id)):
                return False
            await tx.change_run(run.id, status=outcome, reason=why, finished_at=now)
            await tx.audit(f"run.{outcome}", bot=run.bot, run_id=run.id, kind=run.kind, why=why)
            if outcome == "escalated":
                await tx.change_bot(run.bot, quarantined_at=now, quarantine_reason=why)
            elif outcome == "recovered":
                await tx.change_bot(run.bot, quarantined_at=None, quarantine_reason=None)
            elif outcome == "failed":
                await tx.remove_bot(run.bot)
            text = message(run, outcome, why, now - run.created_at, self.public_url)
            if text:
                await tx.notify(run.id, text)
        self.metrics.runs.labels(run.kind, outcome).inc()
        self.metrics.duration.labels(run.kind).observe(now - run.created_at)
        self.notifier.wake()
        log.info("run ended", run=run.id, kind=run.kind, bot=run.bot, outcome=outcome, why=why)
        return True
