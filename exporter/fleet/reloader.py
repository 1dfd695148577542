"""Keeping the fleet in step with its sources: a reload every refresh interval, or at once when asked."""

import asyncio
import gc
import time
from collections.abc import Callable

import structlog

from exporter.exposition.self_metrics import SelfMetrics
from exporter.fleet.discovery import Discovery, Loaded
from exporter.fleet.fd_limits import shortage
from exporter.fleet.fleet import Fleet
from exporter.settings import Settings
from exporter.sharding import in_shard
from exporter.targets import Target

log = structlog.get_logger()


class Reloader:
    """Reloads the targets. `limit` is how many file descriptors this process may have."""

    def __init__(
        self,
        discovery: Discovery,
        fleet: Fleet,
        self_metrics: SelfMetrics,
        settings: Settings,
        limit: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._discovery, self._fleet, self._metrics = discovery, fleet, self_metrics
        self._settings, self._limit = settings, limit
        self._now = now
        self._targets: tuple[Target, ...] | None = None
        self._logged: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self.ready = False

    def wake(self) -> None:
        """Reload now (SIGHUP)."""
        self._wake.set()

    async def run(self) -> None:
        """Reload again and again, until cancelled."""
        while True:
            await self.reload()
            try:
                async with asyncio.timeout(self._settings.refresh):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def reload(self) -> Loaded:
        """Load all sources, and have the fleet watch the targets of our shard."""
        loaded = await self._discovery.load()
        before = len(self._fleet)
        settings = self._settings
        if loaded.targets is not self._targets:
            self._targets = loaded.targets
            self._fleet.apply(in_shard(loaded.targets, settings.shard, settings.total_shards))
        if len(self._fleet) != before:
            gc.freeze()  # a fleet lives long: the collector need not walk it again and again
        self._metrics.invalid.set(len(loaded.invalid))
        self._metrics.reload_ok.set(loaded.ok)
        if loaded.ok:
            self._metrics.reload_time.set(self._now())
        self._log_changes(loaded, before)
        self.ready = self.ready or loaded.ready
        return loaded

    def _log_changes(self, loaded: Loaded, before: int) -> None:
        """Log what is new: a file that stays broken is no news every 15 seconds."""
        problems = frozenset(map(str, (*loaded.unread, *loaded.invalid)))
        for problem in (*loaded.unread, *loaded.invalid):
            if str(problem) not in self._logged:
                log.error("target refused" if problem in loaded.invalid else "targets not read",
                          place=problem.location, why=problem.reason, remedy=problem.remedy)  # fmt: skip
        bots = len(self._fleet)
        if (self._logged and not problems) or before != bots or not self.ready:
            log.info("targets loaded", bots=bots, problems=len(problems))
            targets = [bot.target for bot in self._fleet]
            if before != bots and (reason := shortage(targets, self._limit, self._settings)):
                log.warning("too few file descriptors", why=reason)
        self._logged = problems
