"""The fleet being watched: starts the probes that are due, judges their results and publishes them."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic

import structlog

from exporter.exposition.self_metrics import SelfMetrics
from exporter.exposition.store import Store
from exporter.history import append_probe
from exporter.observation import UNKNOWN, Observation, State, observe
from exporter.probing.prober import Prober
from exporter.result import ProbeResult
from exporter.schedule import Wheel
from exporter.settings import Settings
from exporter.targets import Target

_RENDER_EVERY = 0.02  # seconds; ahead of scrapes
_AT_ONCE = 64  # probes started before the answers of others are read

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Bot:
    """A target and its state. `running` is True from its slot until its probe has ended."""

    target: Target
    state: State = UNKNOWN
    running: bool = False
    history: bytes = b""


class Fleet:
    """Probes each bot once an interval, in its own slot, at most `max_in_flight` at once."""

    def __init__(
        self,
        settings: Settings,
        prober: Prober,
        store: Store,
        self_metrics: SelfMetrics,
        *,
        max_in_flight: int,
    ) -> None:
        self._settings, self._prober, self._store, self._metrics = settings, prober, store, self_metrics
        self._max_in_flight = max_in_flight
        self._bots: dict[str, Bot] = {}
        self._wheel = Wheel()
        self._waiting: deque[tuple[Bot, float]] = deque()
        self._in_flight = 0
        self_metrics.in_flight.set_function(lambda: self._in_flight)
        self._timer: asyncio.TimerHandle | None = None
        self._rendered_at = 0.0
        self._starting: asyncio.Handle | None = None
        self._stopped = False

    def __len__(self) -> int:
        return len(self._bots)

    def __iter__(self) -> Iterator[Bot]:
        return iter(self._bots.values())

    def get(self, name: str) -> Bot | None:
        """Return the bot of that name; None if it is not watched."""
        return self._bots.get(name)

    def apply(self, targets: Iterable[Target]) -> None:
        """Watch exactly these. A bot whose target changed keeps its history and its slot."""
        by_name = {target.bot: target for target in targets}
        self._store.reserve(len(by_name))
        interval_of = self._settings.interval_of
        for name in self._bots.keys() - by_name.keys():
            self._wheel.remove(name, interval_of(self._bots.pop(name).target))
            self._store.remove(name)
        for name, target in by_name.items():
            bot = self._bots.get(name)
            if bot is None:
                self._bots[name] = Bot(target)
                self._wheel.add(name, interval_of(target))
            elif bot.target is target or bot.target == target:
                continue
            else:
                if interval_of(bot.target) != interval_of(target):
                    self._wheel.remove(name, interval_of(bot.target))
                    self._wheel.add(name, interval_of(target))
                bot.target = target
            self._store.put_target(target)
        self._metrics.probe_counts.set_templates({target.template for target in by_name.values()})
        self._metrics.targets.set(len(by_name))
        self._metrics.interval.set(self._wheel.longest or self._settings.interval)
        self._arm()

    def stop(self) -> None:
        """Start no more probes."""
        self._stopped = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        """Set the timer to the next slot."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        due = self._wheel.next_due(monotonic())
        self._timer = None if due is None or self._stopped else loop.call_at(due, self._tick)

    def _tick(self) -> None:
        """Queue the bots that are due, and render ahead of scrapes."""
        skipped = 0
        for name, due in self._wheel.due(monotonic()):
            bot = self._bots[name]
            if bot.running:
                skipped += 1
            else:
                bot.running = True
                self._waiting.append((bot, due))
        if skipped:
            self._metrics.skipped.inc(skipped)
        if self._starting is None:
            self._start_waiting()
        now = monotonic()
        if now - self._rendered_at > _RENDER_EVERY:
            self._rendered_at = now
            self._store.render_idle(now)
        self._arm()

    def _start_waiting(self) -> None:
        self._starting = None
        for _ in range(min(_AT_ONCE, len(self._waiting), self._max_in_flight - self._in_flight)):
            bot, due = self._waiting.popleft()
            if self._bots.get(bot.target.bot) is not bot:
                continue  # it left while it waited
            self._in_flight += 1
            self._metrics.lag.observe(max(0.0, monotonic() - due))
            target = bot.target
            self._prober.start(target, partial(self._done, bot, target))
        self._start_more()

    def _start_more(self) -> None:
        """Start those that still wait once the answers that came meanwhile are read."""
        if self._waiting and self._starting is None and self._in_flight < self._max_in_flight:
            self._starting = asyncio.get_running_loop().call_soon(self._start_waiting)

    def _done(self, bot: Bot, target: Target, result: ProbeResult | None) -> None:
        self._in_flight -= 1
        bot.running = False
        if result is None:
            self._metrics.skipped.inc()
        # Dropped: the answer of a bot that left meanwhile, or of an address it no longer has.
        elif self._bots.get(target.bot) is bot and bot.target is target:
            self._metrics.probe_counts.count(target.template, result)
            observation = observe(bot.state, result, self._settings.thresholds)
            _log_change(bot.state, observation)
            bot.state = observation.state
            bot.history = append_probe(bot.history, result)
            self._store.upsert(target, observation, monotonic())
        self._start_more()


def _log_change(before: State, observation: Observation) -> None:
    """Log one line when an endpoint of a bot begins to fail or is well again, not one a probe."""
    result = observation.result
    for endpoint, last_reason, answer in (
        ("health", before.health, result.health),
        ("mesh", before.mesh, result.mesh),
    ):
        if not answer.ok and last_reason is None:
            reason, detail = str(answer.reason), answer.detail
            log.warning("bot failing", bot=result.bot, endpoint=endpoint, reason=reason, detail=detail)
        elif answer.ok and last_reason is not None:
            log.info("bot recovered", bot=result.bot, endpoint=endpoint, failures=before.streak)
