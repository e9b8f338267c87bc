"""Waiting for what no event tells: other processes, tasks of the code under test, and threads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

import trio

PATIENCE_S: Final = 120.0
"""A busy machine is no fault; what never comes is."""


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_S, pause_s: float = 0.005) -> None:
    """Raises: trio.TooSlowError."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(pause_s)


def until_blocking(condition: Callable[[], bool], seconds: float = PATIENCE_S, pause_s: float = 0.02) -> None:
    """The same without Trio.  Raises: AssertionError."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(pause_s)


def until_listening(port: int, seconds: float = PATIENCE_S) -> None:
    """Wait until a process takes connections.  Raises: AssertionError."""
    until_blocking(lambda: is_listening(port), seconds)


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
