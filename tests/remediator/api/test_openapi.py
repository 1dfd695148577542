"""`/openapi.json` describes every route, and what is answered."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jsonschema import Draft202012Validator
from starlette.routing import Route

from remediator.api.openapi import document
from remediator.app import create_app
from tests.remediator.conftest import Api, World, settings_for


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
    openapi = json.loads(json.dumps(document()))
    assert openapi["openapi"] == "3.1.0"
    assert set(openapi["info"]) >= {"title", "version"}
    shapes = [re.sub(r"\{\w+\}", "{}", path) for path in openapi["paths"]]
    assert len(shapes) == len(set(shapes)), "templates that differ in a name alone are one path"
    operations = [
        (path, method, operation)
        for path, item in openapi["paths"].items()
        for method, operation in item.items()
    ]
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))
    for path, method, operation in operations:
        assert operation["summary"], path
        in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert all(
            parameter["required"] for parameter in operation["parameters"] if parameter["in"] == "path"
        )
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
        assert all(response["description"] for response in operation["responses"].values())
        assert any(status.startswith("2") for status in operation["responses"])
        assert ("401" in operation["responses"]) == bool(operation["security"])
        assert "requestBody" not in operation or method in ("post", "put")
        contents = [response["content"] for response in operation["responses"].values()]
        contents += [operation["requestBody"]["content"]] if "requestBody" in operation else []
        for content in contents:
            for media in content.values():
                Draft202012Validator.check_schema(media["schema"])
                assert "$ref" not in json.dumps(media["schema"])


async def test_what_is_answered_has_the_described_shape(app: Api, world: World) -> None:
    bot = world.name()
    openapi = await app.get("/openapi.json")
    begun = await app.begin_deploy(bot)
    deployment = await app.until_ended(f"/deploy/{begun.body['deploymentId']}")
    run = await app.recover(bot)
    answers = {
        ("/deploy", "post", "202"): begun.body,
        ("/deploy/{deployment_id}", "get", "200"): deployment,
        ("/recover/{id}", "post", "200"): run,
        ("/recover/{id}", "get", "200"): await app.get(f"/recover/{run['recoveryId']}"),
        ("/audit", "get", "200"): await app.get("/audit"),
        ("/sd", "get", "200"): await app.get("/sd"),
        ("/health", "get", "200"): await app.get("/health"),
    }
    for (path, method, status), body in answers.items():
        media = openapi["paths"][path][method]["responses"][status]["content"]["application/json"]
        Draft202012Validator(media["schema"]).validate(body)
