"""What the server may forget: what is durable, was kept in `rowcast.feed`, and is not held for a refill.

One for a feed; the tasks of a connection call it.
"""

from __future__ import annotations

from typing import Final

import trio
from attrs import evolve

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import Known
from broker.feed.outlet import FeedOutlet
from broker.feed.status import FeedStatus
from broker.feed.wal.delivery import Delivery
from broker.feed.wal.kept_place import KeptPlace, Standing, standing_of
from broker.feed.wal.retention import Retention
from broker.feed.wal.stream import WalStream

CONFIRM_INTERVAL_S: Final = 0.05
"""Between two looks whether what came is durable."""

KEEP_INTERVAL_S: Final = 1.0
"""Between two times that the place is kept: what a crash repeats at most, beside what is in flight."""

PLACE_INTERVAL_S: Final = 10.0
"""How often the place is looked at inside of a long transaction, whose end it may take an hour to reach."""


class Confirming:
    """One feed's positions, from what came to what is confirmed.

    Args:
        keep_s: how long what is durable stays with the server.

    Attributes:
        lsn: what the server was told last, or had been told when it was found.
    """

    def __init__(
        self, config: FeedConfig, delivery: Delivery, outlet: FeedOutlet, status: FeedStatus, keep_s: float
    ) -> None:
        self._delivery = delivery
        self._outlet = outlet
        self._retention = Retention(keep_s)
        self._kept = KeptPlace(config, status)
        self._durable = Standing(0)
        self._news = trio.Event()
        self.lsn = 0

    @property
    def kept_lsn(self) -> int:
        """Up to where the place was kept."""
        return self._kept.lsn

    @property
    def is_saved(self) -> bool:
        """Whether the next process would repeat nothing."""
        return self._kept.place == self._delivery.progress.place

    @property
    def secured_lsn(self) -> int:
        """Up to where nothing waits for us any more."""
        return max(self._durable.lsn, self.lsn)

    @property
    def needless_lsn(self) -> int:
        """Up to where the server need keep nothing; of WAL without a row of ours it may not have been told so yet."""
        has_rows = self._kept.is_behind(self._durable)
        return self.lsn if has_rows else max(self.lsn, self._retention.confirmable(trio.current_time()))

    def found(self, known: Known, is_resumed: bool) -> None:
        """What the database has; `is_resumed`: this process has gone on from there, and has read nothing yet."""
        if is_resumed:
            self._durable = standing_of(self._delivery.progress)
        self._kept.found(known.kept_lsn, self._durable if is_resumed else None)

    def forget(self) -> None:
        """Positions begin anew, before a gap is announced."""
        self._retention.begin_anew()
        self._durable = Standing(0)
        self.lsn = 0

    async def begin_anew(self, connection: TrioConnection, lsn: int) -> None:
        """The same in the database, once it was announced.  Raises: psycopg.Error."""
        await self._kept.begin_anew(connection, lsn)

    def stands_at(self, lsn: int) -> None:
        """The slot does."""
        self.lsn = max(self.lsn, lsn)

    async def confirm(self, stream: WalStream) -> None:
        """Tell the server what it may forget, as soon as that is durable, and kept."""
        self._news.set()
        while True:
            await stream.news.wait()
            stream.news = trio.Event()
            await self._make_durable()
            self.tell(stream)
            await trio.sleep(CONFIRM_INTERVAL_S)

    def tell(self, stream: WalStream) -> None:
        """Tell the server what it may forget now."""
        confirmable = self._retention.confirmable(trio.current_time())
        self.lsn = max(self.lsn, min(self._kept.lsn, confirmable))
        stream.send_status(self.lsn)

    async def keep_regularly(self, stream: WalStream) -> None:
        """Keep what is durable, and only then let the server forget it."""
        while True:
            with trio.move_on_after(PLACE_INTERVAL_S):
                await self._news.wait()
            self._news = trio.Event()
            if self._delivery.progress.in_transaction:
                await self._make_durable()
            if self._kept.is_due(self._standing):
                await self._keep(stream)
                await trio.sleep(KEEP_INTERVAL_S)

    async def leave(self, stream: WalStream) -> None:
        """Keep the exact place, in the middle of a transaction if need be, so that a stop repeats nothing."""
        await self._make_durable()
        if await self._kept.keep_last(self._standing):
            self.tell(stream)

    def close(self) -> None:
        """The connection has ended."""
        self._kept.close()

    async def _make_durable(self) -> None:
        standing = standing_of(self._delivery.progress)
        if standing != self._durable:
            self._outlet.flush()
            await self._outlet.durable()
            self._durable = standing
            self._retention.durable(standing.lsn, trio.current_time())
            self._news.set()

    @property
    def _standing(self) -> Standing:
        """What is durable; at a start that is what the slot has, of which nothing has come yet."""
        return evolve(self._durable, lsn=max(self._durable.lsn, self.lsn))

    async def _keep(self, stream: WalStream) -> None:
        if await self._kept.keep(self._standing):
            self.tell(stream)
        else:
            self._news.set()  # to be tried again
