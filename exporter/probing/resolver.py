"""Host names to socket addresses: cached, and looked up by c-ares, whose queries wait for nobody.

getaddrinfo takes a thread for as long as a name server is silent, and an event loop has few of them: bots
whose zone is silent would keep all others from being looked up.
"""

import asyncio
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pycares

Address = tuple[int, tuple[str | int, ...]]
Resolved = Callable[[tuple[Address, ...], str], None]
"""Called with addresses, or with the reason why there are none: `OWN_FAULT` if that is no news of the bot."""

OWN_FAULT = ""
SILENT = "no answer from DNS in time"
_FAILED_TTL = 5.0  # seconds; a name that fails is asked again soon, but not by every bot behind it
_AT_ONCE = 16  # lookups of a zone: small forwarders refuse more than 150, and one silent zone is not all
_TRIES = 2
_NO_SERVER = (pycares.errno.ARES_ECONNREFUSED, pycares.errno.ARES_ENOMEM, pycares.errno.ARES_EFILE)
_NO_ANSWER = (pycares.errno.ARES_ETIMEOUT, pycares.errno.ARES_ECANCELLED, pycares.errno.ARES_EDESTRUCTION)


def literal(host: str, port: int) -> Address | None:
    """Return the address of an IP literal; None for a name."""
    for family, bare in ((socket.AF_INET, host), (socket.AF_INET6, host.strip("[]"))):
        try:
            socket.inet_pton(family, bare)
        except OSError:
            continue
        return family, (bare, port)
    return None


@dataclass(slots=True)
class _Entry:
    started: float = 0.0
    done: bool = False
    addresses: tuple[Address, ...] = ()
    fault: str = ""
    waiting: list[Resolved] = field(default_factory=list)


_Key = tuple[str, int]


class Resolver:
    """A cache of addresses; a name not in it is looked up once for all callers.

    Entries that are too old leave the cache, so that names of bots that left do not stay in memory. Of each
    zone a few names are looked up at once, the others wait. A name that nobody answers for is the bot's
    trouble only if our name servers answer another question meanwhile: one about the root of all names.
    `timeout`: seconds for one lookup. `servers`: else those of /etc/resolv.conf.
    """

    def __init__(self, ttl: float = 30.0, timeout: float = 5.0, servers: Sequence[str] = ()) -> None:
        self._ttl, self._timeout, self._servers = ttl, timeout, servers
        self._entries: dict[_Key, _Entry] = {}
        self._queues: defaultdict[str, deque[_Key]] = defaultdict(deque)
        self._running: defaultdict[str, int] = defaultdict(int)
        self._channel: pycares.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard = -1e9  # when a server last answered the question about the root, or about a name

    def resolve(self, host: str, port: int, resolved: Resolved) -> None:
        """Call `resolved` once, perhaps before this returns."""
        key = host, port
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            zone = _zone(host)
            self._queues[zone].append(key)
            entry.waiting.append(resolved)
            self._start_waiting(zone)
        elif entry.done:
            resolved(entry.addresses, entry.fault)
        else:
            entry.waiting.append(resolved)

    async def lookup(self, host: str, port: int) -> tuple[tuple[Address, ...], str]:
        """Return what `resolve` calls back with."""
        answer: asyncio.Future[tuple[tuple[Address, ...], str]] = asyncio.get_running_loop().create_future()

        def resolved(addresses: tuple[Address, ...], fault: str) -> None:
            if not answer.done():
                answer.set_result((addresses, fault))

        self.resolve(host, port, resolved)
        return await answer

    def fault_of_silence(self, host: str, port: int) -> str:
        """Return whose fault it is that a name has no answer yet: `OWN_FAULT`, or the reason."""
        entry = self._entries.get((host, port))
        answering = entry is not None and 0 < entry.started <= self._heard
        return SILENT if answering else OWN_FAULT

    async def close(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.cancel()
            channel.close()
        self._entries.clear()
        self._queues.clear()

    def _open(self) -> pycares.Channel:
        """Return the channel, opened at the first lookup: it has a thread of its own."""
        if self._channel is None:
            self._loop = asyncio.get_running_loop()
            self._channel = pycares.Channel(
                timeout=self._timeout / 4, tries=_TRIES, servers=self._servers or None
            )
        return self._channel

    def _start_waiting(self, zone: str) -> None:
        queue = self._queues[zone]
        while queue and self._running[zone] < _AT_ONCE:
            key = queue.popleft()
            self._running[zone] += 1
            self._start(key, zone)
        if not queue and not self._running[zone]:
            del self._queues[zone], self._running[zone]

    def _start(self, key: _Key, zone: str) -> None:
        channel, entry = self._open(), self._entries[key]
        loop = asyncio.get_running_loop()
        entry.started = time.monotonic()
        # Before a probe runs out of time it should be known whether our own servers answer anyone.
        question = loop.call_later(self._timeout / 4, self._ask_for_the_root)
        deadline = loop.call_later(self._timeout, self._answered, key, zone, None, None)

        def answered(result: pycares.AddrInfoResult | None, error: int | None) -> None:
            def finish() -> None:
                question.cancel()
                deadline.cancel()
                self._answered(key, zone, result, error)

            _call(loop, finish)

        try:
            channel.getaddrinfo(
                key[0], key[1], family=socket.AF_UNSPEC, type=socket.SOCK_STREAM, callback=answered
            )
        except (ValueError, UnicodeError, pycares.AresError):
            answered(None, pycares.errno.ARES_EBADNAME)

    def _ask_for_the_root(self) -> None:
        if self._channel is None or (loop := self._loop) is None:
            return

        def heard(_: object, error: int | None) -> None:
            if error not in (*_NO_SERVER, *_NO_ANSWER):
                _call(loop, self._hear)

        self._channel.query(".", pycares.QUERY_TYPE_NS, callback=heard)

    def _hear(self) -> None:
        self._heard = time.monotonic()

    def _answered(
        self, key: _Key, zone: str, result: pycares.AddrInfoResult | None, error: int | None
    ) -> None:
        entry = self._entries.get(key)
        if entry is None or entry.done:
            return
        if result is not None and result.nodes:
            entry.addresses = tuple(
                (node.family, (_text(node.addr[0]), *node.addr[1:])) for node in result.nodes
            )
        elif error is None or error in _NO_ANSWER:
            entry.fault = self.fault_of_silence(*key)
        elif error in _NO_SERVER:
            entry.fault = OWN_FAULT
        else:
            entry.fault = str(pycares.errno.strerror(error))
        entry.done = True
        ttl = self._ttl if entry.addresses else _FAILED_TTL
        asyncio.get_running_loop().call_later(ttl, self._entries.pop, key, None)
        self._running[zone] -= 1
        self._start_waiting(zone)
        waiting, entry.waiting = entry.waiting, []
        for resolved in waiting:
            resolved(entry.addresses, entry.fault)


def _zone(host: str) -> str:
    return ".".join(host.lower().rstrip(".").split(".")[-2:])


def _text(address: bytes | str) -> str:
    return address if isinstance(address, str) else address.decode()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function on the loop, from c-ares's thread or from our own."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
