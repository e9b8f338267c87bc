"""How far a `wal` feed has got, kept in `rowcast.feed` before the server is told that it may forget what is before it.

So at a start a slot that stands farther than the kept place was moved, read or made anew by somebody else, and what
lies between is missing; one that stands where it is or before has been left alone, and what comes again is known.

Invariant: nothing is confirmed to the server behind `KeptPlace.lsn`.
"""

from __future__ import annotations

from typing import Final

import psycopg
import trio
from attrs import evolve, frozen

from broker.config.feeds import FeedConfig
from broker.feed.cures import INSTALL
from broker.feed.driver.connect import open_connection, within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line, patient
from broker.feed.kept import write_as_installed
from broker.feed.sealed import seal
from broker.feed.status import FeedStatus
from broker.feed.wal.progress import Progress
from protocol.pgjson import SESSION_SQL

STEP_BYTES: Final = 65536
"""Of WAL without a row for us: keeping the place writes WAL, too, so an idle server must not be let go on for less."""

SETTINGS: Final = f"{SESSION_SQL}; SET synchronous_commit = local"
"""What is confirmed must have been kept, also if the server crashes; a standby that is away holds nobody up."""

_KEEP: Final = f"""
INSERT INTO rowcast.feed AS known (name, kind, read_seq, read_id, stopped_at, sealed)
SELECT name, kind, read_seq, read_id, stopped_at, {seal()}
FROM (VALUES (%s, %s, %s::bigint, %s::bigint, %s::bigint, NULL::jsonb))
    AS place (name, kind, read_seq, read_id, stopped_at, marks)
ON CONFLICT (name) DO UPDATE SET read_seq = excluded.read_seq, read_id = excluded.read_id,
    stopped_at = greatest(known.stopped_at, excluded.stopped_at),
    sealed = {seal("excluded.read_seq", "excluded.read_id", "known.marks", "known.kind")}
"""
_KEEP_UNSEALED: Final = """
INSERT INTO rowcast.feed AS known (name, kind, read_seq, read_id, stopped_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET read_seq = excluded.read_seq, read_id = excluded.read_id,
    stopped_at = greatest(known.stopped_at, excluded.stopped_at)
"""
"""Where an earlier version was installed; the next are for one that was earlier still."""
_KEEP_BEFORE: Final = "UPDATE rowcast.feed SET read_seq = %s, read_id = %s WHERE name = %s"

_BEGIN: Final = f"""
UPDATE rowcast.feed SET read_seq = 0, read_id = 0, stopped_at = %s, sealed = {seal("0", "0")} WHERE name = %s"""
_BEGIN_UNSEALED: Final = "UPDATE rowcast.feed SET read_seq = 0, read_id = 0, stopped_at = %s WHERE name = %s"
_BEGIN_BEFORE: Final = "UPDATE rowcast.feed SET read_seq = 0, read_id = 0 WHERE name = %s"

TROUBLE: Final = "the place in rowcast.feed"


@frozen
class Standing:
    """How far a feed has got at one moment.

    Attributes:
        lsn: everything before it was delivered, or nothing of it is ours; `Progress.safe_lsn`.
        place: `Progress.place`.
        rows: `Progress.partial`, which changes with each row, and with nothing else.
    """

    lsn: int
    place: tuple[int, int] = (0, 0)
    rows: tuple[int, int] = (0, 0)


def standing_of(progress: Progress) -> Standing:
    """Where it stands now."""
    return Standing(progress.safe_lsn, progress.place, progress.partial)


class KeptPlace:
    """One feed's place, and its copy in the database; outlives connections."""

    def __init__(self, config: FeedConfig, status: FeedStatus) -> None:
        self._config = config
        self._status = status
        self._kept = Standing(0)
        self._session: TrioConnection | None = None
        self._has_failed = False
        self._is_sealed = True

    @property
    def lsn(self) -> int:
        """Up to where the server may be told to forget."""
        return self._kept.lsn

    @property
    def place(self) -> tuple[int, int]:
        """From where the next process goes on."""
        return self._kept.place

    def found(self, lsn: int, resumed: Standing | None) -> None:
        """What the database has: `lsn`, 0 if it has none; and what was resumed there, if something was."""
        self._kept = evolve(resumed or self._kept, lsn=lsn)

    async def begin_anew(self, connection: TrioConnection, lsn: int) -> None:
        """Behind a gap: what was kept before says nothing any more.  Raises: psycopg.Error."""
        name = self._config.name
        await write_as_installed(
            connection, (_BEGIN, [lsn, name]), (_BEGIN_UNSEALED, [lsn, name]), (_BEGIN_BEFORE, [name])
        )
        self._kept = Standing(lsn)

    def is_behind(self, now: Standing) -> bool:
        """Whether there are rows that are not covered."""
        return now.rows != self._kept.rows

    def is_due(self, now: Standing) -> bool:
        """Whether there are rows that are not covered, or enough of WAL."""
        return self.is_behind(now) or now.lsn - self._kept.lsn >= STEP_BYTES

    async def keep(self, now: Standing) -> bool:
        """Keep it, what it covers being durable.  Whether it was kept; if not, why is one of the feed's troubles."""
        return await self._keep(now, self._config)

    async def keep_last(self, now: Standing) -> bool:
        """As `keep`, in a feed's last words: nobody tries again whose session has ended since it was used."""
        had_session = self._session is not None
        config = patient(self._config)
        return await self._keep(now, config) or (had_session and await self._keep(now, config))

    async def _keep(self, now: Standing, config: FeedConfig) -> bool:
        try:
            with within(config.check_timeout_s, "keeping the place"):
                if self._session is None or self._session.closed:
                    self._session = await open_connection(config, SETTINGS)
                await self._write(self._session, now)
        except psycopg.Error as error:
            self.close()
            if self._has_failed:  # once is what a server does that is stopped, which the stream says, too
                text = f"can't be written, so nothing is confirmed, and the server keeps its WAL: {first_line(error)}"
                self._status.trouble(TROUBLE, f"{TROUBLE} {text}")
            self._has_failed = True
            return False
        self._kept = now
        self._has_failed = False
        self._status.over(TROUBLE)
        return True

    async def _write(self, session: TrioConnection, now: Standing) -> None:
        values = [self._config.name, self._config.kind, *now.place, now.lsn]
        sealed = [(_KEEP, values)] if self._is_sealed else []
        before = (_KEEP_BEFORE, [*now.place, self._config.name])
        which = await write_as_installed(session, *sealed, (_KEEP_UNSEALED, values), before)
        self._is_sealed = which < len(sealed)
        if which == len(sealed) + 1:
            what = "a slot that somebody moves while Rowcast is away is not noticed"
            where = f"rowcast.feed is of an earlier version: {INSTALL}"
            self._status.warn(what, where, trio.current_time())

    def close(self) -> None:
        """The connection that it came over has ended."""
        self._is_sealed = True  # somebody may install
        session, self._session = self._session, None
        if session is not None:
            session.abandon()
