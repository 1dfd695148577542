"""What a bot's answer means. Pure: status, content type and body in, a verdict out.

Named tuples, as a frozen dataclass takes several times as long to make, and a probe makes six.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import orjson

MAX_BODY = 64 * 1024
_LONGEST_FACT = 128
_WEB_PAGES = ("text/html", "application/xhtml+xml")


class Reason(StrEnum):
    """Why an endpoint failed; the values of the label `reason`."""

    dns = "dns"
    connect_refused = "connect_refused"
    connect_timeout = "connect_timeout"
    tls = "tls"
    read_timeout = "read_timeout"
    http_status = "http_status"
    bad_payload = "bad_payload"
    disconnected = "disconnected"
    not_ok = "not_ok"


# With these there was no connection, so another path at the same address has nothing to add.
UNREACHED = frozenset({Reason.dns, Reason.connect_refused, Reason.connect_timeout, Reason.tls})


class EndpointResult(NamedTuple):
    """One endpoint's answer; `seconds` runs from connecting to the end of the body, or to the failure."""

    ok: bool
    reason: Reason | None
    status: int | None
    seconds: float
    payload: Mapping[str, object] | None
    detail: str = ""


class Facts(NamedTuple):
    """What a bot tells of itself; None where it does not, or where what it tells makes no sense."""

    boot_id: str | None = None
    started_at: str | None = None
    version: str | None = None
    config_sha: str | None = None
    context_usage: float | None = None
    requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None

    @classmethod
    def read(cls, payload: Mapping[str, object] | None) -> "Facts":
        if not payload:
            return _NO_FACTS
        usage = payload.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        context = _count(payload, "context_usage")
        return cls(
            boot_id=_text(payload, "boot_id"),
            started_at=_text(payload, "started_at"),
            version=_text(payload, "version"),
            config_sha=_text(payload, "config_sha"),
            context_usage=context if context is not None and context <= 1 else None,
            requests=_count(counts, "requests"),
            input_tokens=_count(counts, "input_tokens"),
            output_tokens=_count(counts, "output_tokens"),
        )


_NO_FACTS = Facts()


class ProbeResult(NamedTuple):
    """One probe of one bot; `at` is unix seconds."""

    bot: str
    at: float
    health: EndpointResult
    mesh: EndpointResult

    @property
    def facts(self) -> Facts:
        return Facts.read(self.health.payload)

    @property
    def boot_id(self) -> str | None:
        return self.facts.boot_id

    @property
    def started_at(self) -> str | None:
        return self.facts.started_at

    @property
    def version(self) -> str | None:
        return self.facts.version

    @property
    def config_sha(self) -> str | None:
        return self.facts.config_sha

    @property
    def peers_up_ratio(self) -> float | None:
        """Share of the peers that are up; None where the mesh answer lists none."""
        peers = (self.mesh.payload or {}).get("peers")
        if not isinstance(peers, list):
            return None
        states = [peer["up"] for peer in peers if isinstance(peer, dict) and isinstance(peer.get("up"), bool)]
        return sum(states) / len(states) if states else None

    @property
    def event_loop_ratio(self) -> float | None:
        """Share of time in which the event loop is busy, as OpenClaw's /ready tells it on either path."""
        for endpoint in (self.mesh, self.health):
            told = endpoint.payload.get("eventLoop") if endpoint.payload else None
            if isinstance(told, dict):
                ratio = _count(told, "utilization")
                return ratio if ratio is not None and ratio <= 1 else None
        return None


def judge(status: int, content_type: str, body: bytes, seconds: float) -> EndpointResult:
    """200 is good, unless the body is a web page, broken JSON, or JSON that says it is not ok.

    OpenClaw answers every unknown path with its web page and a 200. A redirect is not followed: whoever
    moved a bot's endpoint says so in the target list.
    """
    payload, fault = _decode(content_type, body)
    if status != 200:
        detail = f"answered {status}"
        return EndpointResult(False, Reason.http_status, status, seconds, payload, detail)
    if fault:
        return EndpointResult(False, Reason.bad_payload, status, seconds, None, fault)
    if payload is not None and payload.get("ok") is False:
        detail = 'the answer says "ok": false'
        return EndpointResult(False, Reason.not_ok, status, seconds, payload, detail)
    return EndpointResult(True, None, status, seconds, payload)


@lru_cache(maxsize=256)  # all bots say the same few
def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _decode(content_type: str, body: bytes) -> tuple[Mapping[str, object] | None, str]:
    """The JSON object in the body, if any, and what is wrong with the body, if anything."""
    media_type = _media_type(content_type)
    start = body[:64].lstrip().lower()
    if media_type in _WEB_PAGES or start.startswith((b"<!doctype html", b"<html")):
        return None, "answered a web page"
    is_json = media_type == "application/json" or media_type.endswith("+json")
    if not is_json and not start.startswith(b"{"):
        return None, ""
    try:
        document = orjson.loads(body)
    except ValueError as error:
        return None, f"answered broken JSON: {type(error).__name__}" if is_json else ""
    return (document if isinstance(document, dict) else None), ""


def _text(payload: Mapping[str, object], field: str) -> str | None:
    """A short text or number as text; anything else is no fact."""
    value = payload.get(field)
    if type(value) is str and len(value) <= _LONGEST_FACT and value.isascii():
        return value
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    # Lone surrogates pass some JSON parsers but cannot be written as UTF-8.
    return str(value).encode("utf-8", "replace").decode()[:_LONGEST_FACT]


def _count(payload: Mapping[str, object], field: str) -> float | None:
    """A number from 0 on; anything else is no fact."""
    value = payload.get(field)
    if isinstance(value, int | float) and type(value) is not bool and 0 <= value < 1e15:
        return float(value)
    return None
