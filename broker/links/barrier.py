"""Our own bug in one link ends that link and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from broker.core import barrier as core
from broker.core.barrier import A_CONNECTION, barrier
from broker.core.counters import Counters
from broker.links.connection import Connection
from broker.links.mqtt.link import MqttLink

__all__ = ["A_CONNECTION", "Guard", "attempt", "barrier", "receive", "send_on", "serve", "take"]

Item = TypeVar("Item")


def receive(link: MqttLink, data: bytes) -> None:
    """`link.received` behind the barrier, without the price of a context manager per call."""
    try:
        link.received(data)
    except Exception as error:
        core.report(link.engine.counters, link.peer, error)
        link.close("disconnected: internal error.")
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


class Guard:
    """`take` for whoever calls it again and again, with the same counters and place."""

    def __init__(self, counters: Counters, where: str) -> None:
        self._counters = counters
        self._where = where

    def take(self, work: Callable[[Item], None], item: Item) -> None:
        """`work(item)`; what nobody expected costs the item."""
        take(work, item, self._counters, self._where)


def take(work: Callable[[Item], None], item: Item, counters: Counters, where: str) -> None:
    """`work(item)` as in `with barrier(counters, where):`, without the price of a context manager per call."""
    try:
        work(item)
    except Exception as error:
        core.report(counters, where, error)
        if core.RERAISE:
            raise


def serve(connection: Connection) -> None:
    """`connection.readable`; what it meets ends it."""
    try:
        connection.readable()
    except Exception as error:
        _end(connection, error)
        if core.RERAISE:
            raise


def send_on(connection: Connection) -> None:
    """`connection.outbox.writable`; what it meets ends the connection."""
    try:
        connection.outbox.writable()
    except Exception as error:
        _end(connection, error)
        if core.RERAISE:
            raise


def _end(connection: Connection, error: Exception) -> None:
    counters = connection.pump.engine.counters
    core.report(counters, connection.where, error)
    try:
        connection.failed(error)
    except Exception as again:
        if again is error:
            raise
        core.report(counters, connection.where, again)
        connection.end_soon()
