"""Alertmanager's silences: what people said must be left alone. It being away is an answer, not an error."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import structlog

from remediator.monitoring.cached import Cached

log = structlog.get_logger()

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)

Silence = Mapping[str, Any]


class Alertmanager:
    """Reads active silences; without a URL there are none."""

    def __init__(self, url: str | None, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._silences = Cached(self._read)

    async def silences(self) -> list[Silence]:
        """Return the active silences (Alertmanager's API, v2); none where it cannot be asked."""
        return await self._silences.get()

    async def _read(self) -> list[Silence]:
        if self._url is None:
            return []
        url = f"{self._url.rstrip('/')}/api/v2/silences"
        try:
            async with self._session.get(url, timeout=REQUEST_TIMEOUT) as response:
                silences = await response.json()
                return [silence for silence in silences if silence["status"]["state"] == "active"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("silences unknown: alertmanager cannot be asked", error=type(error).__name__)
            return []


def silenced_by(silences: Sequence[Silence], alerts: Sequence[Mapping[str, str]]) -> str:
    """Describe the first silence that covers one of these label sets; return "" if none does."""
    for silence in silences:
        if any(matches(silence["matchers"], labels) for labels in alerts):
            author, comment = silence.get("createdBy", ""), silence.get("comment", "")
            return f"silenced in Alertmanager by {author or 'somebody'}: {comment}"
    return ""


def matches(matchers: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Match as Alertmanager does: all of them, an absent label is empty, regular expressions are anchored."""
    return all(_matches(matcher, labels) for matcher in matchers)


def _matches(matcher: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, pattern = labels.get(matcher["name"], ""), matcher["value"]
    try:
        equal = re.fullmatch(pattern, value) is not None if matcher["isRegex"] else value == pattern
    except re.error:
        return False  # Go's syntax, not Python's
    return bool(equal == matcher.get("isEqual", True))
