"""One replica of the service: production's engine over the simulated store, AWS and bots.

It can die at any of its awaits, right before or after a commit or an effect, and it can be frozen.
"""

import asyncio
import contextvars
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, Literal, cast

import aiohttp
from starlette.requests import Request
from starlette.responses import Response

from exporter.probing.probe import Session
from remediator.api.errors import STATUSES, RequestError
from remediator.api.openapi import OPERATIONS
from remediator.cost.worker import CostWorker
from remediator.errors import Refused
from remediator.notifications.notifier import Notifier
from remediator.provisioning.files_keeper import FilesKeeper
from remediator.recovery.gatekeeper import IN_STORE_AT_ONCE, Gatekeeper
from remediator.recovery.limits import Limits
from remediator.recovery.queue_watch import QueueWatch
from remediator.recovery.storm_watch import StormWatch
from remediator.runtime import Runtime, build_autoscaler, build_census, build_engine
from remediator.store.errors import StoreError, StoreUnavailableError
from sandbox.simulator.environment import Environment
from sandbox.simulator.instrumented import (
    SimulatedAlertmanager,
    SimulatedMonitoring,
    SimulatedProber,
    SimulatedTurns,
    WatchedScaler,
)
from sandbox.simulator.memory_store import Hooks, MemoryStore
from sandbox.simulator.memory_transaction import MemoryTransaction
from sandbox.simulator.scaling_groups import SimulatedPrometheus
from sandbox.simulator.simulated_aws import SimulatedAws
from sandbox.simulator.virtual_clock import EPOCH

NO_SESSION: Final = cast(aiohttp.ClientSession, None)  # nothing here speaks HTTP
NO_PROBES: Final = cast(Session, None)  # nor does a prober of the world
FROZEN_AFTER: Final = 5.0  # seconds until PostgreSQL ends the transaction of a frozen client
ENDPOINTS: Final = {operation.name: operation.endpoint for operation in OPERATIONS}
HERE: contextvars.ContextVar["Replica | None"] = contextvars.ContextVar("replica", default=None)

Where = Literal["before commit", "after commit", "before effect", "after effect"]


@dataclass
class Replica(Hooks):
    """A process of the service, from its start to its death."""

    name: str
    shared: Environment
    skew: float
    dead: bool = False
    dies_at: tuple[Where, int] | None = None  # it dies there, at the n-th from now
    dies_at_move: Where | Literal[""] = ""  # it dies there, when it next makes a group larger or smaller
    freeze_before_request: float = 0  # seconds, on its way to the next effect
    freeze_after_read: tuple[str, float] = ("", 0)  # of what scaling reads, and for how many seconds
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    _thawed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._thawed.set()
        shared, settings = self.shared, self.shared.settings
        loop = asyncio.get_running_loop()
        self.store = MemoryStore(
            shared.database,
            replica=self.name,
            lease_seconds=settings.lease,
            clock=lambda: EPOCH + loop.time() + self.skew,
            monotonic=loop.time,
            hooks=self,
        )
        prober = SimulatedProber(
            NO_PROBES,
            timeout=settings.probe_timeout,
            interval=settings.verify_interval,
            needed=settings.verify_probes,
        )
        prober.replica = self
        runtime = self._build(SimulatedAws(shared.region, self), prober)
        self.engine, self.storm_watch = runtime.engine, runtime.storm_watch
        self.app = SimpleNamespace(state=SimpleNamespace(runtime=runtime))
        self.scaler = WatchedScaler(**vars(build_autoscaler(runtime)), oracle=shared.oracle)

    def _build(self, aws: SimulatedAws, prober: SimulatedProber) -> Runtime:
        """Build production's engine and gates over the world, watched by the oracle."""
        shared, settings, metrics = self.shared, self.shared.settings, self.shared.metrics
        alertmanager = SimulatedAlertmanager(None, NO_SESSION)
        monitoring = SimulatedMonitoring.from_settings(settings, self.store, None)
        alertmanager.replica = monitoring.replica = self
        turns = SimulatedTurns("", NO_SESSION, self) if shared.works else None
        census = build_census(settings, self.store, prober, turns)
        limits = Limits.from_settings(settings)
        storm_watch = StormWatch(self.store, census, limits, settings.gate_interval)
        queue_watch = QueueWatch(self.store, aws, NO_SESSION, settings)
        store_slots = asyncio.Semaphore(IN_STORE_AT_ONCE)
        gatekeeper = Gatekeeper(
            self.store, prober, alertmanager, monitoring, census, limits, storm_watch, queue_watch,
            store_slots, metrics, settings, observer=shared.oracle,
        )  # fmt: skip
        notifier = Notifier(self.store, metrics, NO_SESSION, None)
        files = FilesKeeper(aws, {})
        engine = build_engine(
            settings, self.store, aws, files, prober, gatekeeper, queue_watch, store_slots, notifier, metrics
        )
        engine.observer = shared.oracle
        prometheus = None
        if shared.scrapes is not None:
            prometheus = SimulatedPrometheus(
                "", NO_SESSION, shared.scrapes, self, lambda: shared.monitoring_problem
            )
        no_costs = cast(CostWorker, None)  # no call that is made here asks for costs or advice
        return Runtime(
            settings, shared.templates, metrics, self.store, aws, files, NO_SESSION, prometheus, alertmanager,
            prober, monitoring, census, limits, storm_watch, queue_watch, notifier, engine, no_costs,
        )  # fmt: skip

    # life and death

    async def live(self) -> None:
        """Start, and run what production runs in the background."""
        while True:  # systemd starts it again where the store was away
            try:
                await self.engine.start()
                break
            except StoreError:
                await asyncio.sleep(2)
        if self.shared.scrapes is not None:
            self.spawn(self.scaler.serve())
        await self.storm_watch.serve()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that dies with the replica, and so do those that it starts."""
        token = HERE.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            HERE.reset(token)

    def die(self) -> None:
        """End all tasks at once, wherever they are."""
        if self.dead:
            return
        self.dead = True
        self.shared.oracle.note(f"{self.name} dies")
        self.thaw()
        for task in list(self.tasks):
            task.cancel()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def freeze(self) -> None:
        self.shared.oracle.note(f"{self.name} is frozen")
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def _die_if_due(self, where: Where) -> None:
        if self.dies_at is not None and self.dies_at[0] == where:
            remaining = self.dies_at[1] - 1
            self.dies_at = where, remaining
            if remaining <= 0:
                self.dies_at = None
                self.shared.oracle.note(f"{self.name} is struck {where}")
                self.die()
        if self.dead:
            raise asyncio.CancelledError

    def _die_if_move(self, where: Where, tx: MemoryTransaction) -> None:
        if self.dies_at_move == where and any(entry.event == "scale.begun" for entry in tx.entries):
            self.dies_at_move, self.dies_at = "", (where, 1)
        self._die_if_due(where)

    async def reach(self) -> None:
        if self.dead:
            raise asyncio.CancelledError
        draw = self.shared.random.random()
        if draw < 0.25:  # now and then is enough to let others in between, and four times as fast
            await asyncio.sleep(draw * 0.04)
        while self.frozen:
            await self._thawed.wait()
        if self.dead:
            raise asyncio.CancelledError

    # the store's hooks

    async def before_commit(self, tx: MemoryTransaction) -> None:
        await asyncio.sleep(self.shared.random.random() * 0.01)
        if self.frozen:
            try:
                async with asyncio.timeout(FROZEN_AFTER):
                    await self._thawed.wait()
            except TimeoutError:
                raise StoreUnavailableError(
                    "terminating connection due to idle-in-transaction timeout"
                ) from None
        self._die_if_move("before commit", tx)
        if self.shared.store_broken and self.shared.random.random() < self.shared.store_broken:
            if self.shared.random.random() < 0.5:
                raise StoreUnavailableError("the database is away")
            self.shared.database.commit(tx)
            self.shared.oracle.committed(tx)
            raise StoreUnavailableError("the answer to the commit was lost")

    def committed(self, tx: MemoryTransaction) -> None:
        self.shared.oracle.committed(tx)
        self._die_if_move("after commit", tx)

    # AWS's hooks

    def before_request(self) -> None:
        self._pause(self.freeze_before_request)
        self.freeze_before_request = 0

    def after_read(self, subject: str) -> None:
        if self.freeze_after_read[0] == subject:
            self._pause(self.freeze_after_read[1])
            self.freeze_after_read = "", 0

    def _pause(self, seconds: float) -> None:
        if seconds:
            self.freeze()
            asyncio.get_running_loop().call_later(seconds, self.thaw)

    def before_effect(self, operation: str) -> None:
        self._die_if_due("before effect")

    def effect(self, operation: str, run_id: str, machine: str) -> None:
        self.shared.oracle.effect(self.name, operation, run_id, machine)

    def after_effect(self, operation: str) -> None:
        self._die_if_due("after effect")

    # calls from outside

    async def call(
        self, operation: str, body: Any = None, params: Mapping[str, str] = {}, patience: float = 10
    ) -> int:
        """Return the status of the API's answer; 0 where there was none."""
        if self.dead:
            return 0
        data = json.dumps(body if body is not None else {}).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        scope = {
            "type": "http",
            "app": self.app,
            "method": "POST",
            "path": "/",
            "headers": [],
            "query_string": b"",
            "path_params": params,
            "client": ("10.9.9.9", 1),
        }

        async def answer() -> Response:
            return await ENDPOINTS[operation](Request(scope, receive))

        task = self.spawn(answer())
        done, _ = await asyncio.wait({task}, timeout=patience)
        if not done or task.cancelled():
            task.cancel()
            return 0
        error = task.exception()
        if isinstance(error, Refused):
            return STATUSES[error.kind]
        if isinstance(error, RequestError):
            return error.status
        if isinstance(error, StoreError):
            return 503
        if error is not None:
            self.shared.oracle.violated(f"{operation} broke: {error!r}")
            return 500
        return int(task.result().status_code)


def remember_tasks(
    loop: asyncio.AbstractEventLoop,
    work: Any,
    context: contextvars.Context | None = None,
) -> asyncio.Task[Any]:
    """Make a task, as the loop's task factory: what a replica starts dies with it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    replica = HERE.get()
    if replica is not None:
        replica.tasks[task] = None
        task.add_done_callback(lambda done: replica.tasks.pop(done, None))
        if replica.dead:
            task.cancel()
    return task
