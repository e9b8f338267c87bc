"""Which sockets are ready: Linux' epoll, or Trio's own waiting where there is none.

Both are asked in the same way.  Trio's way has a task for each socket and each wait, which costs more,
and runs wherever Trio does.  The environment variable ROWCAST_PORTABLE=1 takes it on Linux, too, for tests.

Trio does not tell that a peer has gone which has left bytes that are not read meanwhile.  It is noticed when they are
read, or by keep-alive, which does not count for one that is paused.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from contextlib import suppress
from typing import Final, Protocol

import trio

from broker.links.linger import SELECTED_MAX, Linger, linger_for
from broker.links.runnable import RunnableTasks

logger = logging.getLogger("broker.links")

READABLE: Final = 0x001
"""EPOLLIN."""
WRITABLE: Final = 0x004
"""EPOLLOUT."""
GONE: Final = 0x2000
"""EPOLLRDHUP: the peer sends no more."""
NEWS: Final = 0x8000_0000
"""EPOLLET: what epoll tells of unasked, a peer that has gone, is told once."""


class Readiness(Protocol):
    """Tells which of its sockets are ready, as long as they are."""

    def register(self, fd: int, events: int, /) -> None:
        """Watch a descriptor for these events."""

    def modify(self, fd: int, events: int, /) -> None:
        """Watch it for these events instead."""

    def unregister(self, fd: int, /) -> None:
        """Before the socket is closed."""

    def poll(self, timeout_s: float, count_max: int, /) -> list[tuple[int, int]]:
        """Descriptors and what each is ready for; an error counts as everything."""

    def within(self, timeout_s: float, /) -> bool:
        """Whether one is ready within so short a time, which nobody else has meanwhile; `poll` then says which."""

    def among(self, fds: list[int], timeout_s: float, /) -> list[int]:
        """Which of these are readable within so short a time; whatever else is ready waits, as does everybody."""

    def fileno(self) -> int:
        """What an outer one registers, to learn that one of these is ready."""

    def nested(self) -> Readiness:
        """One that can be registered in this."""

    def linger(self) -> Linger | None:
        """A short way to the next event, if there is one."""

    async def wait(self) -> None:
        """Until one is ready; a checkpoint."""

    def close(self) -> None:
        """Watch nothing any more."""


LOOK_AGAIN_S: Final = 0.5
"""For the end of a peer that has sent bytes which are not read yet."""


def is_portable() -> bool:
    """Whether Trio's own waiting is used."""
    return not hasattr(select, "epoll") or os.environ.get("ROWCAST_PORTABLE", "") not in ("", "0")


def tell_if_portable() -> None:
    """Say so in the log: elsewhere than on Linux, or because ROWCAST_PORTABLE is set."""
    if is_portable():
        logger.warning("Connections are served without epoll, which is slower: good for trying things out.")


def readiness() -> Readiness:
    """The best that this system has."""
    return TrioReadiness() if is_portable() else Epoll()


class Epoll:
    """Linux' own."""

    def __init__(self) -> None:
        self._epoll = epoll = select.epoll()
        self.register = epoll.register
        self.modify = epoll.modify
        self.unregister = epoll.unregister
        self.poll = epoll.poll
        self.fileno = epoll.fileno
        self._linger: Linger | None = None
        self._tasks = RunnableTasks()

    def within(self, timeout_s: float, /) -> bool:
        """By `select`, since epoll counts in milliseconds; that takes no descriptors above a thousand."""
        fd = self.fileno()
        return fd < SELECTED_MAX and len(select.select((fd,), (), (), timeout_s)[0]) > 0

    def among(self, fds: list[int], timeout_s: float, /) -> list[int]:
        """By `select`, too; where it does not take them, in whole milliseconds."""
        if max(fds) < SELECTED_MAX:
            readable: list[int] = select.select(fds, (), (), timeout_s)[0]
            return readable
        asked = select.poll()
        for fd in fds:
            asked.register(fd, select.POLLIN)
        return [fd for fd, _ in asked.poll(timeout_s * 1000.0)]

    def nested(self) -> Epoll:
        """An epoll of its own; who holds it registers its descriptor here."""
        return Epoll()

    def linger(self) -> Linger | None:
        """How to wait a moment in the kernel before Trio is asked, where that can be had."""
        self._linger = linger_for(self._epoll, self._tasks.runnable)
        if self._linger is not None:
            trio.lowlevel.add_instrument(self._tasks)
        return self._linger

    def close(self) -> None:
        """Watch nothing any more."""
        if self._linger is not None:
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(self._tasks)
            self._linger.close()
            self._linger = None
        self._epoll.close()

    async def wait(self) -> None:
        """Return when something may be ready; it need not be."""
        linger = self._linger
        if linger is not None:
            if linger.goes_on():
                await trio.lowlevel.checkpoint()
                return
            linger.give_trios_back()
        await trio.lowlevel.wait_readable(self._epoll.fileno())


def has_gone(fd: int) -> bool:
    """Whether the next thing to be received is the end; nothing is taken."""
    sock = socket.socket(fileno=fd)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.detach()


class _Watch:
    """One socket: what is wanted, what is known, and what a task waits for."""

    def __init__(self, fd: int, wanted: int) -> None:
        self.fd = fd
        self.wanted = wanted
        self.ready = 0
        self.awaited = 0
        self.is_over = False


class TrioReadiness:
    """By tasks that wait for one socket each.

    Args:
        outer: where this one is registered, to be marked when one of its sockets is ready.

    Invariant: `_ready` holds the watches of which something wanted is known to be ready.
    """

    def __init__(self, outer: TrioReadiness | None = None, number: int = 0) -> None:
        self._outer = outer
        self._number = number
        self._watches: dict[int, _Watch] = {}
        self._ready: dict[int, _Watch] = {}
        self._nested: list[TrioReadiness] = []
        self._news = trio.Event()

    def register(self, fd: int, events: int, /) -> None:
        """Watch a descriptor for these events."""
        watch = self._watches[fd] = _Watch(fd, events)
        self._look(watch)

    def modify(self, fd: int, events: int, /) -> None:
        """Watch it for these events instead."""
        watch = self._watches[fd]
        watch.wanted = events
        self._look(watch)

    def unregister(self, fd: int, /) -> None:
        """Watch it no more, before it is closed; who waits for it in Trio is let go."""
        watch = self._watches.pop(fd)
        watch.is_over = True
        self._ready.pop(fd, None)
        if watch.awaited & (READABLE | WRITABLE):
            trio.lowlevel.notify_closing(fd)

    def poll(self, timeout_s: float, count_max: int, /) -> list[tuple[int, int]]:
        """What is known now; `timeout_s` is 0."""
        found = []
        for watch in list(self._ready.values())[:count_max]:
            found.append((watch.fd, watch.ready & watch.wanted))
            watch.ready &= ~watch.wanted
            del self._ready[watch.fd]
            self._look(watch)
        return found

    def within(self, timeout_s: float, /) -> bool:
        """Whether one is known to be; others are found while Trio's loop runs only."""
        return len(self._ready) > 0

    def among(self, fds: list[int], timeout_s: float, /) -> list[int]:
        """Those that are known to be."""
        return [fd for fd in fds if fd in self._ready]

    def fileno(self) -> int:
        """The number that stands for this object in the one around it: no descriptor."""
        return self._number

    def nested(self) -> TrioReadiness:
        """One within this one, which is ready when something in it is."""
        inner = TrioReadiness(
            self, -2 - len(self._nested)
        )  # no descriptor, and not the -1 of a closed socket
        self._nested.append(inner)
        return inner

    def linger(self) -> None:
        """None: only an epoll can be waited for in the kernel."""
        return

    async def wait(self) -> None:
        """Return when something may be ready; it need not be."""
        if self._ready:
            await trio.lowlevel.checkpoint()
        else:
            self._news = trio.Event()
            await self._news.wait()

    def close(self) -> None:
        """Watch nothing any more."""
        for fd in list(self._watches):
            self.unregister(fd)

    def _look(self, watch: _Watch) -> None:
        """Note what is ready, and wait for what is wanted and is not known to be."""
        if watch.fd < 0 and self._nested[-2 - watch.fd]._ready:
            watch.ready = READABLE
        if watch.ready & watch.wanted:
            self._ready[watch.fd] = watch
            self._tell()
        else:
            self._ready.pop(watch.fd, None)
        if watch.fd < 0:
            return
        missing = watch.wanted & ~watch.ready
        has_bytes = watch.ready & READABLE
        if missing & READABLE or (missing & GONE and not has_bytes):
            self._await(watch, READABLE)
        if missing & WRITABLE:
            self._await(watch, WRITABLE)
        if missing & GONE and has_bytes:
            self._await(watch, GONE)

    def _await(self, watch: _Watch, event: int) -> None:
        if not watch.awaited & event:
            watch.awaited |= event
            trio.lowlevel.spawn_system_task(self._wait_for, watch, event)

    async def _wait_for(self, watch: _Watch, event: int) -> None:
        if watch.is_over:
            return  # the descriptor may be another socket's by now
        try:
            if event == GONE:
                await trio.sleep(LOOK_AGAIN_S)  # waiting would return at once
            else:
                await (trio.lowlevel.wait_writable if event == WRITABLE else trio.lowlevel.wait_readable)(
                    watch.fd
                )
        except trio.ClosedResourceError:
            return
        except OSError:
            pass  # whoever reads or writes is told why
        watch.awaited &= ~event
        if watch.is_over:
            return
        watch.ready |= event & ~GONE
        if watch.wanted & GONE and has_gone(watch.fd):
            watch.ready |= GONE
        self._look(watch)

    def _tell(self) -> None:
        self._news.set()
        outer = self._outer
        if outer is not None and (watch := outer._watches.get(self._number)) is not None:
            watch.ready = READABLE
            outer._look(watch)
