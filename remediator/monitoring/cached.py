"""One answer for all who ask at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

MAX_AGE: Final = 1.0  # seconds for which an answer is shared

T = TypeVar("T")


class Cached(Generic[T]):
    """The newest result of `read`, shared for MAX_AGE seconds after it came."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self.latest: T | None = None
        self._read = read
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        """Return the shared result, and read it anew where it is older than that."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self.latest is None or loop.time() - self._read_at > MAX_AGE:
                self.latest = await self._read()
                self._read_at = loop.time()
            return self.latest
