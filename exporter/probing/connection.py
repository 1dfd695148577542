"""A connection of the event loop that asks for one HTTP answer at a time."""

import asyncio
from typing import cast

from exporter.probing.http1 import ResponseReader


class Connection(asyncio.Protocol):
    """A connection, plain or TLS. `lost`: it was closed, or said something that nobody requested."""

    def __init__(self, max_body: int) -> None:
        self.reader = ResponseReader(max_body)
        self.lost = False
        self._answered: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    async def request(self, request: bytes) -> ResponseReader:
        """Send a request, and return the reader once it has an answer or a fault."""
        reader = self.reader
        reader.expect()
        self._answered = asyncio.get_running_loop().create_future()
        try:
            if self.lost or self._transport is None:
                reader.feed_eof()
            else:
                self._transport.write(request)
                await self._answered
        finally:
            self._answered = None
        return reader

    def close(self) -> None:
        """Close at once; a transport that waits for its peer would outlive the probe."""
        self.lost = True
        self.reader.close()
        if self._transport is not None:
            self._transport.abort()

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answered is None or self._answered.done():
            self.lost = True
        else:
            self.reader.feed(data)
            self._finish()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self.lost = True
        if self._answered is not None and not self._answered.done():
            self.reader.feed_eof()
            self._finish()

    def _finish(self) -> None:
        if (self.reader.done or self.reader.fault) and self._answered is not None:
            self._answered.set_result(None)
