"""Durable runs: one task a run, on one replica at a time, until it has ended.

Everything a run has come to is in the store; a task holds nothing that its next owner could miss.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from remediator.errors import first_line
from remediator.lease import Lease, LeaseLostError
from remediator.metrics import Metrics
from remediator.model import Bot, Ended, Run, RunKind
from remediator.notify import Notifier
from remediator.rounds import repeat, until_woken
from remediator.store import Store
from remediator.transaction import Transaction
from remediator.words import message

log = structlog.get_logger()

STUMBLE_PAUSE: Final = 2.0  # seconds before a run whose task failed is taken up again
MOST_STUMBLES: Final = 10  # over faults of our own, until a recovery is handed to a person
CLAIMED_AT_ONCE: Final = 100
AT_ONCE: Final = 4  # runs that are read from the store
POLL: Final = 0.5  # seconds between two looks at a run that another replica drives

# Drives a run to its end. The event is set when something happened that concerns the run.
Runner = Callable[[Run, Bot, Lease, asyncio.Event], Awaitable[Ended]]


@dataclass
class _Task:
    lease: Lease
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
    nudged: int = 2  # runs told when a place may have become free: the second, if the first may not take it
    _tasks: dict[str, _Task] = field(default_factory=dict)
    _keeper: asyncio.Task[None] | None = None
    _leaving: bool = False
    # Of a thousand runs that begin at once, each waits here, in order, and an alert comes in between.
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def start(self) -> None:
        """Take up every run that is free to be taken, and from now on whatever becomes so."""
        await self._claim()
        self._keeper = asyncio.create_task(
            repeat(self._keep, self.store.lease_seconds / 4, "leases not held on"), name="leases"
        )

    async def stop(self) -> None:
        """Let go of every run where it stands; the next start, or another replica, takes it up from there."""
        tasks = [self._keeper, *(item.task for item in self._tasks.values())]
        held = [item.lease for item in self._tasks.values()]
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
        await self._give_back([lease.run_id for lease in held])

    async def _give_back(self, run_ids: list[str]) -> None:
        try:
            async with self.store.write() as tx:
                await tx.release(run_ids)
        except SQLAlchemyError as error:
            log.warning("leases not given back; they end by themselves", error=first_line(error))

    def drive(self, run: Run) -> None:
        """Start the task of a run that this replica has just begun or claimed; one task a run."""
        if run.id in self._tasks:
            return
        item = self._tasks[run.id] = _Task(self.store.lease(run))
        item.task = asyncio.create_task(self._serve(run.id, item), name=run.id)

    def wake(self, run_id: str) -> None:
        """Something happened that concerns the run. Another replica's sees it when it next asks its gates."""
        item = self._tasks.get(run_id)
        if item is not None:
            item.wake.set()

    async def wait(self, run_id: str, seconds: float) -> None:
        """Until the run has ended, or that long; not at all once the service is about to stop."""
        deadline = asyncio.get_running_loop().time() + seconds
        item = self._tasks.get(run_id)
        if item is not None and not self._leaving:
            await until_woken(item.told, seconds)
        while asyncio.get_running_loop().time() < deadline and not self._leaving:
            async with self.store.read() as tx:
                run = await tx.run(run_id)
            if run is None or run.finished_at is not None:
                return
            await asyncio.sleep(POLL)

    def is_leaving(self) -> bool:
        return self._leaving

    def let_go(self) -> None:
        """The service is about to stop: whoever waits for a run gets an answer now."""
        self._leaving = True
        for item in self._tasks.values():
            item.told.set()

    # leases

    async def _keep(self) -> None:
        """Hold on to what has a live task, and take over what nobody holds any more."""
        await self._beat()
        await self._claim()

    async def _beat(self) -> None:
        if not self._tasks or self.store.alone:  # alone, nobody else is there to take them
            return
        began = self.store.monotonic()
        async with self.store.write() as tx:
            mine = await tx.beat(list(self._tasks))
        for run_id, item in list(self._tasks.items()):
            if mine.get(run_id) == item.lease.fence:
                item.lease.held_until = self.store.held_until(began)
            elif not item.told.is_set() and item.task is not None:
                item.task.cancel()

    async def _claim(self) -> None:
        async with self.store.write() as tx:
            claimed = await tx.claim(list(self._tasks), CLAIMED_AT_ONCE)
        for run in claimed:
            log.info("run taken up", run=run.id, kind=run.kind, bot=run.bot, tier=run.tier, fence=run.fence)
            self.drive(run)

    # one run

    async def _serve(self, run_id: str, item: _Task) -> None:
        """The boundary of the service: whatever goes wrong in here, no run is lost by it.

        A broken store fails no run, however long it lasts. A fault of our own that comes again and again
        must not hold a bot and a place in the in-flight cap for ever: a person is asked.
        """
        stumbles, ended = 0, False
        try:
            while not ended:
                try:
                    ended = await self._drive(run_id, item, stumbles)
                except LeaseLostError:
                    log.warning("run left to another replica", run=run_id)
                    return
                except Exception as error:
                    stumbles += not isinstance(error, SQLAlchemyError)
                    log.exception("run stumbled", run=run_id, next_try_seconds=STUMBLE_PAUSE)
                    await asyncio.sleep(STUMBLE_PAUSE)
        finally:
            item.told.set()
            if self._tasks.get(run_id) is item:
                del self._tasks[run_id]

    async def _drive(self, run_id: str, item: _Task, stumbles: int) -> bool:
        """Whether the run has ended."""
        async with self._turns, self.store.read() as tx:
            run = await tx.run(run_id)
            bot = await tx.bot(run.bot) if run is not None else None
        if run is None or run.finished_at is not None:
            return True
        if bot is None:
            ended = Ended("cancelled", "the bot is no longer in the registry")
        elif run.kind == "recover" and stumbles >= MOST_STUMBLES:
            ended = Ended("escalated", "a fault of this service: its log says more")
        else:
            ended = await self.runners[run.kind](run, bot, item.lease, item.wake)
        return await self._finish(run, item.lease, ended)

    async def _finish(self, run: Run, lease: Lease, ended: Ended) -> bool:
        """The end of a run, what it means for the bot, and what people are told: one transaction.

        False where an alert joined the run after it was found that all of its alerts are resolved.
        """
        outcome, why = ended.outcome, ended.why
        async with self.store.hold(lease) as tx:
            now = tx.now
            if outcome == "resolved" and any(one.status == "firing" for one in await tx.alerts_of(run.id)):
                return False
            await tx.change_run(run.id, status=outcome, reason=why, finished_at=now)
            await tx.audit(f"run.{outcome}", bot=run.bot, run_id=run.id, kind=run.kind, why=why)
            await self._mark_bot(tx, run, ended)
            text = message(run, outcome, why, now - run.created_at, self.public_url)
            if text:
                await tx.notify(run.id, text)
            waiting = await tx.queue(self.nudged)
            ill_since = min((one.starts_at for one in await tx.alerts_of(run.id)), default=None)
        if outcome == "recovered" and ill_since is not None:
            self.metrics.time_to_recover.observe(max(0, now - ill_since))
        self.metrics.runs.labels(run.kind, outcome).inc()
        self.metrics.duration.labels(run.kind).observe(now - run.created_at)
        if run.kind != "recover":
            self.metrics.deployment_duration.labels(run.kind).observe(now - run.created_at)
        self.notifier.wake()
        for other in waiting:
            self.wake(other)
        log.info("run ended", run=run.id, kind=run.kind, bot=run.bot, outcome=outcome, why=why)
        return True

    async def _mark_bot(self, tx: Transaction, run: Run, ended: Ended) -> None:
        if ended.outcome == "escalated":
            await tx.change_bot(run.bot, quarantined_at=tx.now, quarantine_reason=ended.why)
        elif ended.outcome in ("recovered", "deployed"):
            await tx.change_bot(run.bot, quarantined_at=None, quarantine_reason=None)
        elif ended.outcome == "failed" and run.kind == "retire":
            await tx.change_bot(run.bot, quarantined_at=tx.now, quarantine_reason=ended.why)
        elif ended.outcome == "retired" or (ended.outcome == "failed" and run.kind in ("deploy", "adopt")):
            await tx.remove_bot(run.bot)
