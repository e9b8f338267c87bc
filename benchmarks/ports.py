"""Ports for the brokers that are measured."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final

_FIRST: Final = 10_240
"""Below those that the kernel gives to connections, which would take one before its broker has opened it."""
_COUNT: Final = 20_000
_candidates = itertools.cycle(range(_FIRST, _FIRST + _COUNT))
for _ in range(os.getpid() * 101 % _COUNT):  # not all processes from the same one
    next(_candidates)


def free_port() -> int:
    """A port that nothing listens on, and that this process was not given lately."""
    return next(port for port in _candidates if _is_free(port))


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
