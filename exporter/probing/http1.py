"""HTTP/1.1 without I/O: a request as bytes; bytes in, a response out. The parser is llhttp, by httptools.

Every transport reads by this one, so that an answer has one verdict. A head that llhttp refuses, and that
browsers and curl read all the same, is written anew (`mend_head`) and parsed again.
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from exporter.result import Reason
from exporter.targets import Target

_HEADERS = "User-Agent: bot-exporter\r\nAccept: application/json, */*;q=0.1\r\nAccept-Encoding: identity\r\n"
MAX_HEADERS = 256 * 1024
"""The largest head of an answer, in bytes: nothing of it is kept."""

_REQUEST_TIMEOUT = 408
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(rb"\s*(?:HTTP(?:/[0-9](?:\.[0-9])?)?|ICY)[ \t]+([0-9]{3})(?![0-9])", re.IGNORECASE)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*(.*?)[ \t]*", re.DOTALL)
_LENGTH = re.compile(rb"\+?([0-9]+)(?:[ \t]*,[ \t]*\+?\1)*")


class Endpoint(NamedTuple):
    """What is requested, and where: `netloc` is HOST:PORT, or HOST for the scheme's own port."""

    scheme: str
    netloc: str
    path: str

    @classmethod
    def of(cls, target: Target, *, mesh: bool) -> "Endpoint":
        """Return the target's /health, or its /mesh, which may be elsewhere."""
        path = target.mesh_path if mesh else target.health_path
        if path.startswith("/"):
            return cls(target.scheme, target.address, path)
        url = urlsplit(path)
        return cls(url.scheme, url.netloc, (url.path or "/") + (f"?{url.query}" if url.query else ""))

    @property
    def host_and_port(self) -> tuple[str, int]:
        host, colon, port = self.netloc.rpartition(":")
        if colon and not port.endswith("]"):
            return host, int(port)
        return self.netloc, 443 if self.scheme == "https" else 80


def compose_request(netloc: str, path: str, *, close: bool) -> bytes:
    """Return a GET as it goes over the wire; `close` says that it is the connection's last."""
    connection = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: {netloc}\r\n{_HEADERS}{connection}\r\n".encode("ascii")


def mend_head(head: bytes) -> bytes | None:
    """Write a whole head anew as llhttp takes it; None where there is no status, or lengths contradict.

    Lines that are no field are left out; a length that is said twice counts once.
    """
    match = _STATUS_LINE.match(head)
    if match is None:
        return None
    lines = [b"HTTP/1.1 %s -" % match[1]]
    if b"HTTP/1.0" in head[: match.end()].upper():
        lines = [b"HTTP/1.0 %s -" % match[1]]
    length: bytes | None = None
    chunked = False
    for line in re.sub(rb"\r?\n[ \t]+", b" ", head[match.end() :]).split(b"\n")[1:]:
        field = _FIELD.fullmatch(line.rstrip(b"\r"))
        if field is None:
            continue
        name, value = field[1].lower(), bytes(octet for octet in field[2] if octet >= 32 or octet == 9)
        if name == b"content-length":
            number = _LENGTH.fullmatch(value)
            if number is None or length not in (None, number[1]):
                return None
            length = number[1]
        elif name == b"transfer-encoding":
            chunked = chunked or b"chunked" in value.lower()
        else:
            lines.append(name + b": " + value)
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    elif length is not None:
        lines.append(b"content-length: " + length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


class ResponseReader:
    """The responses of one connection, one at a time: `expect()`, then `feed()` until `done` or `fault`.

    `fault` is empty or says what is wrong, and `reason` is its label. `cut`: the body is longer than the
    limit, and what is there of it is its beginning.
    """

    __slots__ = (
        "_framed", "_head", "_in_body", "_limit", "_mended", "_parser", "_size", "_waiting",
        "body", "cut", "done", "fault", "keep_alive", "reason", "received", "status",
    )  # fmt: skip

    def __init__(self, max_body: int) -> None:
        self._limit = max_body
        self._parser = self._new_parser()
        self._mended = False
        self.expect()

    def expect(self) -> None:
        """Make ready for the next response."""
        self._waiting = True
        self._framed = self._in_body = self.done = self.keep_alive = self.cut = False
        self.received = self._size = self.status = 0
        self.body = self._head = b""
        self.fault = ""
        self.reason = Reason.bad_payload

    def feed(self, data: bytes | memoryview) -> None:
        """Parse what was received."""
        self.received += len(data)
        self._parse(data)
        if self.done:
            return
        if not self._in_body and self.received > MAX_HEADERS:
            self.fault = f"the headers are larger than {MAX_HEADERS} bytes"
        elif self.received > MAX_HEADERS + 8 * self._limit:  # a body in chunks is larger than its content
            self.fault = "the answer has no end"

    @property
    def unanswered(self) -> bool:
        """Return whether the request has no answer: nothing came, or a 408 for want of requests before it."""
        return not self.received or self.status == _REQUEST_TIMEOUT

    def feed_eof(self) -> None:
        """Note that the bot closed: the end of a response without a length, else too early."""
        if self.done or self.fault:
            return
        if self._in_body and not self._framed:
            self.done = True
        elif self._mended and not self._in_body and _STATUS_LINE.match(self._head) is None:
            self.fault = "no HTTP answer"
        else:
            self.reason = Reason.disconnected
            self.fault = "closed in the middle of the answer" if self.received else "closed without an answer"

    def close(self) -> None:
        """Break the cycle between reader and parser, so that nothing waits for the garbage collector."""
        self._parser = None

    def _new_parser(self) -> httptools.HttpResponseParser | None:
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)  # as of servers that pad sizes
        return parser

    def _parse(self, data: bytes | memoryview) -> None:
        if self._parser is None:
            return
        if self._mended and not self._in_body:
            self._parse_mended(data, "no end of its head")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.done = True
        except httptools.HttpParserError as error:
            if self.done:  # what follows a whole answer is not part of it
                self.keep_alive = False
            elif self._in_body or self.fault:
                self.fault = self.fault or f"no HTTP answer: {error}"
            else:
                self._parse_mended(data, str(error))
        else:
            if not self._in_body:
                self._head += bytes(data)

    def _parse_mended(self, data: bytes | memoryview, error: str) -> None:
        """Parse a head that llhttp refused, once all of it is there."""
        self._mended = True
        self._head += bytes(data)
        line = self._head.lstrip()[:16]
        if len(line) >= 13 and _STATUS_LINE.match(line) is None:
            self.fault = f"no HTTP answer: {error}"
        elif (end := _END_OF_HEAD.search(self._head)) is not None:
            head, rest = self._head[: end.start()], self._head[end.end() :]
            if (mended := mend_head(head)) is None:
                self.fault = f"no HTTP answer: {error}"
                return
            self._head, self._mended = b"", False
            self._parser = self._new_parser()
            self._waiting, self._framed = True, False
            self._parse(mended + rest)
            self.keep_alive = False  # of a server this odd

    # Callbacks of httptools. Of what follows a whole response only that it came counts: nobody requested it.

    def on_message_begin(self) -> None:
        if not self._waiting:
            self.keep_alive = False
        self._waiting = False

    def on_header(self, name: bytes, _: bytes) -> None:
        length = len(name)
        if (length == 14 and name.lower() == b"content-length") or (
            length == 17 and name.lower() == b"transfer-encoding"
        ):
            self._framed = True

    def on_headers_complete(self) -> None:
        if self._parser is not None and not self.done:
            self.status = self._parser.get_status_code()
            self._in_body = True

    def on_body(self, chunk: bytes) -> None:
        if self.done:
            return
        self._size += len(chunk)
        self.body = self.body + chunk if self.body else chunk
        if self._size > self._limit:
            self.body = self.body[: self._limit]
            self.cut = self.done = True

    def on_message_complete(self) -> None:
        if self.done:
            return
        if self.status < 200:  # 100 Continue and its like come before the answer, and count for its limits
            self._waiting, self._in_body, self._head = True, False, b""
        elif not self.fault and self._parser is not None:
            self.done = True
            self.keep_alive = self._parser.should_keep_alive()
