"""Requests that are refused: their status, the field, and what to do."""

from __future__ import annotations

from typing import get_args

import pytest

from remediator.api.errors import STATUSES, RequestError
from remediator.errors import Kind, Refused
from tests.remediator.conftest import Api


def test_every_kind_of_refusal_has_its_status_and_keeps_its_words() -> None:
    assert STATUSES == {"unknown": 404, "conflict": 409, "invalid": 422, "unavailable": 502}
    assert set(STATUSES) == set(get_args(Kind))
    for kind, status in STATUSES.items():
        error = RequestError.of(Refused(kind, "it is so", field="bot", remedy="ask again"))
        assert error.status == status
        assert error.body() == {"error": {"field": "bot", "message": "it is so", "remedy": "ask again"}}


def test_what_a_refusal_does_not_say_is_not_in_its_body() -> None:
    assert RequestError.of(Refused("conflict", "it is so")).body() == {"error": {"message": "it is so"}}


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
