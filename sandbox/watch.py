"""A look at everything at once: what the exporter, Alertmanager, the remediator and the cloud say now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from sandbox.cloud import CloudError, Effect
from sandbox.stack import Stack, StackError
from sandbox.waiting import wait_until

T = TypeVar("T")
Probes = dict[tuple[str, str], float]
PAUSE = 0.25  # seconds between two looks


@dataclass(frozen=True, slots=True)
class BotNow:
    bot: str
    template: str
    state: str  # of the registry: deploying, active, quarantined
    score: float | None  # None: not probed yet
    streak: int
    recovery: str  # status of its run under way, or nothing
    tier: str  # of that run

    @property
    def well(self) -> bool:
        return self.score is not None and self.score >= 70 and not self.streak


@dataclass(frozen=True, slots=True)
class Snapshot:
    at: float = 0.0  # unix seconds
    bots: tuple[BotNow, ...] = ()
    alerts: tuple[dict[str, Any], ...] = ()  # Alertmanager's, API v2
    recoveries: tuple[dict[str, Any], ...] = ()  # newest first, as GET /recover/{id} has them
    storm: dict[str, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()

    def bot(self, name: str) -> BotNow | None:
        return next((bot for bot in self.bots if bot.bot == name), None)

    def is_firing(self, name: str, bot: str = "") -> bool:
        """Whether Alertmanager holds such an alert; an empty name means any that asks for recovery."""
        for alert in self.alerts:
            labels = alert["labels"]
            wanted = labels["alertname"] == name if name else labels.get("remediation") == "auto"
            if wanted and bot in ("", labels.get("bot")):
                return True
        return False

    def actions(self, since: float, bot: str = "") -> list[Effect]:
        return [effect for effect in self.effects if effect.at >= since and bot in ("", effect.bot)]

    @property
    def calm(self) -> bool:
        """Every bot is well and left alone."""
        return bool(self.bots) and all(bot.well and not bot.recovery for bot in self.bots)


class Watcher:
    """Keeps the newest snapshot, and hands on what the audit trail says."""

    def __init__(self, stack: Stack, heard: Callable[[dict[str, Any]], None] = lambda entry: None) -> None:
        self.now = Snapshot()
        self._stack = stack
        self._heard = heard
        self._last_entry = 0

    async def until(self, condition: Callable[[Snapshot], T | None], timeout: float, what: str) -> T:
        """The condition's first true value over the snapshots to come; WaitError if there is none in time."""

        async def holds() -> T | None:
            return condition(self.now)

        return await wait_until(holds, timeout, what)

    async def serve(self) -> None:
        """Look, until cancelled. A service that does not answer leaves the last snapshot in place."""
        while True:
            with suppress(StackError, CloudError):
                await self._look()
            await asyncio.sleep(PAUSE)

    async def _look(self) -> None:
        stack = self._stack
        dashboard, exposition, alerts, effects, trail = await asyncio.gather(
            stack.call("GET", "/dashboard"),
            stack.exposition(),
            stack.alerts(),
            stack.cloud.effects(),
            stack.call("GET", f"/audit?after={self._last_entry}"),
        )
        for entry in trail:
            self._last_entry = entry["id"]
            self._heard(entry)
        probes = probes_in(exposition)
        recoveries = tuple(dashboard["state"]["recoveries"])
        self.now = Snapshot(
            at=time.time(),
            bots=tuple(bot_now(entry, probes, recoveries) for entry in dashboard["registry"]),
            alerts=tuple(alerts),
            recoveries=recoveries,
            storm=dashboard["summary"]["storm"],
            effects=tuple(effects),
        )


@asynccontextmanager
async def watching(
    stack: Stack, heard: Callable[[dict[str, Any]], None] = lambda entry: None
) -> AsyncIterator[Watcher]:
    watcher = Watcher(stack, heard)
    task = asyncio.create_task(watcher.serve())
    try:
        yield watcher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def probes_in(exposition: str) -> Probes:
    """Values of the exporter's series a bot, by series and bot."""
    return {
        (sample.name, sample.labels["bot"]): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if set(sample.labels) == {"bot"}
    }


def bot_now(entry: dict[str, Any], probes: Probes, recoveries: tuple[dict[str, Any], ...]) -> BotNow:
    name = entry["bot"]
    run = next((r for r in recoveries if r["botId"] == name and r["status"] in ("running", "blocked")), None)
    return BotNow(
        bot=name,
        template=entry["template"],
        state=entry["state"],
        score=probes.get(("bot_health_score", name)),
        streak=int(probes.get(("bot_probe_failure_streak", name), 0)),
        recovery=run["status"] if run else "",
        tier=run["tier"] if run else "",
    )
