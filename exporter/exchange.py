"""One probe over sockets and callbacks: connect, ask for /health, then on the same connection for /mesh."""

import errno
import os
import socket
from functools import partial
from time import perf_counter, time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.answer import UNREACHED, EndpointResult, ProbeResult, Reason, judge
from exporter.http1 import ResponseReader
from exporter.probers import Done
from exporter.resolver import Address, literal
from exporter.sockets import OWN_FAULTS, since_ack, since_data
from exporter.targets import Target

if TYPE_CHECKING:
    from exporter.fast import FastProber

_HEADERS = "User-Agent: bot-exporter\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
_SLOW = 0.02  # below this it is not worth asking the kernel how much of it was our own doing
_TIMED_OUT = {
    Reason.dns: "no answer from DNS in time",
    Reason.connect_timeout: "no connection in time",
    Reason.read_timeout: "no complete answer in time",
}


class Exchange:
    """Ends in exactly one call of `done`, unless it is abandoned. `_stage` is what a timeout would mean."""

    __slots__ = (
        "_address", "_addresses", "_at", "_done", "_health", "_lag", "_own", "_reader", "_request", "_reused",
        "_sock", "_stage", "_started", "_target",
    )  # fmt: skip

    def __init__(self, own: "FastProber", target: Target, done: Done) -> None:
        self._own, self._target, self._done = own, target, done
        self._at = time()
        self._health: EndpointResult | None = None
        self._sock: socket.socket | None = None
        self._reader: ResponseReader | None = None
        self._address = ""  # host and port of the connection
        self._addresses: tuple[Address, ...] = ()  # of the host, still to be tried
        self._reused = False

    def ask(self) -> None:
        """Ask for the endpoint whose turn it is."""
        target, own = self._target, self._own
        mesh = self._health is not None
        netloc, path = target.address, target.mesh_path if mesh else target.health_path
        if not path.startswith("/"):
            url = urlsplit(path)
            netloc, path = url.netloc, (url.path or "/") + (f"?{url.query}" if url.query else "")
        last = not own.settings.keep_alive and (mesh or not target.mesh_path.startswith("/"))
        connection = "Connection: close\r\n" if last else ""
        self._request = f"GET {path} HTTP/1.1\r\nHost: {netloc}\r\n{_HEADERS}{connection}\r\n".encode("ascii")
        self._started, self._lag = perf_counter(), 0.0
        own.watch(self)
        if self._sock is not None and self._address == netloc:
            self._reused = True
            self._send()
            return
        self._close()
        self._address = netloc
        if (kept := own.idle.take(netloc)) is not None:
            self._sock, self._reused = kept, True
            self._send()
        else:
            self._find()

    def abandon(self) -> None:
        self._close()

    def time_out(self) -> None:
        """Time is up by the loop's clock; what the kernel holds already still counts: we may be slow."""
        asked = self._request
        if self._stage is Reason.read_timeout:
            self._readable()
        elif self._sock is not None and _is_connected(self._sock):
            self._own.watch(self)
            self._connected()
            return
        if self._request is asked:
            self._fail(self._stage, _TIMED_OUT[self._stage])

    # Connecting.

    def _find(self) -> None:
        self._stage, self._reused = Reason.dns, False
        host, port = _host_and_port(self._address)
        if (address := literal(host, port)) is not None:
            self._addresses = (address,)
            self._connect()
        else:
            self._own.resolver.resolve(host, port, partial(self._found, self._request))

    def _found(self, asked: bytes, addresses: tuple[Address, ...], fault: str) -> None:
        if self._request is not asked:
            return  # too late: it has timed out
        self._addresses = addresses
        if addresses:
            self._connect()
        else:
            self._fail(Reason.dns, fault)

    def _connect(self) -> None:
        (family, address), self._addresses = self._addresses[0], self._addresses[1:]
        self._stage = Reason.connect_timeout
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._refused(error.errno or 0)
            return
        code = self._sock.connect_ex(address)
        if code in (0, errno.EINPROGRESS):
            self._connected()  # a neighbour's connection is up by now, though the kernel says in progress
        else:
            self._refused(code)

    def _connected(self) -> None:
        """Perhaps: to send is the way to know, and needs no further question."""
        if (sock := self._sock) is None:
            return
        lag = since_ack(sock) if perf_counter() - self._started > _SLOW else 0.0
        try:
            sock.send(self._request)
        except BlockingIOError:
            self._own.poller.watch(sock, self._connected, connecting=True)
        except OSError as error:
            self._refused(error.errno or 0)
        else:
            self._lag = lag
            self._await_answer(sock)

    def _refused(self, code: int) -> None:
        self._close()
        if code in OWN_FAULTS:
            self._end(None)
        elif self._addresses:
            self._connect()
        elif code == errno.ETIMEDOUT:
            self._fail(Reason.connect_timeout, os.strerror(code))
        else:
            self._fail(Reason.connect_refused, os.strerror(code))

    # Asking and reading.

    def _send(self) -> None:
        if (sock := self._sock) is None:
            return
        self._await_answer(sock)
        try:
            sock.send(self._request)  # a few hundred bytes fit into the buffer of an idle connection
        except OSError as error:
            self._lost(error.strerror or str(error))

    def _await_answer(self, sock: socket.socket) -> None:
        self._stage = Reason.read_timeout
        if self._reader is None:
            self._reader = ResponseReader(self._own.settings.max_body)
            self._own.poller.watch(sock, self._readable)
        else:
            self._reader.expect()

    def _readable(self) -> None:
        sock, reader, view = self._sock, self._reader, self._own.view
        if sock is None or reader is None:
            return
        # Until there is nothing left, as an edge is told once; who sends without end ends at the limits.
        while not (reader.done or reader.fault):
            try:
                count = sock.recv_into(view)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(error.strerror or str(error))
                return
            if count:
                reader.feed(view[:count])
            else:
                reader.feed_eof()
        if reader.done:
            self._answered(sock, reader)
        elif reader.odd:
            self._hand_over()
        elif reader.reason is Reason.disconnected:
            self._lost(reader.fault)
        else:
            self._fail(reader.reason, reader.fault, reader.status or None)

    def _answered(self, sock: socket.socket, reader: ResponseReader) -> None:
        seconds = perf_counter() - self._started
        if seconds > _SLOW:
            seconds = max(0.0, seconds - self._lag - since_data(sock))
        result = judge(reader.status, reader.content_type.decode("latin-1"), reader.body, seconds)
        if not reader.keep_alive:
            self._close()
        self._next(result)

    def _lost(self, why: str) -> None:
        """The connection broke. One used before may have been closed by the bot since: try a new one."""
        if self._reused and self._reader is not None and self._reader.received == 0:
            self._close()
            self._find()
        else:
            self._fail(Reason.disconnected, why)

    def _hand_over(self) -> None:
        """To the prober that reads more leniently; it begins from the start."""
        self._close()
        self._own.unwatch(self)
        self._request = b""
        self._own.fall_back(self._target, self._done)

    # Ending.

    def _fail(self, reason: Reason, why: str, status: int | None = None) -> None:
        self._close()
        self._next(EndpointResult(False, reason, status, perf_counter() - self._started, None, why))

    def _next(self, result: EndpointResult) -> None:
        health = self._health
        if health is not None:
            self._end(ProbeResult(self._target.bot, self._at, health, result))
        elif result.reason in UNREACHED and self._target.mesh_path.startswith("/"):
            mesh = result._replace(detail=f"as /health: {result.detail}")
            self._end(ProbeResult(self._target.bot, self._at, result, mesh))
        else:
            self._health = result
            self.ask()

    def _end(self, result: ProbeResult | None) -> None:
        if self._sock is not None and self._own.settings.keep_alive:
            self._own.poller.release(self._sock)
            self._own.idle.put(self._address, self._sock, perf_counter())
            self._sock = None
        self._close()
        self._own.unwatch(self)
        self._request = b""
        self._done(result)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._sock is not None:
            self._own.poller.forget(self._sock)
            self._sock.close()
            self._sock = None


def _host_and_port(netloc: str) -> tuple[str, int]:
    host, colon, port = netloc.rpartition(":")
    return (host, int(port)) if colon and not port.endswith("]") else (netloc, 80)


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
