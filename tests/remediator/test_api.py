"""The API as a client sees it: who may ask, what is answered, and that it is described."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from remediator.app import create_app
from remediator.metrics import SERIES
from remediator.openapi import OPERATIONS, document
from tests.remediator.conftest import TOKEN, Api, World, firing, serve, settings_for

RunApp = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Api]:
    """An app without bots or AWS."""
    async with serve(settings_for(tmp_path / "remediator.db")) as api:
        yield api


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "nobody", path)


# who may ask


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "\xfc"])
async def test_without_the_token_only_the_open_paths_answer(alone: Api, token: str) -> None:
    alone.token = token
    for one in OPERATIONS:
        answer = await alone.call(one.method, filled(one.path))
        if one.access == "token":
            assert (answer.status, answer.field) == (401, "Authorization"), one.path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in json.dumps(answer.body)
        else:
            assert answer.status == 200, one.path
    assert (await alone.call("GET", "/openapi.json")).status == 401
    assert (await alone.call("GET", "/nowhere")).status == 401


async def test_metrics_and_discovery_can_be_closed(tmp_path: Path) -> None:
    async with serve(settings_for(tmp_path / "remediator.db", open_metrics=False)) as app:
        for path in ("/metrics", "/sd"):
            assert (await app.call("GET", path)).status == 200
        app.token = ""
        for path in ("/metrics", "/sd"):
            assert (await app.call("GET", path)).status == 401
        assert (await app.call("GET", "/-/ready")).status == 200


async def test_on_loopback_a_service_without_a_token_asks_for_none(tmp_path: Path) -> None:
    async with serve(settings_for(tmp_path / "remediator.db", token=None)) as app:
        app.token = ""
        assert (await app.call("GET", "/dashboard")).status == 200


# what is refused


async def test_unknown_paths_and_wrong_methods_have_the_shape_of_every_refusal(alone: Api) -> None:
    for method, path, status in [
        ("GET", "/nowhere", 404),
        ("GET", "/recover", 404),
        ("GET", "/deploy", 405),
        ("DELETE", "/alerts", 405),
        ("PUT", "/recover/forge", 405),
        ("POST", "/health", 405),
    ]:
        answer = await alone.call(method, path)
        assert (answer.status, answer.field) == (status, "path"), path
        assert answer.body["error"]["message"]
        assert answer.body["error"]["remedy"] == "GET /openapi.json lists every call"


@pytest.mark.parametrize("path", ["/deploy", "/recover/forge"])
@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (b"[]", 400, "body"),
        (b'"x"', 400, "body"),
        (b"\xff\xfe", 400, "body"),
        (b"[" * 60_000, 400, "body"),
        (b'{"\\ud800": 1}', 400, "body"),
        (b" " * 70_000, 413, "body"),
        (b'{"nonsense": 1}', 422, None),
        (b'{"method": "explode"}', 422, None),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_and_the_service_lives(
    alone: Api, path: str, body: bytes, status: int, field: str | None
) -> None:
    answer = await alone.call("POST", path, data=body)
    assert answer.status == status
    assert answer.field == field if field else answer.field
    assert (await alone.get("/health"))["status"] == "healthy"


async def test_what_is_not_there_is_a_404_by_field_with_a_remedy(alone: Api) -> None:
    for method, path, field in [
        ("POST", "/recover/nobody", "botId"),
        ("POST", "/recover/%ff%00", "botId"),
        ("GET", "/recover/rec-nowhere", "recoveryId"),
        ("GET", "/deploy/dep-nowhere", "deploymentId"),
    ]:
        answer = await alone.call(method, path, {"method": "restart"} if method == "POST" else None)
        assert (answer.status, answer.field) == (404, field), path
        assert answer.body["error"]["remedy"]


@pytest.mark.parametrize("wait", ["soon", "-1", "601", "nan", "inf", ""])
async def test_a_wait_that_is_no_time_is_refused(alone: Api, wait: str) -> None:
    answer = await alone.call("POST", f"/recover/nobody?wait={wait}", {"method": "restart"})
    assert (answer.status, answer.field) == (422, "wait")


# recoveries asked for


async def test_a_wait_answers_with_the_end_or_with_what_is_so_by_then(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app(restart_timeout=10) as app:
        await app.deployed(bot)
        ended = await app.post(f"/recover/{bot}?wait=60", {"method": "restart"})
        assert (ended.status, ended.body["status"]) == (200, "recovered")
        assert ended.body["finishedAt"]
        await world.cloud.fault(bot, "error", cured_by="reboot")
        late = await app.post(f"/recover/{bot}?wait=0.2", {"method": "restart"})
        assert (late.status, late.body["status"], late.body["finishedAt"]) == (202, "running", None)
        assert late.headers["Location"] == f"/recover/{late.body['recoveryId']}"
        again = await app.post(f"/recover/{bot}", {"method": "restart"})
        assert (again.status, again.field) == (409, "botId")
        assert late.body["recoveryId"] in again.body["error"]["message"]
        assert await app.alert(firing(bot)) == []  # it joins the run that a person began
        assert (await app.get(f"/recover/{late.body['recoveryId']}"))["alerts"][0]["name"] == "BotDown"
        await world.cloud.heal(bot)
        assert (await app.until_ended(f"/recover/{late.body['recoveryId']}"))["status"] == "recovered"


async def test_the_trail_tells_the_whole_story_of_a_bot(app: Api, world: World) -> None:
    bot = world.name()
    await app.deployed(bot)
    await world.cloud.fault(bot, "die")
    (run_id,) = await app.alert(firing(bot))
    await app.until_ended(f"/recover/{run_id}")
    trail = await app.get(f"/audit?bot={bot}&limit=1000")
    events = [entry["event"] for entry in trail]
    assert events[0] == "deploy.asked"
    told = ["alert.firing", "run.started", "tier.intended", "step.acted", "tier.cured", "run.recovered"]
    assert [event for event in events if event in told] == told
    assert [entry["id"] for entry in trail] == sorted(entry["id"] for entry in trail)
    assert trail[0]["actor"] == "api:127.0.0.1"
    assert await app.get(f"/audit?bot={bot}&limit=2") == trail[-2:]
    assert await app.get(f"/audit?bot={bot}&after={trail[0]['id']}&limit=1") == [trail[1]]


# what it says of itself


async def test_health_says_who_and_when(alone: Api) -> None:
    health = await alone.get("/health")
    assert set(health) == {"status", "version", "timestamp", "managed_bots", "active_deployments"}
    assert (health["managed_bots"], health["active_deployments"]) == (0, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", health["timestamp"])
    assert (await alone.call("GET", "/-/healthy")).status == 200
    assert (await alone.call("GET", "/-/ready")).status == 200


async def test_an_empty_dashboard_has_every_part(alone: Api) -> None:
    shown = await alone.get("/dashboard")
    assert set(shown) >= {"summary", "registry", "state", "alerts", "metrics", "history"}
    assert shown["summary"]["bots"] == 0
    assert shown["summary"]["storm"] == {
        **dict.fromkeys(["unhealthy", "total", "ratio"]),
        "active": False,
        "limit": 1,
        "reason": "",
    }
    assert shown["history"] == {"available": False, "reason": "BOT_REMEDIATOR_PROMETHEUS_URL is not set"}


async def prometheus(answers: dict[str, Any], status: int = 200) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        found = answers[request.path.rpartition("/")[2]]
        return web.json_response({"status": "success", "data": {"result": found}}, status=status)

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
            shown = await app.get("/dashboard")
    finally:
        await runner.cleanup()
    summary = {
        name: shown["summary"][name] for name in ("bots", "healthy", "degraded", "critical", "unknown")
    }
    assert summary == {"bots": 4, "healthy": 1, "degraded": 1, "critical": 1, "unknown": 1}
    assert shown["metrics"]["health_score"][bots[1]] == 45
    assert shown["history"]["health_score"] == {bots[0]: [[1, 100.0]]}
    assert shown["registry"][0]["health_score"] == 100


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


async def test_every_series_is_there_from_the_start_with_its_counters_at_zero(alone: Api) -> None:
    body = await alone.get("/metrics")
    families = {(family.name, family.type): family for family in text_string_to_metric_families(body)}
    for series in SERIES:
        family = families[series.name.removesuffix("_total"), series.kind]
        assert family.documentation == series.help
        if series.kind == "counter" and "bot" not in series.labels:  # there is no bot here
            assert family.samples, series.name
            assert all(sample.value == 0 for sample in family.samples), series.name
            assert all(set(sample.labels) == set(series.labels) for sample in family.samples)
    assert ("process_resident_memory_bytes", "gauge") in families
    assert await alone.metric("bot_remediation_fleet_unhealthy_ratio_limit") == 1


# its description


def test_the_document_describes_every_route_and_nothing_else(tmp_path: Path) -> None:
    routes = {
        (method, route.path)
        for route in create_app(settings_for(tmp_path / "x.db")).routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD" and route.path != "/openapi.json"
    }
    described = {(method.upper(), path) for path, item in document()["paths"].items() for method in item}
    assert described == routes


def test_the_document_is_openapi_3_1() -> None:
    """No validator of it is among our packages: this is what the specification demands of what we use."""
    made = json.loads(json.dumps(document()))
    assert made["openapi"] == "3.1.0"
    assert set(made["info"]) >= {"title", "version"}
    shapes = [re.sub(r"\{\w+\}", "{}", path) for path in made["paths"]]
    assert len(shapes) == len(set(shapes)), "templates that differ in a name alone are one path"
    operations = [(path, method, one) for path, item in made["paths"].items() for method, one in item.items()]
    ids = [one["operationId"] for _, _, one in operations]
    assert len(ids) == len(set(ids))
    for path, method, one in operations:
        assert one["summary"], path
        in_path = {parameter["name"] for parameter in one["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert all(parameter["required"] for parameter in one["parameters"] if parameter["in"] == "path")
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status in one["responses"])
        assert all(response["description"] for response in one["responses"].values())
        assert any(status.startswith("2") for status in one["responses"])
        assert ("401" in one["responses"]) == bool(one["security"])
        assert "requestBody" not in one or method in ("post", "put")
        contents = [response["content"] for response in one["responses"].values()]
        contents += [one["requestBody"]["content"]] if "requestBody" in one else []
        for content in contents:
            for media in content.values():
                Draft202012Validator.check_schema(media["schema"])
                assert "$ref" not in json.dumps(media["schema"])


async def test_what_is_answered_has_the_described_shape(app: Api, world: World) -> None:
    bot = world.name()
    made = await app.get("/openapi.json")
    asked = await app.begin_deploy(bot)
    deployment = await app.until_ended(f"/deploy/{asked.body['deploymentId']}")
    run = await app.recover(bot)
    answers = {
        ("/deploy", "post", "202"): asked.body,
        ("/deploy/{deployment_id}", "get", "200"): deployment,
        ("/recover/{id}", "post", "200"): run,
        ("/recover/{id}", "get", "200"): await app.get(f"/recover/{run['recoveryId']}"),
        ("/audit", "get", "200"): await app.get("/audit"),
        ("/sd", "get", "200"): await app.get("/sd"),
        ("/health", "get", "200"): await app.get("/health"),
    }
    for (path, method, status), body in answers.items():
        media = made["paths"][path][method]["responses"][status]["content"]["application/json"]
        Draft202012Validator(media["schema"]).validate(body)
