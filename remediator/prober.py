"""Our own eyes: is this bot healthy now, is it healthy for good, and how many of the fleet are ill?"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from exporter.probe import ProbeResult, probe
from exporter.targets import Target
from remediator.gates import Fleet
from remediator.model import Bot

CENSUS_MAX_AGE: Final = 1.0  # seconds: runs that ask at the same time share one look
CENSUS_CONCURRENCY: Final = 50


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
    last_census: tuple[float, Fleet] | None = None  # Unix time, what was seen
    _census_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _census_at: float = float("-inf")

    async def look(self, target: Target) -> Look:
        if not target.address:
            return Look(False, "it has no address")
        return read(await probe(self.session, target, timeout=self.timeout))

    async def verify(
        self, target: Target, deadline: float, doubt: Callable[[Look], str | None] = lambda _: None
    ) -> tuple[bool, Look]:
        """Probe until it was healthy `needed` times in a row, or until an ill probe after the deadline.

        `deadline` is Unix time. A run resumed long after its deadline still gets a fair look, because a
        healthy streak is never cut. `doubt` may say why a healthy answer does not count.
        """
        streak = 0
        while True:
            look = await self.look(target)
            doubted = doubt(look) if look.healthy else None
            if doubted is not None:
                look = Look(False, doubted, look.boot_id, look.started_at, look.config_sha)
            streak = streak + 1 if look.healthy else 0
            if streak >= self.needed:
                return True, look
            if not look.healthy and time.time() >= deadline:
                return False, look
            await asyncio.sleep(self.interval)

    async def census(self, bots: Sequence[Bot]) -> Fleet:
        """How many of the fleet are ill right now. A fleet larger than `sample` is judged by that many."""
        async with self._census_lock:
            if self.last_census is None or time.monotonic() - self._census_at > CENSUS_MAX_AGE:
                chosen = bots if len(bots) <= self.sample else random.sample(list(bots), self.sample)
                limit = asyncio.Semaphore(CENSUS_CONCURRENCY)

                async def ill(bot: Bot) -> bool:
                    async with limit:
                        return not (await self.look(bot.target())).healthy

                unhealthy = sum(await asyncio.gather(*map(ill, chosen)))
                self.last_census = time.time(), Fleet(len(bots), len(chosen), unhealthy)
                self._census_at = time.monotonic()
            return self.last_census[1]
