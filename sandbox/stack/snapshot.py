"""A snapshot of everything: exporter, Alertmanager, remediator and cloud, read at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from exporter.score import MINOR
from sandbox.cloud.client import CloudError, Effect
from sandbox.process.waiting import wait_until
from sandbox.stack.stack import Stack, StackError

T = TypeVar("T")
Probes = dict[tuple[str, str], float]
POLL_INTERVAL = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class BotState:
    """A bot in a snapshot."""

    bot: str
    template: str
    state: str  # of the registry: deploying, active, quarantined
    score: float | None  # None: not probed yet
    streak: int
    recovery: str  # status of its run under way, or nothing
    tier: str  # of that run

    @property
    def well(self) -> bool:
        return self.score is not None and self.score >= MINOR and not self.streak


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the stack at one time."""

    at: float = 0.0  # unix seconds
    bots: tuple[BotState, ...] = ()
    alerts: tuple[dict[str, Any], ...] = ()  # Alertmanager's, API v2
    recoveries: tuple[dict[str, Any], ...] = ()  # newest first, as GET /recover/{id} has them
    storm: dict[str, Any] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()

    def bot(self, name: str) -> BotState | None:
        """Return the bot of that name; None if the registry has none."""
        return next((bot for bot in self.bots if bot.bot == name), None)

    def is_firing(self, name: str, bot: str = "") -> bool:
        """Return whether Alertmanager holds such an alert; an empty name is any that asks for recovery."""
        for alert in self.alerts:
            labels = alert["labels"]
            matches = labels["alertname"] == name if name else labels.get("remediation") == "auto"
            if matches and bot in ("", labels.get("bot")):
                return True
        return False

    def actions(self, since: float, bot: str = "") -> list[Effect]:
        """Return the effects from that time on, of that bot or of all."""
        return [effect for effect in self.effects if effect.at >= since and bot in ("", effect.bot)]

    @property
    def calm(self) -> bool:
        """Return whether every bot is well and none is recovered."""
        return bool(self.bots) and all(bot.well and not bot.recovery for bot in self.bots)


class Watcher:
    """Keeps the newest snapshot, and hands on the entries of the audit trail."""

    def __init__(self, stack: Stack, on_entry: Callable[[dict[str, Any]], None] = lambda entry: None) -> None:
        self.now = Snapshot()
        self._stack = stack
        self._on_entry = on_entry
        self._last_entry = 0

    async def until(self, condition: Callable[[Snapshot], T | None], timeout: float, what: str) -> T:
        """Return the condition's first true value in the snapshots to come; WaitError if none is in time."""

        async def holds() -> T | None:
            return condition(self.now)

        return await wait_until(holds, timeout, what)

    async def run(self) -> None:
        """Take snapshots until cancelled. A service that does not answer leaves the last one in place."""
        while True:
            with suppress(StackError, CloudError):
                await self._refresh()
            await asyncio.sleep(POLL_INTERVAL)

    async def _refresh(self) -> None:
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
            self._on_entry(entry)
        probes = parse_exposition(exposition)
        recoveries = tuple(dashboard["state"]["recoveries"])
        self.now = Snapshot(
            at=time.time(),
            bots=tuple(bot_state(entry, probes, recoveries) for entry in dashboard["registry"]),
            alerts=tuple(alerts),
            recoveries=recoveries,
            storm=dashboard["summary"]["storm"],
            effects=tuple(effects),
        )


@asynccontextmanager
async def watch(
    stack: Stack, on_entry: Callable[[dict[str, Any]], None] = lambda entry: None
) -> AsyncIterator[Watcher]:
    """Run a watcher until the block ends."""
    watcher = Watcher(stack, on_entry)
    task = asyncio.create_task(watcher.run())
    try:
        yield watcher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def parse_exposition(exposition: str) -> Probes:
    """Return the values of the exporter's series that have a bot alone, by series and bot."""
    return {
        (sample.name, sample.labels["bot"]): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if set(sample.labels) == {"bot"}
    }


def bot_state(entry: dict[str, Any], probes: Probes, recoveries: tuple[dict[str, Any], ...]) -> BotState:
    """Put a bot together from its entry in the registry, its series, and its run under way."""
    name = entry["bot"]
    run = next(
        (run for run in recoveries if run["botId"] == name and run["status"] in ("running", "blocked")), None
    )
    return BotState(
        bot=name,
        template=entry["template"],
        state=entry["state"],
        score=probes.get(("bot_health_score", name)),
        streak=int(probes.get(("bot_probe_failure_streak", name), 0)),
        recovery=run["status"] if run else "",
        tier=run["tier"] if run else "",
    )
