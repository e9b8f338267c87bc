"""Whether a peer is still there of whom nothing is read, and to whom nothing is sent."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from broker.links.tls_socket import Socket

PROBE_AFTER_S: Final = 60
PROBE_EVERY_S: Final = 10
PROBES: Final = 6
"""Two minutes, then its connection is over: what vanishes in a network says no goodbye."""

OPTIONS: Final = {"TCP_KEEPIDLE": PROBE_AFTER_S, "TCP_KEEPINTVL": PROBE_EVERY_S, "TCP_KEEPCNT": PROBES}


def probe(sock: Socket, is_wanted: bool) -> None:
    """Have the kernel ask its peer's from now on, or no more; nothing where that is no other machine's."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(is_wanted))
        if not is_wanted:
            return
        for name, value in OPTIONS.items():
            option = getattr(socket, name, None)  # other systems have not all of them
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
