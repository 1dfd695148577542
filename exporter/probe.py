"""One bot in, one ProbeResult out, over aiohttp. A bot that is down is a value here, never an exception."""

import errno
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from exporter.answer import MAX_BODY, UNREACHED, EndpointResult, ProbeResult, Reason, judge
from exporter.targets import Target

__all__ = ["EndpointResult", "OwnFaultError", "ProbeResult", "Reason", "Steps", "open_session", "probe"]

_HEADERS = {
    "User-Agent": "bot-exporter",
    "Accept": "application/json, */*;q=0.1",
    "Accept-Encoding": "identity",
}
_FAULTS_OF_A_BOT = (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError, ValueError)


class OwnFaultError(Exception):
    """The probe could not be made, as for want of file descriptors: no news of the bot."""


@dataclass(slots=True)
class Steps:
    """What happened in a probe, each with its time in seconds since the start."""

    started: float = field(default_factory=time.perf_counter)
    lines: list[tuple[float, str]] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.lines.append((time.perf_counter() - self.started, text))


@dataclass(slots=True)
class _Progress:
    """How far one request came: the same timeout means another thing at each stage."""

    stage: Reason = Reason.connect_timeout
    steps: Steps | None = None

    def reach(self, stage: Reason, text: str) -> None:
        self.stage = stage
        if self.steps is not None:
            self.steps.add(text)


def open_session(
    *, tls: ssl.SSLContext | None = None, keep_alive: float = 0, dns_ttl: float = 30
) -> aiohttp.ClientSession:
    """A session for probing: no pool limit, no cookies, no decompression, DNS cached for `dns_ttl` seconds.

    A connection idle for `keep_alive` seconds is closed; by default it serves one probe only.
    """
    connector = aiohttp.TCPConnector(
        limit=0,  # the scheduler limits; waiting for a pool would count as the bot's latency
        keepalive_timeout=keep_alive or 1,
        ttl_dns_cache=int(dns_ttl),
        ssl=tls or True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers=_HEADERS,
        trace_configs=[_trace_config()],
    )


async def probe(
    session: aiohttp.ClientSession,
    target: Target,
    *,
    timeout: float,
    now: Callable[[], float] = time.time,
    max_body: int = MAX_BODY,
    keep_alive: bool = False,
    steps: Steps | None = None,
) -> ProbeResult:
    """Ask `/health`, then `/mesh` over the same connection; each has `timeout` seconds to answer.

    Raises OwnFaultError where the fault is ours, and nothing else.
    """
    at = now()
    health_url, mesh_url = URL(target.health_url, encoded=True), URL(target.mesh_url, encoded=True)
    same_address = health_url.origin() == mesh_url.origin()
    limits = aiohttp.ClientTimeout(total=timeout, ceil_threshold=1e9)  # else rounded up to whole seconds
    close = not (same_address or keep_alive)
    health = await _ask(session, health_url, limits, max_body, close, steps)
    if same_address and health.reason in UNREACHED:
        mesh = health._replace(detail=f"as /health: {health.detail}")
    else:
        mesh = await _ask(session, mesh_url, limits, max_body, not keep_alive, steps)
    return ProbeResult(target.bot, at, health, mesh)


async def _ask(
    session: aiohttp.ClientSession,
    url: URL,
    limits: aiohttp.ClientTimeout,
    max_body: int,
    close: bool,
    steps: Steps | None,
) -> EndpointResult:
    progress = _Progress(steps=steps)
    if steps is not None:
        steps.add(f"GET {url}")
    headers = {"Connection": "close"} if close else None
    started = time.perf_counter()
    try:
        async with session.get(
            url, allow_redirects=False, timeout=limits, headers=headers, trace_request_ctx=progress
        ) as response:
            progress.reach(Reason.read_timeout, f"answer {response.status} {response.reason or ''}".rstrip())
            body = await _read(response, max_body)
            seconds = time.perf_counter() - started
            content_type = response.headers.get("Content-Type", "")
            result = _sized(response.status, content_type, body, seconds, max_body)
    except (
        TimeoutError,
        aiohttp.ClientError,
        http_exceptions.HttpProcessingError,
        OSError,
        ValueError,
    ) as error:
        reason, detail = classify(error, progress.stage)
        result = EndpointResult(False, reason, None, time.perf_counter() - started, None, detail)
    if steps is not None:
        steps.add("ok" if result.ok else f"failed: {result.reason}: {result.detail}")
    return result


def _sized(status: int, content_type: str, body: bytes, seconds: float, max_body: int) -> EndpointResult:
    if len(body) > max_body:
        detail = f"the body is larger than {max_body} bytes"
        return EndpointResult(False, Reason.bad_payload, status, seconds, None, detail)
    return judge(status, content_type, body, seconds)


async def _read(response: aiohttp.ClientResponse, max_body: int) -> bytes:
    """The body, cut one byte past the limit; a connection with an unread rest is not used again."""
    body = bytearray()
    while len(body) <= max_body and (chunk := await response.content.read(max_body + 1 - len(body))):
        body += chunk
    if len(body) > max_body:
        response.close()
    return bytes(body)


def classify(error: Exception, stage: Reason) -> tuple[Reason, str]:
    """The reason behind an exception of aiohttp, and words for a person; `stage` is what a timeout means."""
    if isinstance(error, TimeoutError):
        return stage, {
            Reason.dns: "no answer from DNS in time",
            Reason.connect_timeout: "no connection in time",
        }.get(stage, "no complete answer in time")
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return Reason.dns, _words(error)
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError | ssl.SSLError):
        return Reason.tls, _words(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.errno == errno.ETIMEDOUT:
            return Reason.connect_timeout, _words(error)
        if error.errno in (errno.ECONNRESET, errno.EPIPE):
            return Reason.disconnected, _words(error)
        return Reason.connect_refused, _words(error)
    if isinstance(error, aiohttp.ClientPayloadError):
        # These two are what aiohttp's parser raises when the stream ends early (_http_parser.pyx: feed_eof).
        early = (http_exceptions.TransferEncodingError, http_exceptions.ContentLengthError)
        broken = isinstance(error.__cause__, http_exceptions.HttpProcessingError)
        broken = broken and not isinstance(error.__cause__, early)
        return (Reason.bad_payload if broken else Reason.disconnected), _words(error)
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):
        return Reason.dns, f"no such host name: {_words(error)}"
    if isinstance(error, aiohttp.ClientResponseError | http_exceptions.HttpProcessingError | ValueError):
        return Reason.bad_payload, f"no HTTP answer: {_words(error)}"
    return Reason.disconnected, _words(error)


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror:
        error = OSError(error.os_error.strerror)
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _trace_config() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()
    config.on_dns_resolvehost_start.append(_on_dns_start)
    config.on_dns_resolvehost_end.append(_on_dns_end)
    config.on_connection_create_end.append(_on_connected)
    config.on_connection_reuseconn.append(_on_reused)
    return config


async def _on_dns_start(_: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reach(Reason.dns, f"resolve {getattr(params, 'host', '')}")


async def _on_dns_end(_: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reach(Reason.connect_timeout, f"resolved {getattr(params, 'host', '')}")


async def _on_connected(_: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reach(Reason.read_timeout, "connected")


async def _on_reused(_: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reach(Reason.read_timeout, "same connection")
