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
    """Connections kept open between probes: one for an address at most, and for `keep` seconds at most."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._kept: dict[str, tuple[socket.socket, float]] = {}  # and since when; the oldest first

    def take(self, address: str) -> socket.socket | None:
        sock, _ = self._kept.pop(address, (None, 0.0))
        return sock

    def put(self, address: str, sock: socket.socket, now: float) -> None:
        """Also closes what nobody came back for, as where bots left the fleet."""
        if (other := self.take(address)) is not None:
            other.close()
        self._kept[address] = sock, now
        while (oldest := next(iter(self._kept))) != address and self._kept[oldest][1] < now - self._keep:
            self._kept.pop(oldest)[0].close()

    def close(self) -> None:
        for sock, _ in self._kept.values():
            sock.close()
        self._kept.clear()
