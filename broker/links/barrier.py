"""Our own bug in one link ends that link and nothing else.  The only `except Exception` of the project."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from broker.core.counters import Counters
from broker.links.mqtt import MqttLink

logger = logging.getLogger("broker.links")

RERAISE = "ROWCAST_RERAISE" in os.environ
"""Set by the tests: a bug must fail the test that met it."""


@contextmanager
def barrier(counters: Counters, peer: str) -> Iterator[None]:
    """Log and count what should not happen; the caller goes on after the `with` and closes the link."""
    try:
        yield
    except Exception:
        _report(counters, peer)


def receive(link: MqttLink, data: bytes) -> None:
    """`link.received` behind the barrier, without the price of a context manager per call."""
    try:
        link.received(data)
    except Exception:
        link.ended("disconnected: internal error.")
        _report(link.engine.counters, link.peer)


def _report(counters: Counters, peer: str) -> None:
    counters.link_bugs += 1
    logger.exception("a bug in Rowcast ended the connection of %s", peer)
    if RERAISE:
        raise
