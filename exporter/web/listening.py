"""A listening socket for every address of the machine."""

import contextlib
import socket


def listen_everywhere(port: int) -> socket.socket:
    """Listen on all addresses of IPv4 and IPv6, as Go does for `:PORT`; OSError if the port is taken.

    Where the kernel has no IPv6 it is IPv4 alone.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError:
            with contextlib.closing(socket.create_server(("", port))):
                pass  # the port is free: it is IPv6 that cannot be used
    return socket.create_server(("", port))
