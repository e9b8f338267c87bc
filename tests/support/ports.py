"""Ports for servers that a test starts."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Final

_FIRST: Final = 10_240
"""Below those that the kernel gives to connections, which would come in between."""
_COUNT: Final = 20_000
_reserved: list[socket.socket] = []
_candidates = itertools.cycle(range(_FIRST, _FIRST + _COUNT))
for _ in range(os.getpid() * 101 % _COUNT):  # not all test processes from the same one
    next(_candidates)


def free_port() -> int:
    """A port that nothing listens on, and that no test, of whatever process, is given while this one runs."""
    return next(_free_of(_candidates))


def privileged_port() -> int:
    """The same, one that only root may open.  Raises: StopIteration: there is none."""
    return next(_free_of(range(1023, 600, -1)))


def _free_of(ports: Iterable[int]) -> Iterator[int]:
    return (port for port in ports if _reserve(port) and _is_free(port))


def _reserve(port: int) -> bool:
    # Linux's abstract socket addresses are gone with the process, however it ends.
    reservation = socket.socket(socket.AF_UNIX)
    try:
        reservation.bind(f"\0rowcast-test-port-{port}")
    except OSError:
        reservation.close()
        return False
    _reserved.append(reservation)
    return True


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
