"""Our own bug in one link ends that link and nothing else."""

from __future__ import annotations

from broker.core import barrier as core
from broker.core.barrier import barrier
from broker.links.mqtt.link import MqttLink

__all__ = ["barrier", "receive"]


def receive(link: MqttLink, data: bytes) -> None:
    """`link.received` behind the barrier, without the price of a context manager per call."""
    try:
        link.received(data)
    except Exception as error:
        link.close("disconnected: internal error.")
        core.report(link.engine.counters, link.peer, error)
        if core.RERAISE:
            raise
