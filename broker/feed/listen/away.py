"""Tables that are not there: what is said of them, while the rows of all others go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import psycopg

from broker.feed.status import FeedStatus

AWAY: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)
"""One table is not there: dropped, renamed, or its key.  That is no matter of the others."""

RECOVER: Final = "recover "
"""How the names of the troubles of those with a `recover` begin."""


def say_who_is_away(away: Mapping[str, str], status: FeedStatus) -> None:
    """Make each table with a `recover` a trouble, and end those of the ones that are back.

    Args:
        away: why each of them can't be read.
    """
    for name in list(status.troubles):
        if name.startswith(RECOVER) and name.removeprefix(RECOVER) not in away:
            status.over(name)
    for table, why in away.items():
        text = f"{table} can't be read again ({why}): its rows come as they are notified, those of others as ever"
        status.trouble(RECOVER + table, text)
