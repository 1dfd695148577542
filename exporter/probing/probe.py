"""One bot in, one ProbeResult out, by the event loop. A bot that is down is a value, never an exception."""

import asyncio
import errno
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.masking import masked_url
from exporter.probing.connection import Connection
from exporter.probing.http1 import Endpoint, ResponseReader, compose_request
from exporter.probing.resolver import OWN_FAULT, Address, Resolver, literal
from exporter.probing.sockets import OWN_FAULTS
from exporter.result import (
    MAX_BODY,
    NOT_ASKED,
    TIMED_OUT,
    UNREACHED,
    EndpointResult,
    ProbeResult,
    Reason,
    judge,
)
from exporter.targets import Target

__all__ = [
    "EndpointResult", "OwnFaultError", "ProbeResult", "Reason", "Session", "Steps", "open_session", "probe",
]  # fmt: skip


class OwnFaultError(Exception):
    """The probe could not be made, as for want of file descriptors: no news of the bot."""


class _Failure(Exception):  # noqa: N818 - of the bot
    """A request without an answer; never leaves this module."""

    def __init__(self, reason: Reason, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.status = reason, detail, status


@dataclass(slots=True)
class Steps:
    """The steps of a probe, each with its time in seconds since the start."""

    started: float = field(default_factory=time.perf_counter)
    lines: list[tuple[float, str]] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Record a step that happens now."""
        self.lines.append((time.perf_counter() - self.started, text))


def tls_context(ca_file: Path | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """Make a client's context; OSError if the CA file is no good."""
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Session:
    """The resolver, the TLS context and the kept connections that probes share. A context manager."""

    def __init__(self, tls: ssl.SSLContext | None, keep_alive: float, resolver: Resolver) -> None:
        self.resolver = resolver
        self._tls, self._keep_alive = tls, keep_alive
        self._idle: dict[tuple[str, str], tuple[Connection, float]] = {}  # the oldest first
        self._open: set[Connection] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._open):
            self.drop(connection)
        await self.resolver.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def take(self, endpoint: Endpoint) -> Connection | None:
        """Return a kept connection that is still good, no longer kept here."""
        connection, _ = self._idle.pop((endpoint.scheme, endpoint.netloc), (None, 0.0))
        if connection is not None and connection.lost:
            self.drop(connection)
            return None
        return connection

    def put(self, endpoint: Endpoint, connection: Connection) -> None:
        """Keep a connection for the next probe, and close those nobody came back for."""
        now = time.monotonic()
        key = endpoint.scheme, endpoint.netloc
        if (other := self.take(endpoint)) is not None:
            self.drop(other)
        self._idle[key] = connection, now
        while (oldest := next(iter(self._idle))) != key and self._idle[oldest][1] < now - self._keep_alive:
            self.drop(self._idle.pop(oldest)[0])

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        self._open.discard(connection)
        connection.close()

    async def connect(self, endpoint: Endpoint, address: Address, max_body: int) -> Connection:
        """Connect to one address; OSError as the loop raises it."""
        if endpoint.scheme == "https" and self._tls is None:
            self._tls = await asyncio.to_thread(tls_context)
        connection = Connection(max_body)
        host = endpoint.host_and_port[0].strip("[]").rstrip(".")
        secure = endpoint.scheme == "https"
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            str(address[1][0]),
            int(address[1][1]),
            ssl=self._tls if secure else None,
            server_hostname=host if secure else None,
        )
        self._open.add(connection)
        return connection


def open_session(
    *, tls: ssl.SSLContext | None = None, keep_alive: float = 0, resolver: Resolver | None = None
) -> Session:
    """Open a session for probing. A connection that is kept is closed `keep_alive` seconds later."""
    return Session(tls, keep_alive, resolver or Resolver())


async def probe(
    session: Session,
    target: Target,
    *,
    timeout: float,
    now: Callable[[], float] = time.time,
    max_body: int = MAX_BODY,
    keep_alive: bool = False,
    steps: Steps | None = None,
) -> ProbeResult:
    """Request `/health`, then `/mesh`, if there is one, over the same connection.

    Each has `timeout` seconds to answer.

    Raises OwnFaultError where the fault is ours, and nothing else.
    """
    at = now()
    health_endpoint = Endpoint.of(target, mesh=False)
    mesh_endpoint = Endpoint.of(target, mesh=True) if target.mesh_url is not None else None
    shared = mesh_endpoint is not None and health_endpoint[:2] == mesh_endpoint[:2]
    request = _Request(session, target, timeout, max_body, steps)
    try:
        health = await request.make(health_endpoint, last=not (shared or keep_alive))
        if mesh_endpoint is None:
            mesh = NOT_ASKED
        elif shared and health.reason in UNREACHED:
            mesh = health._replace(detail=f"as /health: {health.detail}")
        else:
            mesh = await request.make(mesh_endpoint, last=not keep_alive)
    finally:
        request.end(keep=keep_alive)
    return ProbeResult(target.bot, at, health, mesh)


class _Request:
    """The requests of one probe, one after the other. `_stage` is what a timeout would mean."""

    def __init__(
        self, session: Session, target: Target, timeout: float, max_body: int, steps: Steps | None
    ) -> None:
        self._session, self._target, self._timeout = session, target, timeout
        self._max_body, self._steps = max_body, steps
        self._connection: Connection | None = None
        self._connected_to: Endpoint | None = None
        self._stage = Reason.connect_timeout

    async def make(self, endpoint: Endpoint, *, last: bool) -> EndpointResult:
        """Request an endpoint, and judge the answer."""
        request = compose_request(endpoint.netloc, endpoint.path, close=last)
        self._step("GET " + masked_url(f"{endpoint.scheme}://{endpoint.netloc}{endpoint.path}"))
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                reader = await self._answer(endpoint, request)
        except TimeoutError:
            self._drop()
            result = self._timed_out(endpoint, time.perf_counter() - started)
        except _Failure as failure:
            self._drop()
            seconds = time.perf_counter() - started
            result = EndpointResult(False, failure.reason, failure.status, seconds, None, failure.detail)
        else:
            self._step(f"answer {reader.status}")
            seconds = time.perf_counter() - started
            result = judge(reader.status, reader.body, seconds, self._target.expects_json)
            if not reader.keep_alive:
                self._drop()
        self._step("ok" if result.ok else f"failed: {result.reason}: {result.detail}")
        return result

    def end(self, *, keep: bool) -> None:
        """Keep the connection for the next probe, or close it."""
        if keep and self._connection is not None and self._connected_to is not None:
            self._session.put(self._connected_to, self._connection)
            self._connection = None
        self._drop()

    async def _answer(self, endpoint: Endpoint, request: bytes) -> ResponseReader:
        """Send the request over a connection used before, if that still works, else over a new one."""
        if self._connected_to is None or self._connected_to[:2] != endpoint[:2]:
            self._drop()
            self._connection, self._connected_to = self._session.take(endpoint), endpoint
        if self._connection is not None:
            self._step("same connection")
            self._stage = Reason.read_timeout
            reader = await self._connection.request(request)
            if not reader.unanswered:
                return _whole(reader)
            self._drop()
        self._connection = await self._connect(endpoint)
        self._connected_to = endpoint
        self._step("connected")
        self._stage = Reason.read_timeout
        return _whole(await self._connection.request(request))

    async def _connect(self, endpoint: Endpoint) -> Connection:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._timeout
        self._stage = Reason.dns
        addresses = await self._addresses(*endpoint.host_and_port)
        self._stage = Reason.connect_timeout
        for index, address in enumerate(addresses):
            left = len(addresses) - index
            try:
                # Each has its share of the time that is left; the last has all of it.
                async with asyncio.timeout((ends - loop.time()) / left if left > 1 else None):
                    return await self._session.connect(endpoint, address, self._max_body)
            except TimeoutError as error:
                failure = _Failure(Reason.connect_timeout, error.strerror or TIMED_OUT[self._stage])
            except OSError as error:
                failure = _unconnected(error)
        raise failure

    async def _addresses(self, host: str, port: int) -> tuple[Address, ...]:
        if (address := literal(host, port)) is not None:
            return (address,)
        self._step(f"resolve {host}")
        addresses, fault = await self._session.resolver.lookup(host, port)
        if addresses:
            self._step(f"resolved {host}")
            return addresses
        raise _unresolved(host, fault)

    def _timed_out(self, endpoint: Endpoint, seconds: float) -> EndpointResult:
        if self._stage is not Reason.dns:
            return EndpointResult(False, self._stage, None, seconds, None, TIMED_OUT[self._stage])
        host, port = endpoint.host_and_port
        failure = _unresolved(host, self._session.resolver.fault_of_silence(host, port))
        return EndpointResult(False, failure.reason, None, seconds, None, failure.detail)

    def _drop(self) -> None:
        if self._connection is not None:
            self._session.drop(self._connection)
        self._connection = self._connected_to = None

    def _step(self, text: str) -> None:
        if self._steps is not None:
            self._steps.add(text)


def _whole(reader: ResponseReader) -> ResponseReader:
    """Return the reader of a whole answer; raises _Failure with what is wrong with another."""
    if reader.fault:
        raise _Failure(reader.reason, reader.fault, reader.status or None)
    return reader


def _unresolved(host: str, fault: str) -> _Failure:
    """Return what a name without addresses says of the bot; raises OwnFaultError where it says nothing."""
    if fault == OWN_FAULT:
        raise OwnFaultError(f"no name server answers, asked for {host}")
    return _Failure(Reason.dns, fault)


def _unconnected(error: OSError) -> _Failure:
    """Return what a failure to connect says of the bot; raises OwnFaultError where it says nothing."""
    if error.errno in OWN_FAULTS and not isinstance(error, ssl.SSLError):
        raise OwnFaultError(os.strerror(error.errno)) from None
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return _Failure(Reason.tls, (str(error) or type(error).__name__).splitlines()[0][:200])
    detail = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    if error.errno == errno.ETIMEDOUT:
        return _Failure(Reason.connect_timeout, detail)
    # Once TCP is up these mean that the bot hung up in the middle of the handshake.
    hung_up = isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError)
    return _Failure(Reason.disconnected if hung_up else Reason.connect_refused, detail)
