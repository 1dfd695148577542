"""Durable runs: one task a run, on one replica at a time, until it has ended.

Everything a run has come to is in the store; a task holds nothing that its next owner could miss. The API and
the features begin runs in the store and have them driven here; here their runners are called.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from remediator.errors import first_line
from remediator.metrics import Metrics
from remediator.model import Bot, Ended, Run, RunKind
from remediator.notifications.messages import message
from remediator.notifications.notifier import Notifier
from remediator.periodic import run_every, wait_for
from remediator.store.errors import StoreError
from remediator.store.lease import Lease, LeaseLostError
from remediator.store.store import Store
from remediator.store.transaction import Transaction

log = structlog.get_logger()

RETRY_AFTER: Final = 2.0  # seconds before a run whose task failed is taken up again
MAX_FAULTS: Final = 10  # of our own, until a run is given up and a person is told
CLAIMED_AT_ONCE: Final = 100
READ_AT_ONCE: Final = 4  # runs
REMEDIES: Final[Mapping[RunKind, str]] = {  # for who finds a run of that kind given up
    "deploy": "DELETE /bots/{bot} takes away what there is of it",
    "redeploy": "see which instance serves, then DELETE /bots/{bot}/quarantine",
    "retire": "DELETE /bots/{bot} goes on with it",
    "adopt": "its instance was left alone; adopt it again",
}
POLL_INTERVAL: Final = 0.5  # seconds, of a run that another replica drives

# Drives a run to its end. The event is set when something happened that concerns the run.
Runner = Callable[[Run, Bot, Lease, asyncio.Event], Awaitable[Ended]]


class RunObserver(Protocol):
    """Watches runs from outside, as a simulation does."""

    def failed(self, run_id: str, error: Exception) -> None:
        """Take note of an error that ended a run's task; the engine takes the run up again all the same."""


class NoRunObserver:
    """The observer of runs that nobody watches."""

    def failed(self, run_id: str, error: Exception) -> None:
        """Do nothing."""


@dataclass
class _RunTask:
    lease: Lease
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)  # nobody need wait for it any more
    task: asyncio.Task[None] | None = None


@dataclass
class Engine:
    """Drives the runs of this replica. `public_url` is in what people are told."""

    store: Store
    runners: Mapping[RunKind, Runner]
    notifier: Notifier
    metrics: Metrics
    public_url: str
    woken_per_end: int = 2  # queued runs that are woken when one ends: the second, if the first may not begin
    observer: RunObserver = field(default_factory=NoRunObserver)
    _tasks: dict[str, _RunTask] = field(default_factory=dict)
    _lease_keeper: asyncio.Task[None] | None = None
    _shutting_down: bool = False
    # Of a thousand runs that begin at once, each waits here, in order, and an alert comes in between.
    _read_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READ_AT_ONCE))

    async def start(self) -> None:
        """Take up every run that is free to be taken, and from now on each that becomes so."""
        await self._claim()
        self._lease_keeper = asyncio.create_task(
            run_every(self._keep_leases, self.store.lease_seconds / 4, "leases not held on"), name="leases"
        )

    async def stop(self) -> None:
        """Leave every run where it stands; the next start, or another replica, takes it up from there."""
        tasks = [self._lease_keeper, *(run_task.task for run_task in self._tasks.values())]
        run_ids = list(self._tasks)
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)
        await self._release(run_ids)

    async def _release(self, run_ids: list[str]) -> None:
        try:
            async with self.store.write() as tx:
                await tx.release(run_ids)
        except StoreError as error:
            log.warning("leases not given back; they end by themselves", error=first_line(error))

    def drive(self, run: Run) -> None:
        """Start the task of a run that this replica has just begun or claimed; one task a run."""
        if run.id in self._tasks:
            return
        run_task = self._tasks[run.id] = _RunTask(self.store.lease(run))
        run_task.task = asyncio.create_task(self._serve(run.id, run_task), name=run.id)

    def wake(self, run_id: str) -> None:
        """Tell a run that something happened that concerns it.

        One of another replica learns of it when it next asks its gates.
        """
        run_task = self._tasks.get(run_id)
        if run_task is not None:
            run_task.wake.set()

    async def wait(self, run_id: str, seconds: float) -> None:
        """Wait until the run has ended, or that long; not at all once the service is about to stop."""
        deadline = asyncio.get_running_loop().time() + seconds
        run_task = self._tasks.get(run_id)
        if run_task is not None and not self._shutting_down:
            await wait_for(run_task.finished, seconds)
        while asyncio.get_running_loop().time() < deadline and not self._shutting_down:
            async with self.store.read() as tx:
                run = await tx.run(run_id)
            if run is None or run.finished_at is not None:
                return
            await asyncio.sleep(POLL_INTERVAL)

    def is_leaving(self) -> bool:
        """Return whether the service is about to stop."""
        return self._shutting_down

    def begin_shutdown(self) -> None:
        """Let every request that waits for a run be answered now: the service is about to stop."""
        self._shutting_down = True
        for run_task in self._tasks.values():
            run_task.finished.set()

    # leases

    async def _keep_leases(self) -> None:
        """Renew the leases of what has a live task, and take over what nobody drives any more."""
        await self._renew()
        await self._claim()

    async def _renew(self) -> None:
        if not self._tasks or self.store.alone:  # alone, nobody else is there to take them
            return
        began = self.store.monotonic()
        async with self.store.write() as tx:
            fences = await tx.renew(list(self._tasks))
        for run_id, run_task in list(self._tasks.items()):
            if fences.get(run_id) == run_task.lease.fence:
                run_task.lease.held_until = self.store.held_until(began)
            elif not run_task.finished.is_set() and run_task.task is not None:
                run_task.task.cancel()

    async def _claim(self) -> None:
        async with self.store.write() as tx:
            claimed = await tx.claim(list(self._tasks), CLAIMED_AT_ONCE)
        for run in claimed:
            log.info("run taken up", run=run.id, kind=run.kind, bot=run.bot, tier=run.tier, fence=run.fence)
            self.drive(run)

    # one run

    async def _serve(self, run_id: str, run_task: _RunTask) -> None:
        """Drive the run until it has ended. This is a boundary of the service: no error in here loses a run.

        A broken store fails no run, however long it lasts. A fault of our own that comes again and again
        must not hold a bot and a slot of the in-flight limit for ever: the run ends where it stands, and a
        person is told.
        """
        faults: list[str] = []
        ended = False
        try:
            while not ended:
                try:
                    ended = await self._drive(run_id, run_task, faults)
                except LeaseLostError:
                    await self._let_go(run_id)
                    return
                except Exception as error:
                    self.observer.failed(run_id, error)
                    if not isinstance(error, StoreError):
                        faults.append(type(error).__name__)
                    log.exception("run stumbled", run=run_id, next_try_seconds=RETRY_AFTER)
                    await asyncio.sleep(RETRY_AFTER)
        finally:
            run_task.finished.set()
            if self._tasks.get(run_id) is run_task:
                del self._tasks[run_id]

    async def _let_go(self, run_id: str) -> None:
        """Say why the run is no longer driven here: another replica has it, or a person ended it."""
        run: Run | None = None
        with suppress(StoreError):
            async with self.store.read() as tx:
                run = await tx.run(run_id)
        if run is None or run.finished_at is None:
            log.warning("run left to another replica", run=run_id)
            return
        self.metrics.runs.labels(run.kind, run.status).inc()
        log.info("run ended", run=run.id, kind=run.kind, bot=run.bot, outcome=run.status, why=run.reason)

    async def _drive(self, run_id: str, run_task: _RunTask, faults: Sequence[str]) -> bool:
        """Call the run's runner. Return whether the run has ended."""
        async with self._read_slots, self.store.read() as tx:
            run = await tx.run(run_id)
            bot = await tx.bot(run.bot) if run is not None else None
        if run is None or run.finished_at is not None:
            return True
        if bot is None:
            ended = Ended("cancelled", "the bot is no longer in the registry")
        elif len(faults) >= MAX_FAULTS:
            ended = _given_up(run, faults[-1])
        else:
            ended = await self.runners[run.kind](run, bot, run_task.lease, run_task.wake)
        return await self._finish(run, run_task.lease, ended)

    async def _finish(self, run: Run, lease: Lease, ended: Ended) -> bool:
        """Write the run's end, what it means for the bot, and the message to people in one transaction.

        Return False where an alert joined the run after it was found that all of its alerts are resolved.
        """
        outcome, reason = ended.outcome, ended.reason
        async with self.store.write_as(lease) as tx:
            now = tx.now
            alerts = await tx.alerts_of(run.id)
            if outcome == "resolved" and any(alert.status == "firing" for alert in alerts):
                return False
            await tx.change_run(run.id, status=outcome, reason=reason, finished_at=now)
            await tx.audit(f"run.{outcome}", bot=run.bot, run_id=run.id, kind=run.kind, why=reason)
            await _mark_bot(tx, run, ended)
            text = message(run, outcome, reason, now - run.created_at, self.public_url)
            if text:
                await tx.notify(run.id, text)
            queued = await tx.queue(self.woken_per_end)
        ill_since = min((alert.starts_at for alert in alerts), default=None)
        if outcome == "recovered" and ill_since is not None:
            self.metrics.time_to_recover.observe(max(0, now - ill_since))
        self.metrics.runs.labels(run.kind, outcome).inc()
        self.metrics.duration.labels(run.kind).observe(now - run.created_at)
        if run.kind != "recover":
            self.metrics.deployment_duration.labels(run.kind).observe(now - run.created_at)
        self.notifier.wake()
        for queued_id in queued:
            self.wake(queued_id)
        log.info("run ended", run=run.id, kind=run.kind, bot=run.bot, outcome=outcome, why=reason)
        return True


def _given_up(run: Run, fault: str) -> Ended:
    """Return the end of a run that a fault of ours keeps from going on: nothing is done any more."""
    reason = f"a fault of this service ({fault}): its log says more"
    if run.kind == "recover":
        return Ended("escalated", reason)
    return Ended("failed", f"{reason}; {REMEDIES[run.kind].format(bot=run.bot)}", given_up=True)


async def _mark_bot(tx: Transaction, run: Run, ended: Ended) -> None:
    if ended.outcome == "escalated" or (ended.outcome == "failed" and run.kind == "retire"):
        await _quarantine(tx, run, ended)
    elif ended.outcome in ("recovered", "deployed"):
        await tx.change_bot(run.bot, quarantined_at=None, quarantine_reason=None)
    elif ended.given_up and not await _is_to_be_adopted(tx, run):
        await _quarantine(tx, run, ended)
    elif ended.outcome == "retired" or (ended.outcome == "failed" and run.kind in ("deploy", "adopt")):
        await tx.remove_bot(run.bot)


async def _quarantine(tx: Transaction, run: Run, ended: Ended) -> None:
    await tx.change_bot(run.bot, quarantined_at=tx.now, quarantine_reason=ended.reason)


async def _is_to_be_adopted(tx: Transaction, run: Run) -> bool:
    """Return whether the bot is an instance of somebody's that is none of ours yet."""
    bot = await tx.bot(run.bot)
    return run.kind == "adopt" and bot is not None and bot.state == "deploying"
