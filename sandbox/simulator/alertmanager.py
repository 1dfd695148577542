"""Prometheus's alerts and one or two Alertmanagers, which deliver at least once and in no order."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from sandbox.simulator.virtual_clock import EPOCH
from sandbox.simulator.world import PORT, World

EVALUATED_EVERY: Final = 10.0
FIRES_AFTER: Final = 25.0
GROUP_INTERVAL: Final = 20.0
REPEAT: Final = 80.0
ALERTS_OF_WORK: Final = {"deaf": "BotDeaf", "mute": "BotMute", "stuck": "BotStuck"}
RESOLVE_TIMEOUT: Final = 200.0  # an alert of which nothing is heard for so long is taken for resolved

Deliver = Callable[[dict[str, Any]], Awaitable[int]]


@dataclass
class Episode:
    """An alert from when it began to fire until it is resolved."""

    bot: str
    name: str
    started: float  # Unix seconds, by Prometheus's clock
    evaluated: float  # when Prometheus last found it so
    firing: bool = True
    acknowledged: bool = False

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name}/{self.bot}".encode()).hexdigest()[:16]

    @property
    def labels(self) -> dict[str, str]:
        labels = {"alertname": self.name, "bot": self.bot, "remediation": "auto"}
        symptoms = [symptom for symptom, name in ALERTS_OF_WORK.items() if name == self.name]
        return {**labels, "symptom": symptoms[0]} if symptoms else labels

    def member(self, status: str) -> dict[str, Any]:
        """Return it as a member of a webhook's payload."""
        started = datetime.fromtimestamp(self.started, UTC).isoformat()
        return {
            "status": status,
            "labels": self.labels,
            "annotations": {},
            "startsAt": started,
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": self.fingerprint,
        }


@dataclass
class Alerting:
    """Prometheus and its Alertmanagers. `registry` gives the exporter's targets: bot → address."""

    world: World
    random: Random
    registry: Callable[[], dict[str, str]]
    deliver: Deliver
    skew: float
    two_alerts: bool
    delivery_faults: float
    alertmanagers: int
    down: bool = False
    silenced: set[str] = field(default_factory=set)
    refused: str = ""  # why the last payload was not taken
    episodes: dict[tuple[str, str], Episode] = field(default_factory=dict)
    _ill_since: dict[str, float] = field(default_factory=dict)

    async def evaluate(self) -> None:
        """Be Prometheus: let what is ill for long enough fire, and resolve what is well."""
        while True:
            await asyncio.sleep(EVALUATED_EVERY)
            now = self.world.time()
            if self.down:
                continue
            for bot, address in self.registry().items():
                symptom = self.world.symptom(address)
                self._resolve(bot, symptom)
                if not symptom:
                    continue
                if symptom != "down":
                    since = self._ill_since.setdefault(f"{bot} {symptom}", now)
                    self._fire(bot, ALERTS_OF_WORK[symptom], now, since + FIRES_AFTER)
                    continue
                since = self._ill_since.setdefault(bot, now)
                self._fire(bot, "BotHealthScoreCritical", now, since + FIRES_AFTER)
                if self.two_alerts:
                    self._fire(bot, "BotDown", now, since + FIRES_AFTER + 20)

    def _resolve(self, bot: str, symptom: str) -> None:
        """End what the bot does not show any more. What one that is down tells is not known: it ends, too."""
        for other in ("down", *ALERTS_OF_WORK):
            if other != symptom:
                self._ill_since.pop(bot if other == "down" else f"{bot} {other}", None)
        for episode in self.episodes.values():
            if episode.bot == bot and episode.labels.get("symptom", "down") != symptom:
                episode.firing = False

    def _fire(self, bot: str, name: str, now: float, due: float) -> None:
        episode = self.episodes.get((bot, name))
        if episode is not None and episode.firing:
            episode.evaluated = now
        elif now >= due:
            self.episodes[bot, name] = Episode(bot, name, round(EPOCH + due + self.skew, 3), now)

    async def watch(self, offset: float) -> None:
        """Be an Alertmanager: send what is new at the next flush, and what goes on every `REPEAT`."""
        notified: dict[tuple[str, str, float], tuple[str, float]] = {}  # status and when, by episode
        await asyncio.sleep(offset)
        while True:
            await asyncio.sleep(GROUP_INTERVAL)
            now = self.world.time()
            members: list[tuple[Episode, str]] = []
            for episode in self.episodes.values():
                stale = now - episode.evaluated > RESOLVE_TIMEOUT
                status = "firing" if episode.firing and not stale else "resolved"
                before = notified.get((episode.bot, episode.name, episode.started))
                if episode.bot in self.silenced or (before is None and status == "resolved"):
                    continue
                again = before is not None and status == "firing" and now - before[1] >= REPEAT
                if before is None or before[0] != status or again:
                    members.append((episode, status))
            if members and await self._send(members):
                for episode, status in members:
                    notified[episode.bot, episode.name, episode.started] = status, now

    async def _send(self, members: list[tuple[Episode, str]]) -> bool:
        """Send a webhook. Return whether Alertmanager may think that it arrived."""
        self.random.shuffle(members)
        payload = {"version": "4", "alerts": [episode.member(status) for episode, status in members]}
        fate = self.random.random()
        if fate < self.delivery_faults / 3:
            return False  # lost; sent again at the next flush
        if fate < self.delivery_faults * 2 / 3:  # a copy arrives late, and out of order
            late = self.random.uniform(0, 90)
            asyncio.get_running_loop().call_later(late, lambda: asyncio.ensure_future(self.deliver(payload)))
        answer = await self.deliver(payload)
        if answer // 100 == 2:
            self.refused = ""
            for episode, status in members:
                if status == "firing":
                    episode.acknowledged = True
            return True
        self.refused = f"it was answered {answer}"
        return False


def address(host: str) -> str:
    """Return the address of the bot on that host."""
    return f"{host}:{PORT}"
