"""Where a feed goes on whose outlet keeps the rows itself, and may have lost some of them since the place was saved."""

from __future__ import annotations

from typing import Final

from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import Known, ServerIdentity, one_row, remember_log, remember_place
from broker.feed.outlet import FeedOutlet, Keeping, Resumption

DATABASE: Final = "SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = current_database()"
"""By which a database is known under every name."""


class Resuming:
    """A feed's outlet, if it keeps rows.

    Attributes:
        keep_s: how long the database is to keep what the outlet has.
        lost: why rows are read again; "" if they are not.
    """

    def __init__(self, outlet: FeedOutlet) -> None:
        self._outlet = outlet if isinstance(outlet, Keeping) else None
        self.keep_s = 0.0 if self._outlet is None else self._outlet.keep_s
        self.lost = ""

    @property
    def log(self) -> str:
        """What the outlet's rows are in now; "" if it keeps none."""
        return "" if self._outlet is None else self._outlet.log

    async def reads(self, connection: TrioConnection, identity: ServerIdentity) -> None:
        """Rows come from this database from now on; before `place` is asked."""
        if self._outlet is not None:
            row = await one_row(connection, DATABASE)
            assert row is not None
            self._outlet.reads(f"{identity.system_identifier}/{row[0]}")

    def place(self, known: Known, saved: tuple[int, int]) -> tuple[int, int]:
        """Behind which row a process begins that has read nothing yet.

        Args:
            saved: the place that the database has.
        """
        if self._outlet is None or known.move or known.owed:
            return saved
        found: Resumption = self._outlet.resume(known.log, saved)
        self.lost = found.lost
        return found.place

    def begin_anew(self) -> None:
        """Places begin anew, before a gap is announced."""
        self.lost = ""
        if self._outlet is not None:
            self._outlet.begin_anew()

    async def begun(self, connection: TrioConnection, feed: str, place: tuple[int, int]) -> None:
        """Keep which log has the rows up to `place`, before any from behind it are there.

        Whoever comes then does not read again what this process reads again.
        """
        if self.lost:
            await remember_place(connection, feed, *place)
            self.lost = ""
        if log := self.log:
            await remember_log(connection, feed, log)
