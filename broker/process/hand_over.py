"""From one process to the next without closing a port: the old one hands over its listening sockets.

Over a unix socket, `control_socket`.  The new one asks; the old one sends the sockets and says whether it has to end
first, because only one process may have the persistence file, or the feed's place in the database.  If so, the new
one says `go`, and waits: who connects meanwhile waits in the kernel's queue.  If not, it starts beside the old one, and
says `ready` when it serves.  At either word the old one drains and ends; without one it goes on as if nothing had been.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

import trio

from broker.app import App
from broker.config.model import Config
from broker.process.daemon import DaemonError

logger = logging.getLogger("broker")

ASK: Final = b"take over\n"
GO: Final = b"go\n"
READY: Final = b"ready\n"
SOCKETS_MAX: Final = 200
PATIENCE_S: Final = 30.0
"""For each step but the old one's end, which may take its time."""

END_S: Final = 300.0


def must_end_first(config: Config) -> bool:
    """Whether two processes with this configuration can't run at the same time."""
    return config.persistence.persistence or any(feed.keeps_place for feed in config.feeds)


class TakeOver:
    """The new process's side; blocking, since nothing runs yet.

    Attributes:
        sockets: what the old one listened on; empty if there was none.
    """

    def __init__(self, path: Path) -> None:
        self.sockets: list[socket.socket] = []
        self._old: socket.socket | None = None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE_S)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            logger.info("Nothing to take over: no process answers on %s.", path)
            return
        except OSError as error:
            sock.close()
            raise DaemonError(f"Error: {path}: {error.strerror or error}: can't take over.") from None
        self._old = sock
        try:
            self._receive(sock)
        except (OSError, ValueError) as error:
            raise DaemonError(
                f"Error: {path}: the process there did not hand over its sockets: {error}"
            ) from None

    def _receive(self, sock: socket.socket) -> None:
        sock.sendall(ASK)
        data, descriptors, _, _ = socket.recv_fds(sock, 4096, SOCKETS_MAX)
        if not data:
            raise ValueError("it hung up; are both of the same user?")
        self.sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        answer = json.loads(data)
        logger.info("Taking over %d listening sockets from process %d.", len(self.sockets), answer["pid"])
        if answer["ends_first"]:
            sock.sendall(GO)
            sock.settimeout(END_S)
            while sock.recv(4096):
                pass
            self._old = None

    def ready(self) -> None:
        """This process serves: the old one may go."""
        if self._old is not None:
            with contextlib.suppress(OSError):
                self._old.sendall(READY)
            self._old.close()
            self._old = None


async def offer(path: Path, app: App) -> None:
    """The old process's side: wait for the next one, for ever.

    Raises:
        DaemonError: there can be no socket at that path.
    """
    with _listening(path) as sock:
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                connection, _ = sock.accept()
                connection.setblocking(False)
                async with trio.SocketStream(trio.socket.from_stdlib_socket(connection)) as stream:
                    await _hand_over(stream, app)
            except OSError as error:
                logger.warning("The sockets could not be handed over: %s", error)


def _listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.stat().st_mode):
                path.unlink()
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(1)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise DaemonError(f"Error: control_socket {path}: {error.strerror or error}.") from None
    return sock


async def _hand_over(stream: trio.SocketStream, app: App) -> None:
    if not _is_trusted(stream.socket):
        return
    with trio.move_on_after(PATIENCE_S) as patience, contextlib.suppress(trio.BrokenResourceError):
        if await stream.receive_some(100) != ASK:
            return
        ends_first = must_end_first(app.config)
        answer = json.dumps({"pid": os.getpid(), "ends_first": ends_first}).encode()
        await trio.lowlevel.wait_writable(stream.socket)
        with socket.socket(fileno=os.dup(stream.socket.fileno())) as plain:
            sockets = app.sockets()  # copies among them must live until they have been sent
            socket.send_fds(plain, [answer], [sock.fileno() for sock in sockets])
        patience.deadline = trio.current_time() + END_S
        said = await stream.receive_some(100)
        if said not in (GO, READY):
            logger.warning("The process that wanted to take over has gone; this one goes on.")
            return
        logger.info("Another process has taken over; draining.")
        app.stop(at_once=said == GO)
        await trio.sleep_forever()  # the other one waits for this connection's end


def _is_trusted(sock: trio.socket.SocketType) -> bool:
    """Whether the peer is root, or who we are."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())
