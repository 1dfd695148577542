"""Every call, once: the routes are made from this table, and so is `/openapi.json`."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from remediator.api import (
    alerts,
    backups,
    bots,
    deployments,
    holds,
    metrics,
    orphans,
    pairing,
    recoveries,
    rollouts,
    scaling,
    service,
)
from remediator.api.configuration import drift, versions
from remediator.api.cost import costs
from remediator.api.operation import ANY, BINARY, TEXT, Operation
from remediator.runtime import VERSION

OPERATIONS: Final = (
    *service.OPERATIONS,
    *metrics.OPERATIONS,
    *alerts.OPERATIONS,
    *recoveries.OPERATIONS,
    *holds.OPERATIONS,
    *bots.OPERATIONS,
    *pairing.OPERATIONS,
    *deployments.OPERATIONS,
    *versions.OPERATIONS,
    *drift.OPERATIONS,
    *rollouts.OPERATIONS,
    *scaling.OPERATIONS,
    *costs.OPERATIONS,
    *orphans.OPERATIONS,
    *backups.OPERATIONS,
)

_COMMON: Final = {
    401: "The bearer token is missing or wrong.",
    403: "A page of another site sent it.",
    415: "The body is not declared as application/json.",
    421: "The host is no name of this service.",
    503: "The store cannot be used. Nothing was accepted; send it again.",
}
_REFUSALS_OF_A_BODY: Final = {
    400: "The body is no JSON object of the right kind.",
    413: "The body is too large.",
    422: "A field is wrong; the answer names it.",
}


def document() -> dict[str, Any]:
    """Return all calls as an OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Bot Orchestrator: remediator", "version": VERSION},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _described(operation: Operation) -> dict[str, Any]:
    answers = {**operation.answers}
    refusals = {**_COMMON, **(_REFUSALS_OF_A_BODY if operation.body or operation.query else {})}
    if operation.access != "token":
        refusals.pop(401)
    responses = {
        str(status): {"description": text, "content": _content(shape)}
        for status, (text, shape) in answers.items()
    } | {
        str(status): {"description": text, "content": _content(ANY)}
        for status, text in refusals.items()
        if status not in answers
    }
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": responses,
        "parameters": _parameters(operation),
        "security": [{"token": []}] if operation.access == "token" else [],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [part.strip("{}") for part in operation.path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path
    ] + [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in operation.query.items()
    ]


def _content(shape: Any) -> dict[str, Any]:
    if shape is BINARY:
        return {"application/octet-stream": {"schema": {}}}
    if shape is TEXT:
        return {"text/plain": {"schema": {"type": "string"}}}
    schema = TypeAdapter(shape).json_schema(by_alias=True, ref_template="#/$defs/{model}")
    return {"application/json": {"schema": _inlined(schema, schema.pop("$defs", {}))}}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return the schema with its references put in place: no shape of ours refers to itself."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}
