"""A Prometheus that answers what a test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Oracle:
    """A Prometheus whose answers a test sets. `instant`: part of an expression → bot → value."""

    url: str = ""
    instant: dict[str, dict[str, float]] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)  # requests, by bot: 1,000 tokens in, 200 out
    broken: bool = False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the values of the first part that is in the expression."""
        for part, values in self.instant.items():
            if part in expression:
                return [{"metric": {"bot": bot}, "value": [1, str(value)]} for bot, value in values.items()]
        return []

    def query_range(self, expression: str, end: float) -> list[dict[str, Any]]:
        """Return the counters at `end`, of requests or tokens as the expression says."""
        each = {"requests": 1, "input": 1000, "output": 200}
        factor = next(factor for name, factor in each.items() if f"usage_{name}" in expression)
        return [
            {"metric": {"bot": bot}, "values": [[end, str(count * factor)]]}
            for bot, count in self.counters.items()
        ]


@asynccontextmanager
async def run_oracle() -> AsyncIterator[Oracle]:
    """Serve the API of an oracle on a free port."""
    oracle = Oracle()

    async def answer(request: web.Request) -> web.Response:
        if oracle.broken:
            return web.Response(status=503)
        parameters = request.query
        result = (
            oracle.query(parameters["query"])
            if request.path.endswith("query")
            else oracle.query_range(parameters["query"], float(parameters["end"]))
        )
        return web.json_response({"status": "success", "data": {"result": result}})

    app = web.Application()
    app.router.add_get("/api/v1/{call}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    oracle.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield oracle
    finally:
        await runner.cleanup()
