"""Readiness of many short-lived sockets through one epoll that the event loop watches as one file.

An event loop's add_reader and add_writer cost several system calls and objects a probe; here a socket is
registered once, edge-triggered, and closing it is all the clean-up there is.
"""

import asyncio
import select
import socket
from collections.abc import Callable

_READABLE = select.EPOLLIN | select.EPOLLET
_CONNECTED = _READABLE | select.EPOLLOUT
_AT_ONCE = 256  # then the event loop runs scrapes and timers


class Poller:
    """Calls back whenever a socket became readable, closed or, where that is waited for, connected."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, sock: socket.socket, callback: Callable[[], None], *, connecting: bool = False) -> None:
        """Call back at each change from now on; once at first if there is something already."""
        number = sock.fileno()
        if number not in self._callbacks:
            self._epoll.register(number, _CONNECTED if connecting else _READABLE)
        self._callbacks[number] = callback

    def forget(self, sock: socket.socket) -> None:
        """Drop the callback before the socket is closed, which takes it out of the epoll."""
        self._callbacks.pop(sock.fileno(), None)

    def release(self, sock: socket.socket) -> None:
        """Watch the socket no longer, though it stays open."""
        self.forget(sock)
        self._epoll.unregister(sock.fileno())

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        callbacks = self._callbacks
        for number, _ in self._epoll.poll(0, _AT_ONCE):
            # An earlier callback of this batch may have closed the socket, and the number may be another's by
            # now; its callback then reads in vain once, which does no harm.
            if (callback := callbacks.get(number)) is not None:
                callback()
