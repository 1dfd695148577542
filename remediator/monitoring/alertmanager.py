"""Alertmanager's silences: what people said must be left alone. It being away is an answer, not an error."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import re2
import structlog

from remediator.monitoring.cached import Cached

log = structlog.get_logger()

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
KNOWN_FOR: Final = 3600.0  # seconds that silences hold while Alertmanager, which told them, does not answer
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False  # it would write to standard error
NOT_SET: Final = "no Alertmanager is asked for silences: ALERTMANAGER_URL is not set"

Silence = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Silences:
    """The silences that hold. `doubt`: why others may hold; empty where Alertmanager told them just now."""

    active: Sequence[Silence] = ()
    doubt: str = ""

    def covering(self, alerts: Sequence[Mapping[str, str]]) -> str:
        """Describe the first silence that covers one of these label sets; return "" if none does."""
        for silence in self.active:
            if any(matches(silence["matchers"], labels) for labels in alerts):
                author, comment = silence.get("createdBy", ""), silence.get("comment", "")
                doubt = f" ({self.doubt})" if self.doubt else ""
                return f"silenced in Alertmanager by {author or 'somebody'}: {comment}{doubt}"
        return ""


class Alertmanager:
    """Reads active silences; those that it last told hold while it does not answer."""

    def __init__(self, url: str | None, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._silences = Cached(self._read)
        self._told: list[Silence] = []
        self._told_at: float | None = None  # Unix time

    async def silences(self) -> Silences:
        """Return the active silences (Alertmanager's API, v2), or what is known of them."""
        return await self._silences.get()

    async def _read(self) -> Silences:
        if self._url is None:
            return Silences(doubt=NOT_SET)
        url = f"{self._url.rstrip('/')}/api/v2/silences"
        try:
            async with self._session.get(url, timeout=REQUEST_TIMEOUT, raise_for_status=True) as response:
                silences = await response.json()
            active = [silence for silence in silences if silence["status"]["state"] == "active"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("silences unknown: alertmanager cannot be asked", error=type(error).__name__)
            return self._last_known(time.time())
        self._told, self._told_at = active, time.time()
        return Silences(active)

    def _last_known(self, now: float) -> Silences:
        """Return the silences that were told last, but those that are over."""
        if self._told_at is None or now > self._told_at + KNOWN_FOR:
            return Silences(doubt="Alertmanager does not answer: whether there is a silence is not known")
        at = f"{datetime.fromtimestamp(self._told_at, UTC):%H:%M:%S} UTC"
        return Silences(
            [silence for silence in self._told if _ends_at(silence) > now],
            f"as Alertmanager said at {at}; it has not answered since",
        )


def _ends_at(silence: Silence) -> float:
    """Return when a silence ends (Unix time); where it does not say, never."""
    try:
        return datetime.fromisoformat(silence["endsAt"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return float("inf")


def matches(matchers: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Match as Alertmanager does: all of them, an absent label is empty, regular expressions are anchored.

    They are RE2's, as Go's are: in linear time, whatever the pattern. One that cannot be read covers all: a
    person wanted something to be left alone.
    """
    return all(_matches(matcher, labels) for matcher in matchers)


def _matches(matcher: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, pattern = labels.get(matcher["name"], ""), matcher["value"]
    if not matcher["isRegex"]:
        return bool((value == pattern) == matcher.get("isEqual", True))
    try:
        matched = re2.fullmatch(pattern, value, _OPTIONS) is not None
    except re2.error:
        return True
    return bool(matched == matcher.get("isEqual", True))
