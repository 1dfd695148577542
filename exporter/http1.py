"""Reading HTTP/1.1 answers without I/O: bytes in, an answer out. The parser is llhttp, by httptools."""

import httptools

from exporter.answer import Reason

_MAX_HEADERS = 32 * 1024


class ResponseReader:
    """Answers on one connection, one at a time: `expect()`, then `feed()` until `done` or `fault`.

    `fault` is empty or says what is wrong, `reason` under which name; `odd` if a more lenient parser might
    still make sense of it.
    """

    __slots__ = (
        "_framed", "_in_body", "_limit", "_parser", "_size", "_waiting",
        "body", "content_type", "done", "fault", "keep_alive", "odd", "reason", "received", "status",
    )  # fmt: skip

    def __init__(self, max_body: int) -> None:
        self._limit = max_body
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.expect()

    def expect(self) -> None:
        """Make ready for the next answer."""
        self._waiting = True
        self._framed = self._in_body = self.done = self.keep_alive = self.odd = False
        self.received = self._size = self.status = 0
        self.content_type = self.body = b""
        self.fault = ""
        self.reason = Reason.bad_payload

    def feed(self, data: bytes | memoryview) -> None:
        if self._parser is None:
            return
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.done = True
        except httptools.HttpParserError as error:
            # What follows a whole answer is not part of it.
            self.keep_alive = False
            if not self.done:
                self.odd = not self._in_body and not self.fault
                self.fault = self.fault or f"no HTTP answer: {error}"
        if self.done:
            return
        if not self._in_body and self.received > _MAX_HEADERS:
            self.fault = f"the headers are larger than {_MAX_HEADERS} bytes"
        elif self.received > _MAX_HEADERS + 8 * self._limit:  # a body in chunks is larger than its content
            self.fault = "the answer has no end"

    def feed_eof(self) -> None:
        """The bot closed: the end of an answer without a length, else too early."""
        if self.done or self.fault:
            return
        if self._in_body and not self._framed:
            self.done = True
        else:
            self.reason = Reason.disconnected
            self.fault = "closed in the middle of the answer" if self.received else "closed without an answer"

    def close(self) -> None:
        """Break the cycle between reader and parser, so that nothing waits for the garbage collector."""
        self._parser = None

    # What httptools calls. After a whole answer nothing counts but that there is more: it is not asked for.

    def on_message_begin(self) -> None:
        if not self._waiting:
            self.keep_alive = False
        self._waiting = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.done:
            return
        length = len(name)
        if length == 12 and name.lower() == b"content-type":
            self.content_type = value
        elif (length == 14 and name.lower() == b"content-length") or (
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
        if self._size > self._limit:
            self.fault = f"the body is larger than {self._limit} bytes"
        else:
            self.body = self.body + chunk if self.body else chunk

    def on_message_complete(self) -> None:
        if self.done:
            return
        if self.status < 200:  # 100 Continue and its like come before the answer, and count for its limits
            self._waiting, self._in_body = True, False
        elif not self.fault and self._parser is not None:
            self.done = True
            self.keep_alive = self._parser.should_keep_alive()
