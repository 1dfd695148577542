"""Can what we see be trusted, and does Alertmanager know of something that should keep us off?"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import structlog

from remediator.prometheus import Prometheus, PrometheusError

log = structlog.get_logger()

MAX_AGE: Final = 1.0  # seconds: runs that ask at the same time share one look
PATIENCE: Final = aiohttp.ClientTimeout(total=5)

Silence = Mapping[str, Any]


@dataclass
class Sight:
    """Without a Prometheus or an Alertmanager in the settings, the look at it is left out."""

    prometheus: Prometheus | None
    alertmanager_url: str | None
    session: aiohttp.ClientSession
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _blind: tuple[float, str] = (float("-inf"), "")
    _silences: tuple[float, list[Silence]] = (float("-inf"), [])

    async def blind(self) -> str:
        """Why no alert can be trusted now; empty if it can."""
        if self.prometheus is None:
            return ""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._blind[0] > MAX_AGE:
                self._blind = now, await _blindness(self.prometheus)
            return self._blind[1]

    async def silences(self) -> list[Silence]:
        """Alertmanager's active silences (its API, v2); none where it cannot be asked."""
        if self.alertmanager_url is None:
            return []
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._silences[0] > MAX_AGE:
                self._silences = now, await self._ask(self.alertmanager_url)
            return self._silences[1]

    async def _ask(self, url: str) -> list[Silence]:
        try:
            async with self.session.get(f"{url.rstrip('/')}/api/v2/silences", timeout=PATIENCE) as response:
                found = await response.json()
                return [one for one in found if one["status"]["state"] == "active"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("silences unknown: alertmanager cannot be asked", error=type(error).__name__)
            return []

    @staticmethod
    def silenced_by(silences: Sequence[Silence], labels: Sequence[Mapping[str, str]]) -> str:
        """The first silence that covers one of these alerts, in words; empty if none does."""
        for silence in silences:
            if any(matches(silence["matchers"], alert) for alert in labels):
                who, why = silence.get("createdBy", ""), silence.get("comment", "")
                return f"silenced in Alertmanager by {who or 'somebody'}: {why}"
        return ""


def blind_replicas(
    told: Mapping[str, Mapping[str, Any]], replica: str, why: str, now: float, patience: float
) -> dict[str, dict[str, Any]]:
    """Who cannot see, after this replica's look: replica → why and when it last said so.

    Each speaks for itself, so that one which sees does not contradict another which does not. One that has
    been silent for `patience` seconds has died, or has no more runs that wait.
    """
    others = {name: dict(one) for name, one in told.items() if name != replica and now - one["at"] < patience}
    if not why:
        return others
    before = told.get(replica)
    fresh = before is not None and before["why"] == why and now - before["at"] < patience / 2
    return others | {replica: dict(before) if before is not None and fresh else {"why": why, "at": now}}


async def _blindness(prometheus: Prometheus) -> str:
    """Our eyes are the exporter, as Prometheus sees it."""
    try:
        up = await prometheus.value('max(up{job="bot-exporter"})')
    except PrometheusError as error:
        return str(error)
    if up is None:
        return "Prometheus scrapes no exporter"
    return "" if up == 1 else "the exporter is down: nothing is known of any bot"


def matches(matchers: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Alertmanager's matching: all of them, an absent label is empty, regular expressions are anchored."""
    return all(_matches(matcher, labels) for matcher in matchers)


def _matches(matcher: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, wanted = labels.get(matcher["name"], ""), matcher["value"]
    try:
        same = re.fullmatch(wanted, value) is not None if matcher["isRegex"] else value == wanted
    except re.error:
        return False  # Go's syntax, not Python's
    return bool(same == matcher.get("isEqual", True))
