"""Tables with a `recover` that are not there: what is said of them, while the rows of all others go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.feed.status import FeedStatus

RECOVER: Final = "recover "
"""How the names of their troubles begin."""


def say_who_is_away(away: Mapping[str, str], status: FeedStatus) -> list[str]:
    """Make each a trouble, and end those of the ones that are back.

    Args:
        away: why each of them can't be read.

    Returns:
        those that could be read before, as far as this process knows.
    """
    for name in list(status.troubles):
        if name.startswith(RECOVER) and name.removeprefix(RECOVER) not in away:
            status.over(name)
    gone = [table for table in away if RECOVER + table not in status.troubles]
    for table, why in away.items():
        text = f"{table} can't be read again ({why}): its rows come as they are notified, those of others as ever"
        status.trouble(RECOVER + table, text)
    return gone
