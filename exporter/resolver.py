"""Host names to socket addresses: cached, and looked up off the event loop."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

Address = tuple[int, tuple[str | int, ...] | tuple[int, bytes]]
Found = Callable[[tuple[Address, ...], str], None]  # addresses, or why there are none

_FAILED_TTL = 5.0  # a name that fails is asked again soon, but not by every bot behind it


def literal(host: str, port: int) -> Address | None:
    """The address of an IP literal; None for a name."""
    for family, bare in ((socket.AF_INET, host), (socket.AF_INET6, host.strip("[]"))):
        try:
            socket.inet_pton(family, bare)
        except OSError:
            continue
        return family, (bare, port)
    return None


@dataclass(slots=True)
class _Entry:
    known: bool = False
    addresses: tuple[Address, ...] = ()
    fault: str = ""
    waiting: list[Found] = field(default_factory=list)


class Resolver:
    """Answers from its cache at once; names not in it are looked up in a thread, once for all who ask.

    What is no longer good leaves the cache, so that names of bots that left do not stay in memory.
    """

    def __init__(self, ttl: float = 30.0) -> None:
        self._ttl = ttl
        self._entries: dict[tuple[str, int], _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def resolve(self, host: str, port: int, found: Found) -> None:
        """Calls `found` once, perhaps before this returns."""
        entry = self._entries.get((host, port))
        if entry is None:
            entry = self._entries[host, port] = _Entry()
            task = asyncio.get_running_loop().create_task(self._look_up(host, port, entry))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if entry.known:
            found(entry.addresses, entry.fault)
        else:
            entry.waiting.append(found)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_up(self, host: str, port: int, entry: _Entry) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            entry.addresses = tuple((answer[0], answer[4]) for answer in answers)
        except (OSError, UnicodeError) as error:
            entry.fault = getattr(error, "strerror", None) or "no such host name"
        entry.known = True
        loop.call_later(self._ttl if entry.addresses else _FAILED_TTL, self._entries.pop, (host, port))
        waiting, entry.waiting = entry.waiting, []
        for found in waiting:
            found(entry.addresses, entry.fault)
