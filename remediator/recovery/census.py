"""How many bots are ill right now: active bots, or a sample of them, probed side by side."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from remediator.model import Bot, Symptom
from remediator.monitoring.cached import Cached
from remediator.monitoring.prober import Observation, Prober
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.recovery.queue_watch import Report, last_report
from remediator.recovery.storm import CensusEntry, Fleet, provider_of
from remediator.store.store import Store

PROBES_AT_ONCE: Final = 50
# Of the turns of each bot that had any, which share failed: alerts/rules-work.yml.
FAILED_TURNS: Final = "max by (bot) (bot:bot_turns_failed:ratio15m)"


@dataclass
class Census:
    """Probes the fleet for the fleet gate; runs that ask at the same time share one census."""

    store: Store
    prober: Prober
    sample: int  # most bots probed
    prometheus: Prometheus | None = None  # says which bots are mute; without it none is
    turn_limit: float = math.inf  # seconds after which a turn is stuck
    _fleet: Cached[Fleet] = field(init=False)

    def __post_init__(self) -> None:
        self._fleet = Cached(self._probe_fleet)

    @property
    def latest(self) -> Fleet | None:
        """Return the newest census; None before the first."""
        return self._fleet.latest

    async def take(self) -> Fleet:
        """Return how many of the fleet are ill; a fleet larger than `sample` is judged by that many."""
        return await self._fleet.get()

    async def _probe_fleet(self) -> Fleet:
        async with self.store.read() as tx:
            total, bots = await tx.fleet(self.sample)
            queues = await last_report(tx)
        limit = asyncio.Semaphore(PROBES_AT_ONCE)

        async def probe(bot: Bot) -> Observation:
            async with limit:
                return await self.prober.probe_once(bot.target())

        failed_turns, observations = await asyncio.gather(
            self.failed_turns(), asyncio.gather(*map(probe, bots))
        )
        entries = [
            self._entry(bot, observation, queues, failed_turns)
            for bot, observation in zip(bots, observations, strict=True)
            if not observation.own_fault
        ]
        return Fleet(total, tuple(entries))

    async def failed_turns(self) -> Mapping[str, float]:
        """Return the share of each bot's turns that failed lately; the monitoring gate has what is wrong."""
        if self.prometheus is None:
            return {}
        try:
            return await self.prometheus.by_bot(FAILED_TURNS)
        except PrometheusError:
            return {}

    def _entry(
        self, bot: Bot, observation: Observation, queues: Report, failed_turns: Mapping[str, float]
    ) -> CensusEntry:
        work, waiting = observation.work, queues.get(bot.name, {})
        failed, age = failed_turns.get(bot.name), work.turn_age
        deaf = bool(work.down) or any(queue.stalled for queue in waiting.values())
        signals: dict[Symptom, tuple[bool, bool]] = {
            "deaf": (bool(work.channels) or bool(waiting), deaf),
            "mute": (failed is not None, failed == 1),
            "stuck": (age is not None, age is not None and age > self.turn_limit),
        }
        return CensusEntry(
            bot.template,
            bot.environment,
            bot.zone,
            ill=not observation.healthy,
            quarantined=bot.quarantined_at is not None,
            provider=provider_of(bot),
            tells=frozenset(symptom for symptom, (signal, _) in signals.items() if signal),
            shows=frozenset(symptom for symptom, (signal, ill) in signals.items() if signal and ill),
        )
