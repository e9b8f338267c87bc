"""Reads tables for subscriptions that ask for the state: rows that a route's `snapshot` shows, and no broker retains.

Those who wait for the same filter are served by one reading.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from broker.core.barrier import barrier
from broker.core.counters import Counters
from broker.core.history import History
from broker.core.row_source import SourceError
from broker.links.websocket.catching_up import Subscription
from broker.links.websocket.room import Room

if TYPE_CHECKING:
    from broker.links.websocket.following import FollowingLink

logger = logging.getLogger("broker.links")

READINGS_MAX: Final = 4
"""At a time, each with a connection to its database."""

Asker = tuple["FollowingLink", Subscription]


class StateReading:
    """What is being read, and for whom.

    Args:
        history: knows the tables.
        nursery: where the reading goes on, for as long as somebody waits.
        counters: where bugs are counted; one ends the connections that waited for that reading.
    """

    def __init__(self, history: History, nursery: trio.Nursery, counters: Counters) -> None:
        self._history = history
        self._nursery = nursery
        self._counters = counters
        self._asked: dict[bytes, list[Asker]] = {}
        self._turns = trio.CapacityLimiter(READINGS_MAX)
        self._room = Room()

    def ask(self, link: FollowingLink, one: Subscription) -> None:
        """Have `link.state_read` called when the tables have been read."""
        asked = self._asked.get(one.topic_filter)
        if asked is None:
            self._asked[one.topic_filter] = [(link, one)]
            self._nursery.start_soon(self._serve, one.topic_filter)
        else:
            asked.append((link, one))

    async def _serve(self, topic_filter: bytes) -> None:
        async with self._turns:
            await self._room.wait()
            asked = self._asked.pop(topic_filter)
            where = f"the tables of {topic_filter.decode()}"
            with barrier(self._counters, where, partial(_close_all, asked)):
                await self._answer(topic_filter, asked)

    async def _answer(self, topic_filter: bytes, asked: list[Asker]) -> None:
        rows: list[tuple[bytes, bytes]] | SourceError = []
        if any(not one.is_over for _, one in asked):
            rows = await self._read(topic_filter)
        for index, (link, one) in enumerate(asked):
            link.state_read(one, rows)
            if index % 20 == 19:
                await trio.lowlevel.checkpoint()
        if rows and not isinstance(rows, SourceError):
            self._room.add(lambda: any(one.holds_rows for _, one in asked))

    async def _read(self, topic_filter: bytes) -> list[tuple[bytes, bytes]] | SourceError:
        rows: list[tuple[bytes, bytes]] = []
        try:
            for tables in self._history.tables.values():
                if tables.serves(topic_filter):
                    rows += await tables.read(topic_filter)
        except SourceError as error:
            logger.info("the state of %s can't be read: %s", topic_filter.decode(), error)
            return error
        return rows


def _close_all(asked: list[Asker]) -> None:
    """Nobody knows what those had of it who were told already."""
    for link, one in asked:
        if not one.is_over:
            link.close_for_a_bug()
