"""How far a `listen` feed has got, kept in the database between two processes: in `rowcast.feed`, if it is there.

Without that table (nothing was installed) marks live and die with the process.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Final

import psycopg
from attrs import frozen
from psycopg.types.json import Jsonb

from broker.config.feeds import FeedConfig
from broker.feed.cures import INSTALL_COMMAND
from broker.feed.driver.connect import connected
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import patient
from broker.feed.feed_row import known_feed, owe_nothing
from broker.feed.kept import write_as_installed
from broker.feed.listen.marks import Marks, Saved
from broker.feed.listen.telling import Telling, Triggers
from broker.feed.outlet import FeedOutlet
from broker.feed.sealed import seal

logger = logging.getLogger("broker.feed")

SAVE_INTERVAL_S: Final = 1.0
"""What a crash repeats at most."""

LOOK_AGAIN_S: Final = 30.0
"""How often to look for the table where there is none: somebody may install it while the feed runs."""

_USABLE: Final = """
SELECT coalesce(%s::text = ANY(string_to_array(current_setting('rowcast.installed', true), ',')), false) OR EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'rowcast' AND c.relname = 'feed' AND has_schema_privilege(n.oid, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE'))
"""
"""Whether the table is there for us; also where it was, and has been dropped or denied, so that it is missed."""

_SAVE_UNSEALED: Final = """
INSERT INTO rowcast.feed AS known (name, kind, marks) VALUES (%s, 'listen', %s)
ON CONFLICT (name) DO UPDATE SET marks = excluded.marks"""

_SAVE: Final = (
    f"{_SAVE_UNSEALED}, sealed = {seal('known.read_seq', 'known.read_id', 'excluded.marks', 'known.kind')}"
)
"""(The first time without a seal: nothing was there that somebody could move.)"""


@frozen
class FoundMarks:
    """What another process has left.

    Attributes:
        marks: None if it kept none.
        reason: why rows may be missing whatever the marks say; "" if none are.
    """

    marks: Saved | None = None
    reason: str = ""


class KeptMarks:
    """One feed's marks, and their copy in the database."""

    def __init__(self, config: FeedConfig, marks: Marks, telling: Telling) -> None:
        self._config = config
        self._marks = marks
        self._telling = telling
        self._saved: Saved | None = None
        self._saved_triggers: Triggers | None = None
        self._owes = False
        self._is_possible = False
        self._has_said = False
        self._looked_at = -LOOK_AGAIN_S

    @property
    def is_saved(self) -> bool:
        """Whether the next process would repeat nothing."""
        return self._is_possible and not self._owes and self._saved == self._marks.saved()

    async def load(self) -> FoundMarks:
        """What the last process has left.

        Raises:
            psycopg.Error: the connection failed, or what was installed is missing, or may not be read.
        """
        async with connected(self._config) as connection:
            if not await self._look(connection):
                self._say_that_nothing_is_kept()
                return FoundMarks()
            known = await known_feed(connection, self._config)
            query = "SELECT marks, to_jsonb(feed) -> 'captured' FROM rowcast.feed WHERE name = %s"
            row = await (await connection.execute(query, [self._config.name])).fetchone()
        reason = known.owed or known.move
        self._owes = bool(reason)
        if row is not None and isinstance(row[0], list):
            self._saved = row[0]
            self._telling.known = self._saved_triggers = row[1]
        return FoundMarks(self._saved, reason)

    async def save_last(self, outlet: FeedOutlet) -> None:
        """As `save`, before the process ends: whoever installed meanwhile wants the next one to go on from here."""
        self._looked_at = -LOOK_AGAIN_S
        await self._save(outlet, patient(self._config))

    async def save(self, outlet: FeedOutlet) -> None:
        """Keep the marks as they are now, once what they cover is durable, and so is the gap that was owed.

        Raises:
            psycopg.Error: not saved.
        """
        await self._save(outlet, self._config)

    async def _save(self, outlet: FeedOutlet, config: FeedConfig) -> None:
        marks, triggers = self._marks.saved(), self._telling.known
        if marks == self._saved and triggers == self._saved_triggers and not self._owes:
            return
        if not self._is_possible and time.monotonic() < self._looked_at + LOOK_AGAIN_S:
            return
        await outlet.durable()
        async with connected(config) as connection:
            if not (self._is_possible or await self._look(connection)):
                return
            values = [config.name, Jsonb(marks)]
            await write_as_installed(connection, (_SAVE, values), (_SAVE_UNSEALED, values))
            if triggers != self._saved_triggers:
                with suppress(psycopg.errors.UndefinedColumn):  # installed by an earlier version
                    query = "UPDATE rowcast.feed SET captured = %s WHERE name = %s"
                    await connection.execute(query, [Jsonb(triggers), config.name])
            if self._owes:
                await owe_nothing(connection, config.name)
        self._saved, self._saved_triggers, self._owes = marks, triggers, False

    def _say_that_nothing_is_kept(self) -> None:
        if not self._has_said:
            self._has_said = True
            logger.warning(
                "feed %s: how far it got is not kept between two starts, so rows that are committed while it is away"
                " are lost, and no gap tells it; %s makes it so",
                self._config.name,
                INSTALL_COMMAND,
            )

    async def _look(self, connection: TrioConnection) -> bool:
        """Whether marks are kept in this database."""
        self._looked_at = time.monotonic()
        row = await (await connection.execute(_USABLE, [self._config.name])).fetchone()
        self._is_possible = row == (True,)
        return self._is_possible
