"""What Prometheus knows: scores now and over the last day. It being away is an answer, not an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal

import aiohttp

PATIENCE: Final = aiohttp.ClientTimeout(total=5)
THOROUGH: Final = aiohttp.ClientTimeout(total=60)  # for questions over two weeks
STRANGE: Final = "Prometheus answered something else than query results"
DAY: Final = 86400
STEP: Final = 900  # seconds between two points of the history


class PrometheusError(Exception):
    """No usable answer; the words are for the person who looks at the dashboard."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str
    session: aiohttp.ClientSession

    async def scores(self) -> dict[str, float]:
        """The newest health score of each bot."""
        found = await self._get("query", {"query": "max by (bot) (bot_health_score)"}, "value")
        return {bot: points[0][1] for bot, points in found.items() if points}

    async def value(self, expression: str) -> float | None:
        """The first sample of an instant query; None where there is none."""
        found = await self._ask("query", {"query": expression})
        try:
            return float(found[0]["value"][1]) if found else None
        except (KeyError, TypeError, ValueError, IndexError):
            raise PrometheusError(STRANGE) from None

    async def by_bot(self, expression: str, at: float | None = None) -> dict[str, float]:
        """The samples of an instant query that is grouped by bot; it may take a while."""
        query: dict[str, Any] = {"query": expression} | ({} if at is None else {"time": at})
        found = await self._get("query", query, "value", THOROUGH)
        return {bot: points[0][1] for bot, points in found.items() if points}

    async def over_time(
        self, expression: str, start: float, end: float, step: float
    ) -> dict[str, list[tuple[float, float]]]:
        """(Unix time, value) of each bot, a point each `step` seconds."""
        query = {"query": expression, "start": start, "end": end, "step": step}
        return await self._get("query_range", query, "values", THOROUGH)

    async def history(self, now: float) -> dict[str, list[tuple[float, float]]]:
        """(Unix time, score) of each bot, one point a quarter of an hour, for 24 hours."""
        query = {"query": "max by (bot) (bot_health_score)", "start": now - DAY, "end": now, "step": STEP}
        return await self._get("query_range", query, "values")

    async def _get(
        self,
        call: str,
        query: Mapping[str, Any],
        field: Literal["value", "values"],
        patience: aiohttp.ClientTimeout = PATIENCE,
    ) -> dict[str, list[tuple[float, float]]]:
        """The points of each bot; those that are no number (NaN), which JSON cannot say, are left out."""
        found = {}
        try:
            for one in await self._ask(call, query, patience):
                points = [one["value"]] if field == "value" else one["values"]
                read = [(float(at), float(value)) for at, value in points]
                found[str(one["metric"]["bot"])] = [point for point in read if isfinite(point[1])]
        except (KeyError, TypeError, ValueError):
            raise PrometheusError(STRANGE) from None
        return found

    async def _ask(
        self, call: str, query: Mapping[str, Any], patience: aiohttp.ClientTimeout = PATIENCE
    ) -> Any:
        try:
            url = f"{self.url.rstrip('/')}/api/v1/{call}"
            async with self.session.get(url, params=query, timeout=patience) as response:
                if response.status != 200:
                    raise PrometheusError(f"Prometheus answered {response.status}")
                return (await response.json())["data"]["result"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PrometheusError(f"Prometheus cannot be reached: {type(error).__name__}") from None
        except (KeyError, TypeError, ValueError):
            raise PrometheusError(STRANGE) from None
