"""Every call, once: the routes are made from this table, and so is `/openapi.json`."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from remediator import backups, changes, costs, deployments, groups, lifecycle, reconcile, rolling, views
from remediator.alerts import Webhook
from remediator.api import Api
from remediator.operation import ANY, BINARY, TEXT, Operation
from remediator.requests import DeployRequest, HoldRequest, RecoverRequest, SpokenRequest
from remediator.services import VERSION

_OF_A_RUN: Final = {
    404: ("Unknown recovery.", ANY),
    409: ("It has ended, or does not wait for this.", ANY),
}

OPERATIONS: Final = (
    Operation("GET", "/health", "health", {200: ("It works.", ANY)}, access="open"),
    Operation("GET", "/dashboard", "dashboard", {200: ("All there is to know.", ANY)}),
    Operation(
        "POST",
        "/deploy",
        "deploy",
        {
            202: ("The deployment has begun.", views.DeploymentView),
            409: ("There is a bot of that name.", ANY),
            502: ("AWS refused the token's parameter.", ANY),
        },
        body=DeployRequest,
    ),
    # One path, as OpenAPI has it: templates that differ in a name alone are the same. Here it is the bot's …
    Operation(
        "POST",
        "/recover/{id}",
        "recover",
        {
            200: ("It has ended (only with `wait`).", views.RecoveryView),
            202: ("The recovery has begun.", views.RecoveryView),
            404: ("Unknown bot.", ANY),
            409: ("The bot is in the hands of another run.", ANY),
        },
        body=RecoverRequest,
        query={"wait": "Answer when the recovery has ended, or after so many seconds (at most 600)."},
    ),
    # … and here the recovery's.
    Operation(
        "GET",
        "/recover/{id}",
        "show_recovery",
        {200: ("The recovery.", views.RecoveryView), 404: ("Unknown recovery.", ANY)},
    ),
    Operation(
        "POST",
        "/recover/{id}/cancel",
        "cancel",
        {202: ("It ends at its next step.", ANY), **_OF_A_RUN},
        body=SpokenRequest,
    ),
    Operation(
        "POST",
        "/recover/{id}/approve",
        "approve",
        {200: ("The tier goes on.", ANY), **_OF_A_RUN},
        body=SpokenRequest,
    ),
    Operation(
        "POST",
        "/recover/{id}/deny",
        "deny",
        {200: ("The bot is left to people.", ANY), **_OF_A_RUN},
        body=SpokenRequest,
    ),
    Operation(
        "GET",
        "/bots/{bot}/explain",
        "explain",
        {200: ("The bot's story (JSON where it is asked for).", TEXT), 404: ("Unknown bot.", ANY)},
    ),
    Operation(
        "DELETE",
        "/bots/{bot}/quarantine",
        "clear_quarantine",
        {
            200: ("It is recovered automatically again.", ANY),
            404: ("Unknown bot.", ANY),
            409: ("It is not in quarantine.", ANY),
        },
    ),
    Operation("GET", "/holds", "list_holds", {200: ("Pauses and windows.", list[dict[str, Any]])}),
    Operation("POST", "/holds", "add_hold", {201: ("It holds.", ANY)}, body=HoldRequest),
    Operation(
        "DELETE",
        "/holds/{id}",
        "lift_hold",
        {200: ("Recovery goes on.", ANY), 404: ("Unknown hold.", ANY)},
    ),
    Operation("POST", "/alerts", "alerts", {200: ("The alerts are on disk.", ANY)}, body=Webhook),
    Operation(
        "GET",
        "/audit",
        "audit",
        {200: ("Entries of the trail.", list[views.AuditView])},
        query={
            "after": "Only entries with a greater id.",
            "limit": "At most so many (100; at most 1000).",
            "bot": "Only this bot's.",
        },
    ),
    Operation("GET", "/sd", "service_discovery", {200: ("http_sd.", list[dict[str, Any]])}, access="metrics"),
    Operation("GET", "/metrics", "metrics", {200: ("Prometheus's text format.", TEXT)}, access="metrics"),
    Operation("GET", "/-/healthy", "healthy", {200: ("The process serves.", TEXT)}, access="open"),
    Operation("GET", "/-/ready", "ready", {200: ("Runs are being served.", TEXT)}, access="open"),
    *backups.OPERATIONS,
    *changes.OPERATIONS,
    *costs.OPERATIONS,
    *groups.OPERATIONS,
    *lifecycle.OPERATIONS,
    *reconcile.OPERATIONS,
    *deployments.OPERATIONS,
    *rolling.OPERATIONS,
)

_COMMON: Final = {
    401: "The bearer token is missing or wrong.",
    503: "The store cannot be used. Nothing was accepted; send it again.",
}
_REFUSALS_OF_A_BODY: Final = {
    400: "The body is no JSON object of the right kind.",
    413: "The body is too large.",
    422: "A field is wrong; the answer names it.",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Bot Orchestrator: remediator", "version": VERSION},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(one: Operation) -> dict[str, Any]:
    answers = {**one.answers}
    refusals = {**_COMMON, **(_REFUSALS_OF_A_BODY if one.body or one.query else {})}
    if one.access != "token":
        refusals.pop(401)
    responses = {
        str(status): {"description": text, "content": _content(shape)}
        for status, (text, shape) in answers.items()
    } | {
        str(status): {"description": text, "content": _content(ANY)}
        for status, text in refusals.items()
        if status not in answers
    }
    summary = (getattr(Api, one.handler).__doc__ or "").strip()
    described: dict[str, Any] = {
        "operationId": one.handler,
        "summary": summary,
        "responses": responses,
        "parameters": _parameters(one),
        "security": [{"token": []}] if one.access == "token" else [],
    }
    if one.body is not None:
        described["requestBody"] = {"required": True, "content": _content(one.body)}
    return described


def _parameters(one: Operation) -> list[dict[str, Any]]:
    in_path = [part.strip("{}") for part in one.path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path
    ] + [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in one.query.items()
    ]


def _content(shape: Any) -> dict[str, Any]:
    if shape is BINARY:
        return {"application/octet-stream": {"schema": {}}}
    if shape is TEXT:
        return {"text/plain": {"schema": {"type": "string"}}}
    schema = TypeAdapter(shape).json_schema(by_alias=True, ref_template="#/$defs/{model}")
    return {"application/json": {"schema": _inlined(schema, schema.pop("$defs", {}))}}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with its references put in place: no shape of ours refers to itself."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}
