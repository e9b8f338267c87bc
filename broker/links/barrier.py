"""Our own bug in one link ends that link and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from broker.core import barrier as core
from broker.core.barrier import barrier
from broker.core.counters import Counters
from broker.links.mqtt.link import MqttLink

__all__ = ["attempt", "barrier", "receive"]


def receive(link: MqttLink, data: bytes) -> None:
    """`link.received` behind the barrier, without the price of a context manager per call."""
    try:
        link.received(data)
    except Exception as error:
        link.close("disconnected: internal error.")
        core.report(link.engine.counters, link.peer, error)
        if core.RERAISE:
            raise


def attempt(work: Callable[[], None], counters: Counters, where: str, on_bug: Callable[[], None]) -> None:
    """`work` as in `with barrier(counters, where, on_bug):`, without the price of a context manager per call."""
    try:
        work()
    except Exception as error:
        core.report(counters, where, error)
        on_bug()
        if core.RERAISE:
            raise
