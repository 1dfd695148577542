"""What Prometheus knows: scores now and over the last day. It being away is an answer, not an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

PATIENCE: Final = aiohttp.ClientTimeout(total=5)
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
        found = await self._get("query", {"query": "max by (bot) (bot_health_score)"})
        return {one["metric"]["bot"]: float(one["value"][1]) for one in found if "bot" in one["metric"]}

    async def value(self, expression: str) -> float | None:
        """The first sample of an instant query; None where there is none."""
        found = await self._get("query", {"query": expression})
        return float(found[0]["value"][1]) if found else None

    async def history(self, now: float) -> dict[str, list[tuple[float, float]]]:
        """(Unix time, score) of each bot, one point a quarter of an hour, for 24 hours."""
        query = {"query": "max by (bot) (bot_health_score)", "start": now - DAY, "end": now, "step": STEP}
        found = await self._get("query_range", query)
        return {
            one["metric"]["bot"]: [(at, float(value)) for at, value in one["values"]]
            for one in found
            if "bot" in one["metric"]
        }

    async def _get(self, call: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            url = f"{self.url.rstrip('/')}/api/v1/{call}"
            async with self.session.get(url, params=query, timeout=PATIENCE) as response:
                if response.status != 200:
                    raise PrometheusError(f"Prometheus answered {response.status}")
                found: list[dict[str, Any]] = (await response.json())["data"]["result"]
                return found
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PrometheusError(f"Prometheus cannot be reached: {type(error).__name__}") from None
        except (KeyError, TypeError, ValueError):
            raise PrometheusError("Prometheus answered something else than query results") from None
