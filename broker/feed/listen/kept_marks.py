"""How far a `listen` feed has got, kept in the database between two processes: in `rowcast.feed`, if it is there.

Without that table (nothing was installed) marks live and die with the process.
"""

from __future__ import annotations

import logging
from typing import Final

import psycopg
from psycopg.types.json import Jsonb

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected
from broker.feed.listen.recovery import Marks
from broker.feed.status import FeedSink

_LOG = logging.getLogger("broker.feed")

SAVE_INTERVAL_S: Final = 1.0
"""What a crash repeats at most."""

_ABSENT: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InsufficientPrivilege,
)

Saved = list[list[object]]
"""Source, kind and the texts of the key, for each mark that has one."""


class KeptMarks:
    """One feed's marks, and their copy in the database."""

    def __init__(self, config: FeedConfig, marks: Marks) -> None:
        self._config = config
        self._marks = marks
        self._saved: Saved = []
        self._is_possible = bool(config.recoveries)

    @property
    def is_saved(self) -> bool:
        """Whether the next process would repeat nothing."""
        return self._is_possible and self._saved == self._marks.saved()

    async def load(self) -> bool:
        """Set the marks to where the last process was; False if that is not known.

        Raises:
            psycopg.Error: the connection failed.
        """
        try:
            query = "SELECT marks FROM rowcast.feed WHERE name = %s"
            async with connected(self._config) as connection:
                row = await (await connection.execute(query, [self._config.name])).fetchone()
        except _ABSENT:
            self._is_possible = False
            _LOG.info(
                "feed %s: how far it got is not kept between two starts; `rowcast feed install` makes it so",
                self._config.name,
            )
            return False
        if row is None or not isinstance(row[0], list):
            return False
        self._saved = row[0]
        self._marks.restore(self._saved)
        return True

    async def save(self, sink: FeedSink) -> None:
        """Keep the marks as they are now, once what they cover is durable.

        Raises:
            psycopg.Error: not saved.
        """
        marks = self._marks.saved()
        if not self._is_possible or marks == self._saved:
            return
        await sink.durable()
        async with connected(self._config) as connection:
            await connection.execute(
                "INSERT INTO rowcast.feed AS known (name, kind, marks) VALUES (%s, 'listen', %s)"
                " ON CONFLICT (name) DO UPDATE SET marks = excluded.marks",
                [self._config.name, Jsonb(marks)],
            )
        self._saved = marks
