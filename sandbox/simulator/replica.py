"""One replica of the service: production's engine over the simulated store, AWS and bots.

It can die at any of its awaits, right before or after a commit or an effect, and it can be frozen.
"""

import asyncio
import contextvars
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import aiohttp
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from starlette.requests import Request

from remediator.actions import Hands
from remediator.api import Api
from remediator.deploy import Deployment
from remediator.engine import Runner
from remediator.errors import RequestError
from remediator.launch import Launcher
from remediator.model import RunKind
from remediator.notify import Notifier
from remediator.observer import InstanceObserver
from remediator.restarters import SsmRestarter
from remediator.retire import Retirement
from remediator.services import Services
from sandbox.simulator.aws import SimulatedAws
from sandbox.simulator.clock import EPOCH
from sandbox.simulator.groups import SimulatedPrometheus
from sandbox.simulator.memory import Hooks, MemoryStore
from sandbox.simulator.surroundings import Surroundings
from sandbox.simulator.tables import MemoryTransaction
from sandbox.simulator.watched import (
    SimulatedProber,
    SimulatedSight,
    WatchedEngine,
    WatchedRecovery,
    WatchedScaler,
)

FROZEN_AFTER: Final = 5.0  # seconds until PostgreSQL ends the transaction of a frozen client
HERE: contextvars.ContextVar["Replica | None"] = contextvars.ContextVar("replica", default=None)

Where = Literal["before commit", "after commit", "before effect", "after effect"]


@dataclass
class Replica(Hooks):
    name: str
    around: Surroundings
    skew: float
    dead: bool = False
    last_words: tuple[Where, int] | None = None  # it dies there, at the n-th from now
    last_move: Where | Literal[""] = ""  # it dies there, when it next makes a group larger or smaller
    stall: float = 0  # seconds for which it is frozen on its way to the next effect
    daze: tuple[str, float] = ("", 0)  # frozen when it has seen that of the groups that scale, for so long
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)
    _thawed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._thawed.set()
        around = self.around
        loop = asyncio.get_running_loop()
        self.store = MemoryStore(
            around.database,
            replica=self.name,
            lease_seconds=around.settings.lease,
            clock=lambda: EPOCH + loop.time() + self.skew,
            monotonic=loop.time,
            hooks=self,
        )
        settings, nobody = around.settings, cast(aiohttp.ClientSession, None)
        aws = SimulatedAws(around.region, self)
        prober = SimulatedProber(
            nobody,
            timeout=settings.probe_timeout,
            interval=settings.verify_interval,
            needed=settings.verify_probes,
            sample=settings.fleet_sample,
        )
        prober.replica = self
        launcher = Launcher(aws, InstanceObserver(aws, settings.aws_poll), prober, settings, around.metrics)
        sight = SimulatedSight(None, None, nobody)
        sight.replica = self
        hands = Hands(aws, launcher, prober, SsmRestarter(aws))
        recovery = WatchedRecovery(self.store, hands, sight, around.metrics, settings)
        recovery.oracle = around.oracle
        runners: dict[RunKind, Runner] = {
            "recover": recovery.run,
            "deploy": Deployment(self.store, launcher).run,
            "retire": Retirement(self.store, launcher).run,
        }
        notifier = Notifier(self.store, around.metrics, nobody, None)
        self.engine = WatchedEngine(self.store, runners, notifier, around.metrics, "")
        self.engine.oracle = around.oracle
        self.recovery = recovery
        nothing = cast(Any, None)  # no call that is made here asks for costs or advice
        prometheus = None
        if around.scrapes is not None:
            prometheus = SimulatedPrometheus("", nobody, around.scrapes, self, lambda: around.blind)
        services = Services(
            settings,
            around.templates,
            self.store,
            aws,
            prober,
            recovery,
            self.engine,
            around.metrics,
            prometheus,
            nothing,
            nothing,
        )
        self.api = Api(services)
        self.scaler = WatchedScaler(services, around.oracle)

    # life and death

    async def live(self) -> None:
        while True:  # systemd starts it again where the store was away
            try:
                await self.engine.start()
                break
            except SQLAlchemyError:
                await asyncio.sleep(2)
        if self.around.scrapes is not None:
            self.spawn(self.scaler.serve())
        await self.recovery.watch_storm()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        token = HERE.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            HERE.reset(token)

    def die(self) -> None:
        if self.dead:
            return
        self.dead = True
        self.around.oracle.note(f"{self.name} dies")
        self.thaw()
        for task in list(self.tasks):
            task.cancel()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def freeze(self) -> None:
        self.around.oracle.note(f"{self.name} is frozen")
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def _doom(self, where: Where) -> None:
        if self.last_words is not None and self.last_words[0] == where:
            left = self.last_words[1] - 1
            self.last_words = where, left
            if left <= 0:
                self.last_words = None
                self.around.oracle.note(f"{self.name} is struck {where}")
                self.die()
        if self.dead:
            raise asyncio.CancelledError

    def _doom_move(self, where: Where, tx: MemoryTransaction) -> None:
        if self.last_move == where and any(entry.event == "scale.begun" for entry in tx.said):
            self.last_move, self.last_words = "", (where, 1)
        self._doom(where)

    async def reach(self) -> None:
        if self.dead:
            raise asyncio.CancelledError
        draw = self.around.random.random()
        if draw < 0.25:  # now and then is enough to let others in between, and four times as fast
            await asyncio.sleep(draw * 0.04)
        while self.frozen:
            await self._thawed.wait()
        if self.dead:
            raise asyncio.CancelledError

    # the store's hooks

    async def before_commit(self, tx: MemoryTransaction) -> None:
        await asyncio.sleep(self.around.random.random() * 0.01)
        if self.frozen:
            try:
                async with asyncio.timeout(FROZEN_AFTER):
                    await self._thawed.wait()
            except TimeoutError:
                raise _broken("terminating connection due to idle-in-transaction timeout") from None
        self._doom_move("before commit", tx)
        if self.around.store_broken and self.around.random.random() < self.around.store_broken:
            if self.around.random.random() < 0.5:
                raise _broken("the database is away")
            self._memory_keeps(tx)
            raise _broken("the answer to the commit was lost")

    def _memory_keeps(self, tx: MemoryTransaction) -> None:
        database = self.around.database
        database.tables = tx.tables
        database.trail.extend(tx.said)
        self.around.oracle.committed(tx)

    def committed(self, tx: MemoryTransaction) -> None:
        self.around.oracle.committed(tx)
        self._doom_move("after commit", tx)

    # AWS's hooks

    def approach(self) -> None:
        self._pause(self.stall)
        self.stall = 0

    def saw(self, what: str) -> None:
        if self.daze[0] == what:
            self._pause(self.daze[1])
            self.daze = "", 0

    def _pause(self, seconds: float) -> None:
        if seconds:
            self.freeze()
            asyncio.get_running_loop().call_later(seconds, self.thaw)

    def before_effect(self, operation: str) -> None:
        self._doom("before effect")

    def effect(self, operation: str, run_id: str, machine: str) -> None:
        self.around.oracle.effect(self.name, operation, run_id, machine)

    def after_effect(self, operation: str) -> None:
        self._doom("after effect")

    # calls from outside

    async def call(
        self, handler: str, body: Any = None, params: Mapping[str, str] = {}, patience: float = 10
    ) -> int:
        """The status of the answer; 0 where there was none."""
        if self.dead:
            return 0
        data = json.dumps(body if body is not None else {}).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [],
            "query_string": b"",
            "path_params": params,
            "client": ("10.9.9.9", 1),
        }
        task = self.spawn(getattr(self.api, handler)(Request(scope, receive)))
        done, _ = await asyncio.wait({task}, timeout=patience)
        if not done or task.cancelled():
            task.cancel()
            return 0
        error = task.exception()
        if isinstance(error, RequestError):
            return error.status
        if isinstance(error, SQLAlchemyError):
            return 503
        if error is not None:
            self.around.oracle.violated(f"{handler} broke: {error!r}")
            return 500
        return int(task.result().status_code)


def _broken(why: str) -> OperationalError:
    return OperationalError("", {}, Exception(why))


def remember_tasks(
    loop: asyncio.AbstractEventLoop,
    work: Any,
    context: contextvars.Context | None = None,
) -> asyncio.Task[Any]:
    """A task factory: whatever a replica starts dies with it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    replica = HERE.get()
    if replica is not None:
        replica.tasks[task] = None
        task.add_done_callback(lambda done: replica.tasks.pop(done, None))
        if replica.dead:
            task.cancel()
    return task
