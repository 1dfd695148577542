"""Reads what a request brings: bounded, parsed, and refused by field."""

import json
import re
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from remediator.api.errors import RequestError
from remediator.errors import Refused

ALERTS_LIMIT: Final = 8 * 1024 * 1024  # bytes; some thousand alerts
BODY_LIMIT: Final = 64 * 1024  # bytes

# U+0000 as JSON spells it: behind an even number of backslashes.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, limit: int) -> Any:
    """Return the body as JSON. RequestError 413 past `limit` bytes, 400 where it is no JSON.

    U+0000, which PostgreSQL keeps in no text, becomes U+FFFD.
    """
    too_large = RequestError(413, "the body is too large", field="body", remedy=f"send at most {limit} bytes")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    try:
        data = json.loads(_NUL.sub(rb"\1\\ufffd", body))
        if b"\\ud" in body.lower():  # may be half of a surrogate pair: JSON can spell it, UTF-8 cannot
            json.dumps(data, ensure_ascii=False).encode()
        return data
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "it cannot be decoded"
        raise RequestError(400, f"no JSON: {reason}", field="body", remedy="send a JSON object") from None


async def read_body(request: Request, model: type[M]) -> M:
    """Return the body as that model. RequestError 400 where it is no object, Refused naming a field."""
    data = await read_json(request, BODY_LIMIT)
    if not isinstance(data, dict):
        raise RequestError(400, "must be a JSON object", field="body", remedy="send {…}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        known = ", ".join(field.alias or name for name, field in model.model_fields.items())
        remedy = {
            "missing": f"add {field}",
            "extra_forbidden": f"remove it; known fields are {known}",
        }.get(first["type"], "correct it and send the request again")
        message = first["msg"].removeprefix("Value error, ")
        raise Refused("invalid", message, field=field, remedy=remedy) from None


def read_number(request: Request, name: str, default: float, most: float) -> float:
    """Return a query parameter; Refused (invalid) where it is no number from 0 to `most`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise Refused("invalid", f"is {text!r}", field=name, remedy=f"use a number from 0 to {most:g}")
    return number
