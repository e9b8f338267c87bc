"""Listening sockets that somebody else has opened for us: systemd, or the process that we replace."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping
from typing import Final

FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START."""


class Inherited:
    """The sockets that are left to be used, by what they listen on.

    Args:
        sockets: each listening already.
    """

    def __init__(self, sockets: Iterable[socket.socket] = ()) -> None:
        self._sockets = list(sockets)

    def take(self, family: int, address: str, port: int) -> socket.socket | None:
        """The socket that listens there; `address` is a path for a unix socket, whose `port` is 0."""
        for sock in self._sockets:
            if sock.family == family and _place(sock) == (address, port):
                self._sockets.remove(sock)
                sock.setblocking(False)
                return sock
        return None

    def close(self) -> list[str]:
        """Close what nobody has taken; where it listened."""
        left = [":".join(map(str, _place(sock))) for sock in self._sockets]
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        return left


def _place(sock: socket.socket) -> tuple[str, int]:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return str(name[0]).partition("%")[0], int(name[1])
    return (name.decode() if isinstance(name, bytes) else str(name)), 0


def from_service_manager(number: int, environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """What systemd has opened for the process that it knows by this number (sd_listen_fds(3)); the variables go.

    PyInstaller puts its child's own number there, so that one is good, too.
    """
    count, whose = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if whose not in (str(number), str(os.getpid())) or not (count.isascii() and count.isdigit()):
        return []
    sockets = []
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        if sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sockets.append(sock)
        else:
            sock.close()
    return sockets
