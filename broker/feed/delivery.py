"""What a committed row, notification or call of `rowcast.publish()` becomes: through the routes to the outlet, counted.

For the kinds that keep their place, `wal` and `outbox`; a feed of kind `listen` gets rows that may wait for others, and
publishes what leaves its line.  Synchronous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from broker.config.feeds import FeedConfig
from broker.feed.notices import Notices
from broker.feed.outlet import FeedOutlet
from broker.feed.routing.routes import Outgoing
from broker.feed.routing.rowtext import Columns
from broker.feed.routing.tables import TableRoutes
from broker.feed.row_barrier import RowBarrier
from broker.feed.sql_publish import Unpublishable
from broker.feed.status import FeedStatus
from protocol.json_scan import is_utf8


class RowDelivery:
    """From one database to one outlet; a kind says which rows are new, and where each is.

    Attributes:
        routes: of the feed's tables.
        rows: the barrier that every row is delivered behind.
        checks_text: the server does not see that texts are UTF-8 (SQL_ASCII), so that we have to.
    """

    def __init__(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
        self.routes = TableRoutes(config, status)
        self.rows = RowBarrier(status)
        self.checks_text = False
        self._notices = Notices(config, status)
        self._outlet = outlet
        self._status = status

    def begin_transaction(self) -> None:
        """What follows was committed together."""
        self._notices.begin()

    def row(
        self,
        table: str,
        operation: str,
        text: bytes,
        now: float,
        in_snapshot: bool,
        columns: Columns | None = None,
        position: bytes = b"",
    ) -> None:
        """A changed row, as `TableRoutes.publications` wants it."""
        if self._is_text(text, "table", table, now):
            self._hand_on(
                self.routes.publications(table, operation, text, now, in_snapshot, columns, position)
            )

    def is_repeated(self, channel: bytes, text: bytes) -> bool:
        """Whether the transaction has notified the same before; to be asked of each, those known already, too."""
        return self._notices.is_repeated(channel, text)

    def notice(self, channel: bytes, text: bytes, now: float, position: bytes) -> None:
        """A notification that travels with the rows, as `Notices.publications` wants it."""
        if self._is_text(text, "channel", channel.decode(errors="replace"), now):
            self._hand_on(self._notices.publications(channel, text, now, position))

    def call(self, read: Callable[[], Outgoing], now: float) -> None:
        """A call of `rowcast.publish()`; `read` may raise `Unpublishable`."""
        try:
            outgoing = read()
        except Unpublishable as error:
            self._status.drop("unpublishable", f"rowcast.publish(): {error}", now)
        else:
            self._hand_on([outgoing])

    def _is_text(self, text: bytes, kind: str, name: str, now: float) -> bool:
        if not self.checks_text or is_utf8(text):
            return True
        self._status.drop("not_utf8", f"{kind} {name}", now)
        return False

    def _hand_on(self, publications: Iterable[Outgoing]) -> None:
        for outgoing in publications:
            self._outlet.publish(*outgoing)
            self._status.published += 1
