"""Committed changes to publications: what is known is skipped, what is new goes through the routes.  Synchronous.

Invariant: every change is counted in `progress` before it is published, and published before anything else runs.
"""

from __future__ import annotations

from functools import partial

from broker.config.feeds import FeedConfig
from broker.feed import notices
from broker.feed.delivery import RowDelivery
from broker.feed.outlet import FeedOutlet
from broker.feed.sql_publish import PREFIX, parse_publish
from broker.feed.status import FeedStatus
from broker.feed.wal.progress import Progress
from broker.feed.wal.relations import OPERATION_OF, Table
from protocol.pgoutput import EPOCH_UNIX_S, LogicalMessage, RowChange


class Delivery(RowDelivery):
    """From one slot to one outlet.

    Attributes:
        progress: where it stands; outlives connections.
        snapshot_lsn: changes that committed before it are in the snapshots that were published.
        committed_unix_s: when the last delivered transaction committed, by the server's clock; 0 before the first.
    """

    def __init__(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
        super().__init__(config, outlet, status)
        self.progress = Progress()
        self.snapshot_lsn = 0
        self.committed_unix_s = 0.0
        self._unsent: list[float] = []

    def begin(self, commit_lsn: int) -> None:
        """The changes of the transaction follow that committed at `commit_lsn`."""
        self.progress.begin(commit_lsn)
        self.begin_transaction()

    def change(self, table: Table, change: RowChange, now: float) -> None:
        """One row of the open transaction."""
        if not self.progress.is_new():
            return
        self._status.received += 1
        with self.rows.of("table", table.name, now):
            text, columns = table.render(change)
            in_snapshot = self.progress.open_lsn < self.snapshot_lsn
            operation = OPERATION_OF[change.operation]
            self.row(table.name, operation, text, now, in_snapshot, columns, self._position())

    def message(self, message: LogicalMessage, now: float) -> None:
        """One of our functions' messages in the open transaction; those of other programs are not looked at."""
        if not message.transactional:
            return
        if message.prefix == notices.PREFIX:
            self._notice(message.content, now)
        elif message.prefix == PREFIX and self.progress.is_new():
            self._publish(message, now)

    def _notice(self, content: bytes, now: float) -> None:
        channel, _, text = content.partition(b"\0")
        is_new = self.progress.is_new()
        if self.is_repeated(channel, text) or not is_new:
            return
        self._status.received += 1
        with self.rows.of("channel", channel, now):
            self.notice(channel, text, now, self._position())

    def _publish(self, message: LogicalMessage, now: float) -> None:
        self._status.received += 1
        with self.rows.of("a call of", "rowcast.publish()", now):
            self.call(partial(parse_publish, message.content), now)

    def _position(self) -> bytes:
        return self.progress.here if self.routes.shows_positions else b""

    def commit(self, end_lsn: int, commit_time_us: int) -> None:
        """The open transaction is complete."""
        self.progress.commit(end_lsn)
        self._status.delivered = self.progress.safe_lsn
        self.committed_unix_s = commit_time_us / 1e6 + EPOCH_UNIX_S
        self._unsent.append(self.committed_unix_s)

    def sent(self, unix_now: float) -> None:
        """Everything that was delivered has been handed to the kernel."""
        for committed_unix_s in self._unsent:
            self._status.latency.observe(max(0.0, unix_now - committed_unix_s))
        self._unsent.clear()
