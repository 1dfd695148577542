"""What the body of a 200 says of its bot. Pure.

A body that cannot be read says nothing, and the bot is well. These say that it is not, at the top of a JSON
object (or, where none stands there, in one of its envelopes), whatever their case:

- a flag that is false, 0, "false" or "no": ok, healthy, isHealthy, alive, success;
- a word of illness, or an HTTP status from 500 on, or false, as status, state or health;
- one such word, or false, as the whole body, in JSON or as text;
- the web page that OpenClaw answers unknown paths with.

Not understood as ill: degraded, warn, yellow, starting, draining, maintenance, unknown; `ready`; what the
components of a health document say, whose own status sums them up.
"""

import codecs
import json
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import orjson

WEB_PAGE: Final = "answered the web page of OpenClaw, which it has for every unknown path"
_LONGEST_WORD = 40
_MOST_COLLECTIONS = 400  # of what orjson does not read
_SMALL = 64  # bytes
_LONGEST_BODY = 1 << 20  # of one that was compressed


def _spellings(*names: str) -> frozenset[str]:
    return frozenset(spelt for name in names for spelt in (name, name.upper(), name.title()))


_FLAGS = _spellings("ok", "healthy", "alive", "success", "is_healthy") | {"isHealthy", "IsHealthy"}
_WORDS = _spellings("status", "state", "health")
_ENVELOPES = _spellings("health", "status", "state", "data", "result", "response")
_FIELDS = _FLAGS | _WORDS
_INSIDE = _FIELDS | _ENVELOPES
_FALSE = frozenset({"false", "no"})
ILL: Final = frozenset(
    {
        "unhealthy", "not_healthy", "down", "fail", "fails", "failed", "failing", "failure", "error",
        "errored", "err", "critical", "fatal", "dead", "ill", "sick", "broken", "ko", "nok", "not_ok",
        "not_okay", "not_alive", "not_live", "out_of_service", "offline", "unavailable",
        "service_unavailable", "crashed", "unresponsive", "outage", "red", "panic", "stopped",
    }
)  # fmt: skip
"""The words of illness, in lower case, with _ for space and hyphen."""

# OpenClaw's page, by its names of today and earlier.
_OPENCLAW = "(?:openclaw|moltbot|clawdbot)"
_OUR_WEB_PAGE = re.compile(rf"<(?:{_OPENCLAW}-app|title>\s*{_OPENCLAW})\b", re.IGNORECASE)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_body(body: bytes) -> tuple[Mapping[str, object] | None, str]:
    """Return the JSON object in a body, if any, and how it says that the bot is not well; empty if not."""
    return _read_small(body) if len(body) <= _SMALL else _read(body)


@lru_cache(maxsize=256)  # many bots answer /health with the same few bytes
def _read_small(body: bytes) -> tuple[Mapping[str, object] | None, str]:
    return _read(body)


def _read(body: bytes) -> tuple[Mapping[str, object] | None, str]:
    if body[:1] == b"{":
        try:
            document: object = orjson.loads(body)
        except ValueError:
            document = _read_odd(_text_of(body))
    else:
        text = _text_of(body)
        if text[:1] == "<":
            return None, WEB_PAGE if _OUR_WEB_PAGE.search(text) else ""
        document = _read_odd(text)
    if isinstance(document, dict):
        return document, "" if _INSIDE.isdisjoint(document) else _complaint_of(document)
    return None, _complaint_in_full(document)


def _complaint_of(document: dict[object, object]) -> str:
    plain = False
    for name in document:
        if name in _FIELDS:
            value = document[name]
            if not isinstance(value, dict):
                plain = True
                if value is not True and _says_ill(value, flag=name in _FLAGS):
                    return f'the answer says "{name}": {json.dumps(value)}'
    if plain:
        return ""
    for name in document:
        inner = document[name]
        if name in _ENVELOPES and isinstance(inner, dict):
            for field in inner:
                if field in _FIELDS and _says_ill(inner[field], flag=field in _FLAGS):
                    return f'the answer says "{name}.{field}": {json.dumps(inner[field])}'
    return ""


def _says_ill(value: object, *, flag: bool) -> bool:
    if value is False:
        return True
    if isinstance(value, str):
        return _word(value) in (_FALSE if flag else ILL)
    if value is True or not isinstance(value, int | float):
        return False
    return value == 0 if flag else 500 <= value < 600


def _complaint_in_full(document: object) -> str:
    """Return the complaint of a body that is one word, or false."""
    if document is False:
        return "the answer is false"
    if isinstance(document, str) and (word := _word(document)) in ILL:
        return f'the answer is "{word}"'
    return ""


def _word(text: str) -> str:
    return _normalized(text) if len(text) <= _LONGEST_WORD else ""


@lru_cache(maxsize=256)  # most bots say one of a few words
def _normalized(text: str) -> str:
    return text.strip(" \t\r\n.!\0\"'").lower().replace(" ", "_").replace("-", "_")


def _text_of(body: bytes) -> str:
    """Return the body as text, without what may stand before and after it."""
    text = _decoded(_inflated(body)).strip(" \t\r\n\0")
    return text.removeprefix(")]}',").lstrip()  # of frameworks that guard against being included as a script


def _read_odd(text: str) -> object:
    """Read what is no plain JSON object: the document, or a text as a string; None if unreadable."""
    if text[:1] not in '{["' and len(text) > _LONGEST_WORD:
        return None
    if text.count("[") + text.count("{") > _MOST_COLLECTIONS:  # the parser nests by recursion
        return None
    try:
        document: object = json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        return text if text[:1] not in ("{", "[") else None
    return document


def _inflated(body: bytes) -> bytes:
    """Return the body, inflated where it is gzip or zlib, though nobody accepted that; at most a megabyte."""
    if body[:2] in (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        try:
            return zlib.decompressobj(47).decompress(body, _LONGEST_BODY)  # 47: either, as its head says
        except zlib.error:
            return body
    return body


def _decoded(body: bytes) -> str:
    for bom, encoding in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(encoding, "replace")
    encoding = json.detect_encoding(body)
    try:
        return str(body, encoding)
    except UnicodeDecodeError:
        return body.decode("latin-1")
