"""Looks at the queues of bots' channels, at a bounded rate, and keeps what was seen for all replicas.

A bot's own word that its channel works is not enough: what waits for it at Telegram is the proof. One replica
looks, at each bot once an interval; a recovery of a deaf bot looks beside that, a few times.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import random
from typing import Any, Final

import aiohttp
import structlog

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.logs import LogLimiter
from remediator.model import Bot
from remediator.periodic import run_every
from remediator.recovery.channels import CHANNEL_KINDS, ChannelKind
from remediator.recovery.queues import KEPT_FOR, Queue, QueueAnswer, next_queue
from remediator.settings import Settings
from remediator.store.store import Store
from remediator.store.transaction import Transaction

log = structlog.get_logger()

FACT: Final = "queues"
JITTER: Final = 0.1  # of the time over which looks are spread

Answers = Mapping[str, QueueAnswer]
Report = Mapping[str, Mapping[str, Queue]]
"""Bot → channel → its queue."""


@dataclass
class QueueWatch:
    """Asks each kind of channel for the queue of each bot that has a token of it."""

    store: Store
    aws: Aws
    session: aiohttp.ClientSession
    settings: Settings
    kinds: Sequence[ChannelKind] = CHANNEL_KINDS
    _slots: asyncio.Semaphore = field(init=False)
    _answers: dict[str, tuple[float, Answers]] = field(default_factory=dict)  # by bot, and when
    _lines: LogLimiter = field(default_factory=LogLimiter)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.settings.queue_concurrency)

    async def look(self, bot: str, max_age: float = 0) -> Answers:
        """Return what the channels of the bot say now, or said within `max_age` s; {} where looks are off."""
        if not self.settings.queue_looks:
            return {}
        at, answers = self._answers.get(bot, (float("-inf"), {}))
        if self.store.monotonic() - at < max_age:
            return answers
        async with self._slots:
            by_kind = {kind.name: await self._ask(kind, bot) for kind in self.kinds}
        answers = {name: answer for name, answer in by_kind.items() if answer is not None}
        self._answers[bot] = self.store.monotonic(), answers
        return answers

    async def _ask(self, kind: ChannelKind, bot: str) -> QueueAnswer | None:
        """Return the answer; None where the bot has no token of this kind."""
        try:
            token = await self.aws.secret(kind.parameter(bot))
        except AwsError as error:
            answer = QueueAnswer(problem=f"its token cannot be read: {error.kind}")
        else:
            if token is None:
                return None
            answer = await kind.ask(self.session, kind.api_url(self.settings), token)
        if answer.problem and self._lines.allow(f"queue unknown {kind.name}", self.store.clock()):
            log.warning("queue unknown", bot=bot, channel=kind.name, why=answer.problem)
        return answer

    async def serve(self) -> None:
        """Look at every bot once in each interval, until cancelled: half of it in looks, half in between."""
        await run_every(self.look_at_all, self.settings.queue_interval / 2, "queues not looked at")

    async def look_at_all(self) -> None:
        """Look at all bots that are to hear, spread over half of the interval, if this replica leads."""
        interval = self.settings.queue_interval
        async with self.store.write() as tx:
            if not await tx.try_lead("queues", 2 * interval):
                return
            names = [bot.name for bot in await _hearing(tx)]
        self._answers = {name: known for name, known in self._answers.items() if name in names}

        async def look(name: str) -> Answers:
            await asyncio.sleep(_delay(name, interval / 2))
            return await self.look(name)

        answers = dict(zip(names, await asyncio.gather(*map(look, names)), strict=True))
        async with self.store.write() as tx:
            await self._record(tx, answers)

    async def _record(self, tx: Transaction, answers: Mapping[str, Answers]) -> None:
        """Write the looks down. A bot that is not to hear any more has no queue."""
        before, hearing = await last_report(tx), {bot.name for bot in await _hearing(tx)}
        interval = self.settings.queue_interval
        bots: dict[str, dict[str, Any]] = {}
        for name in hearing & answers.keys():
            known = before.get(name, {})
            queues = {
                channel: next_queue(known.get(channel), answer, tx.now, interval)
                for channel, answer in answers[name].items()
            }
            facts = {channel: queue.fact() for channel, queue in queues.items() if queue is not None}
            if facts:
                bots[name] = facts
        await tx.set_fact(FACT, {"until": tx.now + KEPT_FOR * interval, "bots": bots})


async def last_report(tx: Transaction) -> Report:
    """Return the queues as they were last seen; nothing where that is too long ago to say anything of now."""
    fact = await tx.fact(FACT) or {"until": 0, "bots": {}}
    if tx.now > fact["until"]:
        return {}
    return {
        name: {channel: Queue.from_fact(queue) for channel, queue in queues.items()}
        for name, queues in fact["bots"].items()
    }


async def _hearing(tx: Transaction) -> list[Bot]:
    """Return the bots that are to hear: active, not paused, and in no run that makes them another instance.

    One that is being recovered is looked at: its alert has to last for as long as it is deaf.
    """
    moving = {run.bot for run in await tx.active_runs() if run.kind != "recover"}
    holds = await tx.holds()
    return [
        bot
        for bot in await tx.bots()
        if bot.state == "active"
        and bot.name not in moving
        and not any(hold.covers(bot, tx.now) for hold in holds)
    ]


def _delay(bot: str, spread: float) -> float:
    """Return the seconds into a pass at which the bot is looked at: about the same in each, by its name."""
    share = int.from_bytes(hashlib.sha256(bot.encode()).digest()[:4], "big") / 2**32
    return spread * ((1 - JITTER) * share + JITTER * random())  # noqa: S311 -- no secret, only a pause
