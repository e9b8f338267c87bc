"""Listeners: sockets from the configuration, and what becomes of each connection."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from typing import Final

import trio

from broker.config.model import Listener
from broker.links.listening.acceptor import Acceptor, Take
from broker.links.listening.door import Door
from broker.links.listening.inherited import Inherited
from broker.links.listening.interfaces import interface_address
from broker.links.server import Server

logger = logging.getLogger("broker.links")

BACKLOG = 4096

_FAMILY_NAMES = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}

EXHAUSTED_PAUSE_S = 0.1
"""Until the next try, where the system had no more sockets to give."""


UNUSABLE: Final = (OSError, ValueError)
"""A ValueError is a name of which the resolver makes none, such as one with a label of more than 63 characters."""


class ListenError(Exception):
    """A listener can't be opened; says which, why, and what to do."""


def open_sockets(listener: Listener, inherited: Inherited | None = None) -> list[socket.socket]:
    """Bind everything that one listener stands for; non-blocking and listening.

    Args:
        inherited: what is open already, and is taken instead.

    Raises:
        ListenError: an address is in use, not ours, or not permitted; nothing stays open.
    """
    opened: list[socket.socket] = []
    try:
        if listener.unix_path is not None:
            logger.info("Opening unix listen socket on path %s.", listener.unix_path)
            ready = inherited and inherited.take(socket.AF_UNIX, listener.unix_path, 0)
            opened.append(ready or _open_unix(listener.unix_path))
            return opened
        port = listener.port
        for family, address in _addresses(listener):
            if listener.protocol != "websockets":
                logger.info("Opening %s listen socket on port %d.", _FAMILY_NAMES[family], port)
            elif not opened:  # as mosquitto: one line for all families
                logger.info("Opening websockets listen socket on port %d.", port)
            ready = inherited and inherited.take(family, address.partition("%")[0], port)
            sock = ready or _open_tcp(family, address, port, listener.reuse_port)
            opened.append(sock)
            # Port 0 on both families is one free port, not two.
            port = port or sock.getsockname()[1]
    except UNUSABLE as error:
        for sock in opened:
            sock.close()
        raise ListenError(_explain(listener, error)) from None
    return opened


async def accept_forever(sock: socket.socket, door: Door, server: Server, take: Take) -> None:
    """Have the pump take connections until cancelled; then the listening socket is closed."""
    exhausted = trio.Event()
    acceptor = Acceptor(server.pump, sock, door, take, lambda: exhausted.set())
    with sock:
        try:
            while True:
                server.pump.watch(acceptor)
                await exhausted.wait()
                server.pump.unwatch(acceptor)
                exhausted = trio.Event()
                await trio.sleep(EXHAUSTED_PAUSE_S)
        finally:
            server.pump.unwatch(acceptor)


_FAMILIES = {
    "": (socket.AF_INET, socket.AF_INET6),
    "ipv4": (socket.AF_INET,),
    "ipv6": (socket.AF_INET6,),
}


def _addresses(listener: Listener) -> list[tuple[socket.AddressFamily, str]]:
    """Where to listen, of the families that socket_domain allows and on the interface that was asked for.

    Raises:
        ListenError: the interface has no such address.
    """
    wanted = _FAMILIES[listener.socket_domain]
    found = [(family, address) for family, address in _all_addresses(listener) if family in wanted]
    if not listener.bind_interface:
        return found
    on_interface = []
    for family, address in found:
        own = interface_address(listener.bind_interface, family)
        if own is None:
            continue  # as mosquitto: an interface need not have an address of each family
        if listener.host is not None and own.partition("%")[0] != address:
            raise ListenError(
                f"Interface address for {listener.bind_interface} does not match specified listener address"
                f" ({listener.host}). Name one of the two."
            )
        on_interface.append((family, own))
    if not on_interface:
        raise ListenError(f"Interface {listener.bind_interface} does not exist, or has no address.")
    return on_interface


def _all_addresses(listener: Listener) -> list[tuple[socket.AddressFamily, str]]:
    if listener.local_only:
        found = [(socket.AF_INET, "127.0.0.1")]
        return [*found, (socket.AF_INET6, "::1")] if _has_ipv6() else found
    if listener.host is None:
        every = [(socket.AF_INET, "0.0.0.0")]
        return [*every, (socket.AF_INET6, "::")] if _has_ipv6() else every
    found = []
    for family, _, _, _, address in socket.getaddrinfo(
        listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        pair = (family, str(address[0]))
        if pair not in found:
            found.append(pair)
    return found


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _open_tcp(family: socket.AddressFamily, address: str, port: int, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Windows: REUSEADDR would let any other program listen on our port beside us.
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Connections have this from their listener.  One send per round carries all that is owed, so Nagle's
        # algorithm could only delay it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except UNUSABLE:
        sock.close()
        raise
    return sock


def _open_unix(path: str) -> socket.socket:
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            if _answers(path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            os.unlink(path)  # left behind by a process that was killed
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except UNUSABLE:
        sock.close()
        raise
    return sock


def _answers(path: str) -> bool:
    """Whether a process listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # with as many in its queue as may be
        except OSError:
            return False
    return True


def _explain(listener: Listener, error: OSError | ValueError) -> str:
    said = getattr(error, "strerror", None) or error
    number = error.errno if isinstance(error, OSError) else 0
    if listener.unix_path is not None:
        cure = "; stop the other program, or choose another path" if number == errno.EADDRINUSE else ""
        return f"Unable to listen on {listener.unix_path}: {said}{cure}"
    everywhere = "loopback" if listener.local_only else "any address"
    where = f"{listener.host or everywhere}, port {listener.port}"
    if number == errno.EADDRINUSE:
        return f"{where}: {said}; stop the other program, or choose another port"
    if number == errno.EACCES:
        return f"{where}: {said}; ports below 1024 need privileges"
    return f"{where}: {said}"
