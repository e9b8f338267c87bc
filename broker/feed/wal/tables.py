"""From a table's description and its routes to how its rows are published in one walk.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.feed.fast.columns import (
    BOOLEAN,
    MOMENT,
    NUMBER,
    OTHER,
    STRING,
    Column,
    FastChanges,
    FastKind,
    FastTable,
)
from broker.feed.fast.learning import FAST_PATH, fast_route, uses_of
from broker.feed.fast.shape import LEVEL, UNUSED
from broker.feed.routing.rowtext import notification_text
from broker.feed.routing.tables import RoutedTable, TableRoutes
from broker.feed.wal.relations import Table
from protocol import pgjson
from protocol.pgjson import Render
from protocol.pgoutput import INSERT, UPDATE

_KINDS: Final[dict[Render, int]] = {
    pgjson.number: NUMBER,
    pgjson.escape: STRING,
    pgjson.boolean: BOOLEAN,
    pgjson.timestamptz: MOMENT,
}
_OPERATIONS: Final = {INSERT: "insert", UPDATE: "update"}


def learn(changes: FastChanges, oid: int, table: Table, routes: TableRoutes) -> None:
    """Let `changes` take what comes of a table from now on, as far as it can."""
    if FAST_PATH.is_on:
        inserts, updates = (
            fast_table(table.columns, routes.of_table(table.name, operation))
            for operation in _OPERATIONS.values()
        )
        changes.learn(oid, inserts, updates)


def fast_table(columns: Sequence[tuple[str, Render]], routed: Sequence[RoutedTable]) -> FastTable | None:
    """How rows of these columns become publications; None if their rows always take the careful path.

    Args:
        routed: every kind of every source under which the rows come, and the routes that want them.
    """
    uses = uses_of([route for routed_kind in routed for route in routed_kind.routes], None)
    wanted = [name for name, _ in columns if name in uses]
    if not routed or uses.keys() - set(wanted) or not all(_may_be_wanted(c, uses) for c in columns):
        return None
    places = {name: place for place, name in enumerate(wanted)}
    kinds = []
    for routed_kind in routed:
        routes = [fast_route(route, routed_kind.kind, places) for route in routed_kind.routes]
        head, tail = notification_text(routed_kind.source, routed_kind.kind, b"\0").split(b"\0")
        is_framed = {"row": False, "raw": bool(head or tail), "envelope": True}
        positions = [route.config.position and is_framed[route.config.body] for route in routed_kind.routes]
        kinds.append(FastKind([route for route in routes if route is not None], positions, head, tail))
        if None in routes:
            return None
    return FastTable(
        [
            Column(
                (b"," if place else b"{") + pgjson.escape(name.encode(errors="surrogateescape")) + b":",
                _KINDS.get(render, OTHER),
                render,
                uses.get(name, UNUSED),
            )
            for place, (name, render) in enumerate(columns)
        ],
        kinds,
    )


def _may_be_wanted(column: tuple[str, Render], uses: dict[str, int]) -> bool:
    name, render = column
    kind, use = _KINDS.get(render, OTHER), uses.get(name, UNUSED)
    return use == UNUSED or kind in (NUMBER, STRING) or (kind == BOOLEAN and use == LEVEL)
