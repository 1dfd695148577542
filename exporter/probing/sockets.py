"""The kernel's figures of a connection, and connections kept for the next probe."""

import errno
import socket
import struct

# Our own trouble, which says nothing about the bot.
OWN_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EPERM}
    | {errno.ENETDOWN}
)

# linux/tcp.h, struct tcp_info: milliseconds since data, or an acknowledgement, last came in.
_TCP_INFO_SIZE = 60
_LAST_DATA_RECEIVED, _LAST_ACK_RECEIVED = 52, 56
_TICK = 0.01  # the kernel counts in ticks of up to 10 ms; less is no news


def since_data(sock: socket.socket) -> float:
    """Return for how many seconds the newest data has lain unread: a busy loop is not the bot's latency."""
    return _since(sock, _LAST_DATA_RECEIVED)


def since_ack(sock: socket.socket) -> float:
    """Return the seconds since the peer last acknowledged: how long a connection was up unnoticed."""
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


class IdleConnections:
    """Connections kept open between probes: one an address at most, and for `keep` seconds at most."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._idle: dict[str, tuple[socket.socket, float]] = {}  # and since when; the oldest first

    def take(self, address: str) -> socket.socket | None:
        """Return the connection to host:port, no longer kept here; None if there is no good one."""
        sock, _ = self._idle.pop(address, (None, 0.0))
        if sock is None or _is_quiet(sock):
            return sock
        sock.close()
        return None

    def put(self, address: str, sock: socket.socket, now: float) -> None:
        """Keep a connection, and close those nobody came back for, as where bots left the fleet."""
        if address in self._idle:
            self._idle.pop(address)[0].close()
        self._idle[address] = sock, now
        while (oldest := next(iter(self._idle))) != address and self._idle[oldest][1] < now - self._keep:
            self._idle.pop(oldest)[0].close()

    def close(self) -> None:
        for sock, _ in self._idle.values():
            sock.close()
        self._idle.clear()


def _is_quiet(sock: socket.socket) -> bool:
    """Return whether an idle connection is open, and nothing lies in it: a 408, say, is no answer to us."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
