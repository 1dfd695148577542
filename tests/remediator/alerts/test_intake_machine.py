"""Whatever two Alertmanagers send twice, together or in another order does what it does once.

Two stores hear of the same illnesses. `much` gets every copy that Alertmanagers may make of a notification,
`once` each notification a single time, when its first copy arrives. What they come to is the same.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remediator.alerts.intake import receive
from remediator.alerts.webhook import Alert, Webhook
from remediator.metrics import Metrics
from remediator.model import Run
from remediator.store.store import Store
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore
from tests.remediator.engine.test_engine import bot

BOTS = ("forge", "atlas", "iris")
RELAPSE = 300.0  # seconds; a copy that comes later than that is news
METRICS = Metrics("machine")
T = TypeVar("T")


class Clock:
    """A clock that the test turns."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def memory(clock: Clock) -> Store:
    """Make a store in memory; that it does what SQLite does is held by the simulator's own tests."""
    database = MemoryDatabase(clock, alone=True)
    return MemoryStore(database, replica="a", lease_seconds=30, clock=clock, monotonic=clock)


def notification(name: str, alert: str, started: float, status: str) -> Alert:
    """Make a member of a payload."""
    labels = {"alertname": alert, "bot": name, "remediation": "auto"}
    member = {"status": status, "labels": labels, "fingerprint": f"{name}-{alert}"}
    return Alert.model_validate({**member, "startsAt": started})


class Senders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.loop = asyncio.new_event_loop()
        self.much, self.once = memory(self.clock), memory(self.clock)
        for store in (self.much, self.once):
            self.run(self._register(store))
        self.firing: dict[tuple[str, str], float] = {}  # since when
        self.copies: list[tuple[float, Alert]] = []  # on their way, or still to be sent again
        self.received: set[tuple[str, float, str]] = set()  # of which the first copy has arrived

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.loop.close()

    async def _register(self, store: Store) -> None:
        async with store.write() as tx:
            for name in BOTS:
                await tx.add_bot(bot(name))

    # what happens

    @rule(name=st.sampled_from(BOTS), alert=st.sampled_from(("BotDown", "BotScoreLow")))
    def falls_ill_or_heals(self, name: str, alert: str) -> None:
        started = self.firing.pop((name, alert), None)
        status = "firing" if started is None else "resolved"
        if started is None:
            started = self.firing[name, alert] = self.clock.now
        self.copies.append((self.clock.now, notification(name, alert, started, status)))

    @rule(seconds=st.sampled_from((0.5, 30.0, 120.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        lately = self.clock.now - RELAPSE / 2
        self.run(self._deliver([alert for at, alert in self.copies if at < lately]))  # at least once
        self.copies = [(at, alert) for at, alert in self.copies if at >= lately]

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def some_arrive(self, data: st.DataObject) -> None:
        """Deliver some as one payload, in any order, some more than once; each of them may come again."""
        some = st.lists(st.sampled_from([alert for _, alert in self.copies]), min_size=1, max_size=4)
        self.run(self._deliver(data.draw(some)))

    async def _deliver(self, members: list[Alert]) -> None:
        if not members:
            return
        await receive(self.much, Webhook(version="4", alerts=members), METRICS, RELAPSE)
        fresh: dict[tuple[str, float, str], Alert] = {}
        for alert in members:
            if (key := (*alert.episode, alert.status)) not in self.received:
                fresh.setdefault(key, alert)
        self.received |= fresh.keys()
        if fresh:
            first = Webhook(version="4", alerts=list(fresh.values()))
            await receive(self.once, first, METRICS, RELAPSE)

    @rule(name=st.sampled_from(BOTS), escalated=st.booleans())
    def a_run_ends(self, name: str, escalated: bool) -> None:
        for store in (self.much, self.once):
            self.run(self._end(store, name, "escalated" if escalated else "recovered"))

    async def _end(self, store: Store, name: str, outcome: str) -> None:
        async with store.write() as tx:
            run = await tx.active_run(name)
            if run is None:
                return
            if all(alert.status == "resolved" for alert in await tx.alerts_of(run.id)):
                outcome = "resolved"
            await tx.change_run(run.id, status=outcome, finished_at=tx.now)
            if outcome == "escalated":
                await tx.change_bot(name, quarantined_at=tx.now)

    @rule(name=st.sampled_from(BOTS))
    def a_person_clears_the_quarantine(self, name: str) -> None:
        """Clear it, and send again what is firing: what was received in the quarantine began nothing."""
        for store in (self.much, self.once):
            self.run(self._clear(store, name))
        self.received = {key for key in self.received if not key[0].startswith(f"{name}-")}

    async def _clear(self, store: Store, name: str) -> None:
        async with store.write() as tx:
            await tx.change_bot(name, quarantined_at=None)

    # what must hold

    @invariant()
    def the_same_runs_were_begun(self) -> None:
        assert self.run(self._outcome(self.much)) == self.run(self._outcome(self.once))

    async def _outcome(self, store: Store) -> object:
        async with store.read() as tx:
            runs: list[Run] = await tx.recent_runs("recover", 1000)
            alerts = [alert for run in runs for alert in await tx.alerts_of(run.id)]
        return (
            sorted((run.id, run.bot, run.status, run.created_at) for run in runs),
            sorted((alert.fingerprint, alert.starts_at, alert.status, alert.run_id) for alert in alerts),
        )

    @invariant()
    def a_bot_is_in_the_hands_of_one_run(self) -> None:
        async def active() -> list[str]:
            async with self.much.read() as tx:
                return [run.bot for run in await tx.active_runs()]

        bots = self.run(active())
        assert len(bots) == len(set(bots))


TestSenders = Senders.TestCase
TestSenders.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
