"""Probing plain HTTP/1.1 without a task or a future a probe: sockets, callbacks and llhttp.

TLS, which it does not speak, goes to the prober it falls back on. An address is connected to directly; a name
is looked up first.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from exporter.probing.exchange import Exchange
from exporter.probing.poller import Poller
from exporter.probing.prober import Done, Prober
from exporter.probing.resolver import Address, Resolver
from exporter.probing.sockets import IdleConnections
from exporter.settings import Settings
from exporter.targets import Target


class FastProber:
    """A prober with one small object a probe. One sweep keeps all timeouts, as they have the same length."""

    def __init__(self, settings: Settings, fallback: Prober, resolver: Resolver) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.resolver = resolver
        self.poller = Poller(self.loop)
        self.idle = IdleConnections(2 * settings.interval)
        self.view = memoryview(bytearray(64 * 1024))
        self._fallback = fallback
        self._deadlines: OrderedDict[Exchange, float] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_every = min(0.1, settings.timeout / 10)

    def start(self, target: Target, done: Done) -> None:
        if target.scheme == "http" and not target.mesh_path.startswith("https:"):
            Exchange(self, target, done).request_next()
        else:
            self._fallback.start(target, done)

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for exchange in self._deadlines:
            exchange.abandon()
        self._deadlines.clear()
        self.idle.close()
        self.poller.close()
        await self._fallback.close()

    def call_later(
        self, seconds: float, function: Callable[[tuple[Address, ...]], None], addresses: tuple[Address, ...]
    ) -> None:
        self.loop.call_later(seconds, function, addresses)

    def watch(self, exchange: Exchange) -> None:
        self._deadlines.pop(exchange, None)
        self._deadlines[exchange] = self.loop.time() + self.settings.timeout
        if self._sweep is None:
            self._sweep = self.loop.call_later(self._sweep_every, self._time_out)

    def unwatch(self, exchange: Exchange) -> None:
        self._deadlines.pop(exchange, None)

    def _time_out(self) -> None:
        now = self.loop.time()
        while self._deadlines:
            exchange, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                break
            del self._deadlines[exchange]
            exchange.time_out()
        self._sweep = self.loop.call_later(self._sweep_every, self._time_out) if self._deadlines else None
