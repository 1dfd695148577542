"""Our own eyes: is this bot healthy now, is it healthy for good, and how many of the fleet are ill?"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp

from exporter.probe import ProbeResult, probe
from exporter.targets import Target
from remediator.gates import Fleet, Seen
from remediator.model import Bot

CENSUS_MAX_AGE: Final = 1.0  # seconds: runs that ask at the same time share one look
CENSUS_CONCURRENCY: Final = 50

# How many bots there are, and at most so many of them, drawn at random.
Registry = Callable[[int], Awaitable[tuple[int, Sequence[Bot]]]]


@dataclass(frozen=True, slots=True)
class Look:
    """What one probe saw, and in words for the person who asks why."""

    healthy: bool
    seen: str
    boot_id: str | None = None
    started_at: str | None = None
    config_sha: str | None = None


def read(result: ProbeResult) -> Look:
    """A bot is healthy when /health is: every alert that brings us here says that it was not."""
    health = result.health
    seen = (
        f"/health ok in {health.seconds:.3f} s" if health.ok else f"/health: {health.reason}: {health.detail}"
    )
    return Look(health.ok, seen, result.boot_id, result.started_at, result.config_sha)


@dataclass
class Prober:
    session: aiohttp.ClientSession
    timeout: float  # of one probe, seconds
    interval: float  # between two probes of a verification, seconds
    needed: int  # healthy probes in a row
    sample: int  # most bots probed in a census
    last_census: Fleet | None = None
    _census_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _census_at: float = float("-inf")

    async def look(self, target: Target) -> Look:
        if not target.address:
            return Look(False, "it has no address")
        return read(await probe(self.session, target, timeout=self.timeout))

    async def verify(
        self,
        target: Target,
        patience: float,
        doubt: Callable[[Look], str | None] = lambda _: None,
        *,
        window: float = 0,
    ) -> tuple[bool, Look]:
        """Whether the bot is well for good: `needed` healthy probes in a row, and no ill one in `window`.

        It may take `patience` seconds to become healthy. A run resumed long after that still gets a fair
        look, because a healthy streak is never cut; but a bot that was healthy so often and falls ill
        within the window is not well. `doubt` may say why a healthy answer does not count.
        """
        loop = asyncio.get_running_loop()
        deadline, streak, since = loop.time() + patience, 0, 0.0
        while True:
            look = await self.look(target)
            doubted = doubt(look) if look.healthy else None
            if doubted is not None:
                look = replace(look, healthy=False, seen=doubted)
            if look.healthy:
                since = since if streak else loop.time()
                streak += 1
                if streak >= self.needed and loop.time() - since >= window:
                    return True, look
            elif streak >= self.needed:
                return False, replace(look, seen=f"ill again after {streak} healthy probes: {look.seen}")
            else:
                streak = 0
                if loop.time() >= deadline:
                    return False, look
            await asyncio.sleep(self.interval)

    async def census(self, registry: Registry) -> Fleet:
        """How many of the fleet are ill right now. A fleet larger than `sample` is judged by that many."""
        loop = asyncio.get_running_loop()
        async with self._census_lock:
            if self.last_census is None or loop.time() - self._census_at > CENSUS_MAX_AGE:
                total, chosen = await registry(self.sample)
                limit = asyncio.Semaphore(CENSUS_CONCURRENCY)

                async def ill(bot: Bot) -> bool:
                    async with limit:
                        return not (await self.look(bot.target())).healthy

                found = await asyncio.gather(*map(ill, chosen))
                seen = [
                    Seen(bot.template, bot.environment, bot.zone, ill, bot.quarantined_at is not None)
                    for bot, ill in zip(chosen, found, strict=True)
                ]
                self.last_census = Fleet(total, tuple(seen))
                self._census_at = loop.time()
            return self.last_census
