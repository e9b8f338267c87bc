"""Our own bug in one link ends that link and nothing else.  The only `except Exception` of the project."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import TracebackType

from broker.core.counters import Counters
from broker.links.mqtt.link import MqttLink

logger = logging.getLogger("broker.links")

RERAISE = "ROWCAST_RERAISE" in os.environ
"""Set by the tests: a bug must fail the test that met it."""


class barrier:  # noqa: N801 - reads as a statement: `with barrier(...):`
    """Log and count what should not happen; the caller goes on after the `with` and closes the link.

    A class rather than a generator: every idle connection with a task holds one, and a generator takes 400 bytes more.

    Args:
        on_bug: ends the link at once, where the caller can't know.
    """

    __slots__ = ("_counters", "_on_bug", "_peer")

    def __init__(self, counters: Counters, peer: str, on_bug: Callable[[], None] | None = None) -> None:
        self._counters = counters
        self._peer = peer
        self._on_bug = on_bug

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        _report(self._counters, self._peer, error)
        if self._on_bug is not None:
            self._on_bug()
        return not RERAISE


def receive(link: MqttLink, data: bytes) -> None:
    """`link.received` behind the barrier, without the price of a context manager per call."""
    try:
        link.received(data)
    except Exception as error:
        link.close("disconnected: internal error.")
        _report(link.engine.counters, link.peer, error)
        if RERAISE:
            raise


def _report(counters: Counters, peer: str, error: Exception) -> None:
    counters.link_bugs += 1
    logger.error("a bug in Rowcast ended the connection of %s", peer, exc_info=error)
