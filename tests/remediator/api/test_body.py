"""What is read of a body, before any model looks at it."""

import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from remediator.api.body import read_json


def request_with(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"bot": "a\\u0000b"}', {"bot": "a\ufffdb"}),
        (b'{"a\\u0000": ["\\u0000\\u0000"]}', {"a\ufffd": ["\ufffd\ufffd"]}),
        (b'"\\\\u0000"', "\\u0000"),  # a backslash, and no escape
        (b'"\\\\\\u0000"', "\\\ufffd"),
        (b'"\\\\\\\\u0000"', "\\\\u0000"),
        (json.dumps("plain é").encode(), "plain é"),
    ],
)
async def test_nul_which_postgresql_keeps_in_no_text_becomes_a_replacement(body: bytes, value: Any) -> None:
    assert await read_json(request_with(body), 1000) == value
