"""Rows of the outbox to publications.  Synchronous.

A row is what `queries.NEXT` and `queries.REST` select: that a table's row changed, a notification, or a call of
`rowcast.publish()`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from broker.config.feeds import FeedConfig
from broker.feed.delivery import RowDelivery
from broker.feed.notices import OPERATION
from broker.feed.outlet import FeedOutlet
from broker.feed.sql_publish import publish_of
from broker.feed.status import FeedStatus


class OutboxDelivery(RowDelivery):
    """From one outbox to one outlet.

    Attributes:
        snapshot_seq: transactions up to this number are in the snapshots that were published.
    """

    def __init__(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
        super().__init__(config, outlet, status)
        self.checks_text = True  # a server of SQL_ASCII takes whatever it is given
        self.snapshot_seq = 0

    def take(self, row: tuple[Any, ...], begins: bool, now: float) -> None:
        """One row of the outbox; `begins` says that it is the first of its transaction."""
        with self.rows.of("table", row[4], now):
            self._take(row, begins, now)

    def _take(self, row: tuple[Any, ...], begins: bool, now: float) -> None:
        seq, row_id, _, _, relation, operation, body, topic, payload, qos, retain, _ = row
        self._status.received += 1
        if begins:
            self.begin_transaction()
        if topic is not None:
            properties = None if body is None else bytes(body)
            self.call(partial(publish_of, bytes(topic), bytes(payload), qos, retain, properties), now)
            return
        name, text, position = bytes(relation), bytes(body), b"%d/%d" % (seq, row_id)
        if operation != OPERATION:
            in_snapshot = seq <= self.snapshot_seq
            self.row(name.decode(errors="replace"), operation, text, now, in_snapshot, position=position)
        elif not self.is_repeated(name, text):
            self.notice(name, text, now, position)
