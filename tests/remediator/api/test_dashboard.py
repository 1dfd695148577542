"""GET /dashboard: what is in it, and what becomes of it without a Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.remediator.conftest import Api, World, serve, settings_for

RunApp = Callable[..., AbstractAsyncContextManager[Api]]


async def test_an_empty_dashboard_has_every_part(alone: Api) -> None:
    dashboard = await alone.get("/dashboard")
    assert set(dashboard) >= {"summary", "registry", "state", "alerts", "metrics", "history"}
    assert dashboard["summary"]["bots"] == 0
    assert dashboard["summary"]["storm"] == {
        **dict.fromkeys(["unhealthy", "total", "ratio"]),
        "active": False,
        "limit": 1,
        "reason": "",
    }
    assert dashboard["history"] == {"available": False, "reason": "BOT_REMEDIATOR_PROMETHEUS_URL is not set"}


async def prometheus(answers: dict[str, Any], status: int = 200) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        result = answers[request.path.rpartition("/")[2]]
        return web.json_response({"status": "success", "data": {"result": result}}, status=status)

    app = web.Application()
    app.router.add_get("/api/v1/{call}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, "http://{}:{}".format(*runner.addresses[0][:2])


async def test_scores_and_history_come_from_prometheus(run_app: RunApp, world: World) -> None:
    bots = world.names(4)
    scores = dict(zip(bots, ["100", "45", "20", "NaN"], strict=True))
    answers = {
        "query": [{"metric": {"bot": bot}, "value": [1, score]} for bot, score in scores.items()],
        "query_range": [{"metric": {"bot": bots[0]}, "values": [[1, "100"], [901, "NaN"]]}],
    }
    runner, url = await prometheus(answers)
    try:
        async with run_app(prometheus_url=url) as app:
            await app.deployed(*bots)
            dashboard = await app.get("/dashboard")
    finally:
        await runner.cleanup()
    summary = {
        name: dashboard["summary"][name] for name in ("bots", "healthy", "degraded", "critical", "unknown")
    }
    assert summary == {"bots": 4, "healthy": 1, "degraded": 1, "critical": 1, "unknown": 1}
    assert dashboard["metrics"]["health_score"][bots[1]] == 45
    assert dashboard["history"]["health_score"] == {bots[0]: [[1, 100.0]]}
    registry = {bot["bot"]: bot for bot in dashboard["registry"]}  # by name: bot-10 stands before bot-9
    assert registry[bots[0]]["health_score"] == 100


@pytest.mark.parametrize(
    "wrong", [{}, [], [{}], [{"metric": {"bot": "x"}}], [{"metric": {"bot": "x"}, "value": []}]]
)
async def test_a_prometheus_that_makes_no_sense_is_an_answer_and_no_fault_of_ours(
    tmp_path: Path, wrong: Any
) -> None:
    runner, url = await prometheus({"query": wrong, "query_range": wrong})
    try:
        async with serve(settings_for(tmp_path / "remediator.db", prometheus_url=url)) as app:
            assert (await app.get("/dashboard"))["metrics"]["health_score"] == {}
    finally:
        await runner.cleanup()


async def test_a_prometheus_that_is_away_is_said(tmp_path: Path) -> None:
    async with serve(settings_for(tmp_path / "remediator.db", prometheus_url="http://127.0.0.1:9")) as app:
        history = (await app.get("/dashboard"))["history"]
        assert history["available"] is False
        assert history["reason"].startswith("Prometheus cannot be reached")
