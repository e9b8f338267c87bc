"""What a `listen` feed says of rows that may be missing: of which tables or kinds, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from broker.config.feeds import FeedConfig
from broker.feed.gaps import announce
from broker.feed.outlet import FeedOutlet
from broker.feed.status import FeedStatus

UNTOLD: Final = (
    "a trigger was taken away, off for a while or made anew, or its function, so rows may be unheard"
)

LOST: Final = (
    "a table made anew, emptied or restored, or not there when Rowcast started, or another key,"
    " or one notified that can't be one, so no place is known"
)

GONE: Final = "a table that is not there, so its rows can't be read again"

UNFETCHED: Final = "a table that was not there when rows came with their key only, so they were dropped"


def announce_tables(status: FeedStatus, outlet: FeedOutlet, whys: Mapping[str, Collection[str]]) -> None:
    """Announce one gap of all the tables, if there are any.

    Args:
        whys: the tables by the reason; of several reasons only a table's first is said.
    """
    told: list[str] = []
    named: list[str] = []
    for why, tables in whys.items():
        further = [table for table in tables if table not in named]
        if further:
            told.append(f"{', '.join(further)}: {why}")
            named += further
    if told:
        announce(status, outlet, "; ".join(told), "", "now", named)


def unrecovered(config: FeedConfig) -> list[str]:
    """The routed kinds that no `recover` reads again, in words."""
    covered = {pair for recovery in config.recoveries for pair in recovery.kinds}
    words = []
    for source in config.sources:
        kinds = {route.kind for route in config.routes if route.source == source.name}
        if None in kinds and not source.kind_path:
            kinds = kinds - {None} | set(source.listen)
        named = sorted(kind for kind in kinds if kind is not None and (source.name, kind) not in covered)
        if None in kinds:
            but = sorted(kind for name, kind in covered if name == source.name)
            words.append(f"every kind of {source.name}" + (f" but {', '.join(but)}" if but else ""))
        elif named:
            words.append(f"{', '.join(named)} of {source.name}")
    return words
