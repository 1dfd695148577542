"""One probe over sockets and callbacks: connect, GET /health, then on the same connection GET /mesh."""

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from time import perf_counter, time
from typing import Protocol

from exporter.probing.http1 import Endpoint, ResponseReader, compose_request
from exporter.probing.poller import Poller
from exporter.probing.prober import Done
from exporter.probing.resolver import OWN_FAULT, Address, Resolver, literal
from exporter.probing.sockets import OWN_FAULTS, IdleConnections, since_ack, since_data
from exporter.result import NOT_ASKED, TIMED_OUT, UNREACHED, EndpointResult, ProbeResult, Reason, judge
from exporter.settings import Settings
from exporter.targets import NO_MESH, Target

_SLOW = 0.02  # seconds; below this it is not worth asking the kernel how much of it was our own doing


class ProbeContext(Protocol):
    """The parts of a prober that all its exchanges share."""

    settings: Settings
    resolver: Resolver
    poller: Poller
    idle: IdleConnections
    view: memoryview  # every read lands here and is parsed at once

    def call_later(
        self, seconds: float, function: Callable[[tuple[Address, ...]], None], addresses: tuple[Address, ...]
    ) -> None:
        """Call a function with the addresses some time from now."""

    def watch(self, exchange: "Exchange") -> None:
        """Give the exchange its full time from now on."""

    def unwatch(self, exchange: "Exchange") -> None:
        """Forget the exchange's deadline."""


class Exchange:
    """A probe of one bot, which ends in exactly one call of `done` unless it is abandoned.

    `_stage` is what a timeout would mean.
    """

    __slots__ = (
        "_address", "_addresses", "_at", "_context", "_done", "_health", "_lag", "_reader", "_request",
        "_reused", "_sock", "_stage", "_started", "_target",
    )  # fmt: skip

    def __init__(self, context: ProbeContext, target: Target, done: Done) -> None:
        self._context, self._target, self._done = context, target, done
        self._at = time()
        self._health: EndpointResult | None = None
        self._sock: socket.socket | None = None
        self._reader: ResponseReader | None = None
        self._address = ""  # host and port of the connection
        self._addresses: tuple[Address, ...] = ()  # of the host, still to be tried
        self._reused = False

    def request_next(self) -> None:
        """Request /health, or /mesh once the result of /health is there."""
        target, context = self._target, self._context
        mesh = self._health is not None
        netloc, path = target.address, target.mesh_path if mesh else target.health_path
        if not path.startswith("/"):
            _, netloc, path = Endpoint.of(target, mesh=mesh)
        last = not context.settings.keep_alive and (mesh or not target.mesh_path.startswith("/"))
        self._request = compose_request(netloc, path, close=last)
        self._started, self._lag = perf_counter(), 0.0
        context.watch(self)
        if self._sock is not None and self._address == netloc:
            self._reused = True
            self._send()
            return
        self._close()
        self._address = netloc
        if (idle := context.idle.take(netloc)) is not None:
            self._sock, self._reused = idle, True
            self._send()
        else:
            self._resolve()

    def abandon(self) -> None:
        """Close the connection without calling `done`."""
        self._close()

    def time_out(self) -> None:
        """End for want of time, unless the kernel already holds an answer: our loop may be slow."""
        request = self._request
        if self._stage is Reason.read_timeout:
            self._readable()
        elif self._sock is not None and _is_connected(self._sock):
            self._context.watch(self)
            self._connected()
            return
        elif self._stage is Reason.dns:
            fault = self._context.resolver.fault_of_silence(*self._host_and_port())
            self._resolved(request, (), fault)
            return
        if self._request is request:
            self._fail(self._stage, TIMED_OUT[self._stage])

    # Connecting.

    def _resolve(self) -> None:
        self._stage, self._reused = Reason.dns, False
        host, port = self._host_and_port()
        if (address := literal(host, port)) is not None:
            self._addresses = (address,)
            self._connect()
        else:
            self._context.resolver.resolve(host, port, partial(self._resolved, self._request))

    def _resolved(self, request: bytes, addresses: tuple[Address, ...], fault: str) -> None:
        if self._request is not request:
            return  # too late: it has timed out
        self._addresses = addresses
        if addresses:
            self._connect()
        elif fault == OWN_FAULT:
            self._close()
            self._end(None)
        else:
            self._fail(Reason.dns, fault)

    def _connect(self) -> None:
        if len(self._addresses) > 1:  # each has its share of the time that is left
            left = self._started + self._context.settings.timeout - perf_counter()
            self._context.call_later(max(0.0, left) / len(self._addresses), self._try_next, self._addresses)
        (family, address), self._addresses = self._addresses[0], self._addresses[1:]
        self._stage = Reason.connect_timeout
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._connect_failed(error.errno or 0)
            return
        code = self._sock.connect_ex(address)
        if code in (0, errno.EINPROGRESS):
            self._connected()  # a neighbour's connection is up by now, though the kernel says in progress
        else:
            self._connect_failed(code)

    def _try_next(self, addresses: tuple[Address, ...]) -> None:
        """Give up the first of these, if the connection to it is not up by now."""
        if self._stage is Reason.connect_timeout and self._addresses == addresses[1:] and self._request:
            self._connect_failed(errno.ETIMEDOUT)

    def _connected(self) -> None:
        """Send the request, which is also the way to know whether the connection is up."""
        if (sock := self._sock) is None:
            return
        lag = since_ack(sock) if perf_counter() - self._started > _SLOW else 0.0
        try:
            sock.send(self._request)
        except BlockingIOError:
            self._context.poller.watch(sock, self._connected, connecting=True)
        except OSError as error:
            self._connect_failed(error.errno or 0)
        else:
            self._lag = lag
            self._await_response(sock)

    def _connect_failed(self, code: int) -> None:
        self._close()
        if code in OWN_FAULTS:
            self._end(None)
        elif self._addresses:
            self._connect()
        elif code == errno.ETIMEDOUT:
            self._fail(Reason.connect_timeout, os.strerror(code))
        else:
            self._fail(Reason.connect_refused, os.strerror(code))

    # Sending and reading.

    def _send(self) -> None:
        if (sock := self._sock) is None:
            return
        self._await_response(sock)
        try:
            sock.send(self._request)  # a few hundred bytes fit into the buffer of an idle connection
        except OSError as error:
            self._disconnected(error.strerror or str(error))

    def _await_response(self, sock: socket.socket) -> None:
        self._stage = Reason.read_timeout
        if self._reader is None:
            self._reader = ResponseReader(self._context.settings.max_body)
            self._context.poller.watch(sock, self._readable)
        else:
            self._reader.expect()

    def _readable(self) -> None:
        sock, reader, view = self._sock, self._reader, self._context.view
        if sock is None or reader is None:
            return
        # Until nothing is left, as epoll reports an edge once; a bot that sends without end meets the limits.
        while not (reader.done or reader.fault):
            try:
                count = sock.recv_into(view)
            except BlockingIOError:
                return
            except OSError as error:
                self._disconnected(error.strerror or str(error))
                return
            if count:
                reader.feed(view[:count])
            else:
                reader.feed_eof()
        if reader.done:
            self._complete(sock, reader)
        elif reader.reason is Reason.disconnected:
            self._disconnected(reader.fault)
        else:
            self._fail(reader.reason, reader.fault, reader.status or None)

    def _complete(self, sock: socket.socket, reader: ResponseReader) -> None:
        seconds = perf_counter() - self._started
        if seconds > _SLOW:
            seconds = max(0.0, seconds - self._lag - since_data(sock))
        if self._reused and reader.unanswered:
            self._disconnected("")
            return
        result = judge(reader.status, reader.body, seconds, self._target.expects_json)
        if not reader.keep_alive:
            self._close()
        self._next(result)

    def _disconnected(self, detail: str) -> None:
        """Fail, unless the connection was used before: the bot may have given it up, so try a new one."""
        reader = self._reader
        if self._reused and reader is not None and reader.unanswered:
            self._close()
            self._resolve()
        else:
            self._fail(Reason.disconnected, detail)

    # Ending.

    def _fail(self, reason: Reason, detail: str, status: int | None = None) -> None:
        self._close()
        self._next(EndpointResult(False, reason, status, perf_counter() - self._started, None, detail))

    def _next(self, result: EndpointResult) -> None:
        health = self._health
        if health is not None:
            self._end(ProbeResult(self._target.bot, self._at, health, result))
        elif self._target.mesh_path == NO_MESH:
            self._end(ProbeResult(self._target.bot, self._at, result, NOT_ASKED))
        elif result.reason in UNREACHED and self._target.mesh_path.startswith("/"):
            mesh = result._replace(detail=f"as /health: {result.detail}")
            self._end(ProbeResult(self._target.bot, self._at, result, mesh))
        else:
            self._health = result
            self.request_next()

    def _end(self, result: ProbeResult | None) -> None:
        if self._sock is not None and self._context.settings.keep_alive:
            self._context.poller.release(self._sock)
            self._context.idle.put(self._address, self._sock, perf_counter())
            self._sock = None
        self._close()
        self._context.unwatch(self)
        self._request = b""
        self._done(result)

    def _host_and_port(self) -> tuple[str, int]:
        return Endpoint("http", self._address, "").host_and_port

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._sock is not None:
            self._context.poller.forget(self._sock)
            self._sock.close()
            self._sock = None


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
