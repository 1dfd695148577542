"""The work of a redeployed bot while it soaks: judged by the checks that prove a cure, as far as it is known.

A queue counts once three looks in the soak saw that it does not fall: what came while the bot moved may wait.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from remediator.model import Bot
from remediator.monitoring.prober import Observation, Reject
from remediator.recovery.queue_watch import QueueWatch
from remediator.recovery.queues import LOOKS, Queue, next_queue
from remediator.recovery.symptoms import MOVED_BACK_FOR, Evidence, Queues, problem, told

LEAST_PAUSE: Final = 10.0  # seconds between two looks at a queue in the soak


def watched(queue_watch: QueueWatch, bot: Bot, window: float) -> Reject:
    """Return what says of each healthy answer in the bot's soak of `window` seconds why it does not work.

    A soak too short for three looks has none.
    """
    pause = min(queue_watch.settings.queue_interval, max(LEAST_PAUSE, window / (LOOKS + 1)))
    return _Soak(queue_watch, bot, pause if (LOOKS - 1) * pause < window else math.inf).reject


@dataclass
class _Soak:
    """What was seen of the queues of one bot's channels since its soak began."""

    queue_watch: QueueWatch
    bot: Bot
    pause: float  # seconds between two looks; infinite: there are none
    _looked_at: float = -math.inf
    _answers: Queues = field(default_factory=dict)
    _queues: Mapping[str, Queue] = field(default_factory=dict)

    async def reject(self, observation: Observation) -> str | None:
        if self.pause < math.inf:
            await self._look()
        stuck = {channel: queue.pending[0] for channel, queue in self._queues.items() if queue.stalled}
        turn_limit = self.queue_watch.settings.turn_limit
        evidence = Evidence(observation, turn_limit, self._answers, waited=stuck, blamed=MOVED_BACK_FOR)
        return problem(told(evidence), evidence) or None

    async def _look(self) -> None:
        """Look at the queues if it is time to. A bot that was paused meanwhile may have one."""
        store = self.queue_watch.store
        now = store.monotonic()
        if now - self._looked_at < self.pause:
            return
        self._looked_at = now
        async with store.read() as tx:
            paused = any(hold.covers(self.bot, tx.now) for hold in await tx.holds())
        self._answers = {} if paused else await self.queue_watch.look(self.bot.name)
        queues = {
            channel: next_queue(self._queues.get(channel), answer, now, self.pause)
            for channel, answer in self._answers.items()
        }
        self._queues = {channel: queue for channel, queue in queues.items() if queue is not None}
