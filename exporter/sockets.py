"""What the kernel knows of a connection, and connections kept for the next probe."""

import errno
import socket
import struct

# Our own trouble, which says nothing about the bot.
OWN_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EPERM}
)

# linux/tcp.h, struct tcp_info: milliseconds since data, or an acknowledgement, last came in.
_TCP_INFO_SIZE = 60
_LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED = 52, 56
_TICK = 0.01  # the kernel counts in ticks of up to 10 ms; less is no news


def since_data(sock: socket.socket) -> float:
    """Seconds the newest data has lain unread, so that a busy loop does not count as the bot's latency."""
    return _since(sock, _LAST_DATA_RECEIVED)


def since_ack(sock: socket.socket) -> float:
    """Seconds since the peer last acknowledged, as a connection that is up but was not yet noticed."""
    return _since(sock, _LAST_ACK_RECEIVED)


def _since(sock: socket.socket, offset: int) -> float:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:
        return 0.0
    if len(info) < offset + 4:
        return 0.0
    (milliseconds,) = struct.unpack_from("=I", info, offset)
    seconds = float(milliseconds) / 1000
    return seconds if seconds >= _TICK else 0.0


class Idle:
    """Connections kept open between probes, at most one for an address."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}

    def take(self, address: str) -> socket.socket | None:
        return self._sockets.pop(address, None)

    def put(self, address: str, sock: socket.socket) -> None:
        if (other := self._sockets.pop(address, None)) is not None:
            other.close()
        self._sockets[address] = sock

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
