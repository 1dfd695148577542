"""Keeping the fleet in step with its sources: look again every refresh interval, or at once when asked."""

import asyncio
import gc
import time
from collections.abc import Callable

import structlog

from exporter.descriptors import shortage
from exporter.discovery import Discovery, Loaded
from exporter.fleet import Fleet
from exporter.meters import Meters
from exporter.settings import Settings
from exporter.sharding import mine
from exporter.targets import Target

log = structlog.get_logger()


class Reloader:
    """`limit` is how many file descriptors this process may have."""

    def __init__(
        self,
        discovery: Discovery,
        fleet: Fleet,
        meters: Meters,
        settings: Settings,
        limit: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._discovery, self._fleet, self._meters = discovery, fleet, meters
        self._settings, self._limit = settings, limit
        self._now = now
        self._targets: tuple[Target, ...] | None = None
        self._told: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self.ready = False

    def wake(self) -> None:
        """Look at the sources now (SIGHUP)."""
        self._wake.set()

    async def run(self) -> None:
        """Never returns; cancel it."""
        while True:
            await self.reload()
            try:
                async with asyncio.timeout(self._settings.refresh):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def reload(self) -> Loaded:
        loaded = await self._discovery.load()
        before = len(self._fleet)
        settings = self._settings
        if loaded.targets is not self._targets:
            self._targets = loaded.targets
            self._fleet.apply(mine(loaded.targets, settings.shard, settings.total_shards))
        if len(self._fleet) != before:
            gc.freeze()  # a fleet lives long: the collector need not walk it again and again
        self._meters.invalid.set(len(loaded.invalid))
        self._meters.reload_ok.set(loaded.ok)
        if loaded.ok:
            self._meters.reload_time.set(self._now())
        self._tell(loaded, before)
        self.ready = self.ready or loaded.ready
        return loaded

    def _tell(self, loaded: Loaded, before: int) -> None:
        """Log what is new: a file that stays broken is no news every 15 seconds."""
        problems = frozenset(map(str, (*loaded.unread, *loaded.invalid)))
        for problem in (*loaded.unread, *loaded.invalid):
            if str(problem) not in self._told:
                log.error("target refused" if problem in loaded.invalid else "targets not read",
                          place=problem.place, why=problem.why, remedy=problem.remedy)  # fmt: skip
        bots = len(self._fleet)
        if (self._told and not problems) or before != bots or not self.ready:
            log.info("targets loaded", bots=bots, problems=len(problems))
            targets = [bot.target for bot in self._fleet]
            if before != bots and (why := shortage(targets, self._limit, self._settings)):
                log.warning("too few file descriptors", why=why)
        self._told = problems
