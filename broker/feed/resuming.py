"""Where a feed goes on whose sink keeps the rows itself, and may have lost some of them since the place was saved."""

from __future__ import annotations

from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import Known, remember_log, remember_place
from broker.feed.status import FeedSink, Keeping, Resumption


class Resuming:
    """A feed's sink, if it keeps rows.

    Attributes:
        keep_s: how long the database is to keep what the sink has.
        lost: why rows are read again; "" if they are not.
    """

    def __init__(self, sink: FeedSink) -> None:
        self._sink = sink if isinstance(sink, Keeping) else None
        self.keep_s = 0.0 if self._sink is None else self._sink.keep_s
        self.lost = ""

    @property
    def log(self) -> str:
        """What the sink's rows are in now; "" if it keeps none."""
        return "" if self._sink is None else self._sink.log

    def place(self, known: Known, saved: tuple[int, int]) -> tuple[int, int]:
        """Behind which row a process begins that has read nothing yet.

        Args:
            saved: the place that the database has.
        """
        if self._sink is None or known.move or known.owed:
            return saved
        found: Resumption = self._sink.resume(known.log, saved)
        self.lost = found.lost
        return found.place

    def begin_anew(self) -> None:
        """Places begin anew, before a gap is announced."""
        self.lost = ""
        if self._sink is not None:
            self._sink.begin_anew()

    async def begun(self, connection: TrioConnection, feed: str, place: tuple[int, int]) -> None:
        """Keep which log has the rows up to `place`, before any from behind it are there.

        Whoever comes then does not read again what this process reads again.
        """
        if self.lost:
            await remember_place(connection, feed, *place)
            self.lost = ""
        if log := self.log:
            await remember_log(connection, feed, log)
