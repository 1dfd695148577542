"""Prometheus: scores now and over the last day. It being away is an answer, not an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal

import aiohttp

from remediator.timestamps import DAY

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
LONG_QUERY_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)  # for questions over two weeks
MALFORMED: Final = "Prometheus answered something else than query results"
STEP: Final = 900  # seconds between two points of the history

Points = list[tuple[float, float]]
"""(Unix time, value)."""


class PrometheusError(Exception):
    """No usable answer; the text is for the person who reads the dashboard."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Asks Prometheus's HTTP API; every method raises PrometheusError where it gives no usable answer."""

    url: str
    session: aiohttp.ClientSession

    async def scores(self) -> dict[str, float]:
        """Return the newest health score of each bot."""
        series = await self._by_bot("query", {"query": "max by (bot) (bot_health_score)"}, "value")
        return {bot: points[0][1] for bot, points in series.items() if points}

    async def value(self, expression: str) -> float | None:
        """Return the first sample of an instant query; None where there is none."""
        result = await self._query("query", {"query": expression})
        try:
            return float(result[0]["value"][1]) if result else None
        except (KeyError, TypeError, ValueError, IndexError):
            raise PrometheusError(MALFORMED) from None

    async def by_bot(self, expression: str, at: float | None = None) -> dict[str, float]:
        """Return the samples of an instant query that is grouped by bot; it may take a minute."""
        query: dict[str, Any] = {"query": expression} | ({} if at is None else {"time": at})
        series = await self._by_bot("query", query, "value", LONG_QUERY_TIMEOUT)
        return {bot: points[0][1] for bot, points in series.items() if points}

    async def over_time(self, expression: str, start: float, end: float, step: float) -> dict[str, Points]:
        """Return the points of each bot, one each `step` seconds; it may take a minute."""
        query = {"query": expression, "start": start, "end": end, "step": step}
        return await self._by_bot("query_range", query, "values", LONG_QUERY_TIMEOUT)

    async def history(self, now: float) -> dict[str, Points]:
        """Return the scores of each bot over 24 hours, one point a quarter of an hour."""
        query = {"query": "max by (bot) (bot_health_score)", "start": now - DAY, "end": now, "step": STEP}
        return await self._by_bot("query_range", query, "values")

    async def _by_bot(
        self,
        call: str,
        query: Mapping[str, Any],
        field: Literal["value", "values"],
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> dict[str, Points]:
        """Return the points of each bot, without those that are no number (NaN), which JSON cannot say."""
        by_bot = {}
        try:
            for series in await self._query(call, query, timeout):
                samples = [series["value"]] if field == "value" else series["values"]
                points = [(float(at), float(value)) for at, value in samples]
                by_bot[str(series["metric"]["bot"])] = [point for point in points if isfinite(point[1])]
        except (KeyError, TypeError, ValueError):
            raise PrometheusError(MALFORMED) from None
        return by_bot

    async def _query(
        self, call: str, query: Mapping[str, Any], timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT
    ) -> Any:
        try:
            url = f"{self.url.rstrip('/')}/api/v1/{call}"
            async with self.session.get(url, params=query, timeout=timeout) as response:
                if response.status != 200:
                    raise PrometheusError(f"Prometheus answered {response.status}")
                return (await response.json())["data"]["result"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PrometheusError(f"Prometheus cannot be reached: {type(error).__name__}") from None
        except (KeyError, TypeError, ValueError):
            raise PrometheusError(MALFORMED) from None
