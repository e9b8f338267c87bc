"""Which tables a feed takes rows from, and what each changed row becomes.  Pure.

A table's rows come under a kind of one or more sources: `schema.table` in the sources that list it, and the
kinds that a `recover` or a `fetch` gives it, so that routes made for `listen` serve `wal` and `outbox` unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from broker.config.feeds import OPERATIONS, FeedConfig, Route, Source
from broker.config.templates import POSITION
from broker.feed.routing.routes import CompiledRoute, Outgoing, Router
from broker.feed.routing.rowtext import Columns
from broker.feed.status import FeedStatus


@frozen
class Appearance:
    """Under which kind of which source a table's rows come."""

    table: str
    source: str
    kind: str

    def wanted_by(self, route: Route) -> bool:
        """Whether rows of this appearance are the route's."""
        return route.source == self.source and route.kind in (self.kind, None)


@frozen
class _RoutedKind:
    router: Router
    source: str
    kind: str
    snapshot: bool

    def publications(
        self, text: bytes, columns: Columns | None, now: float, operation: str, position: bytes = b""
    ) -> list[Outgoing]:
        if columns is None:
            row = self.router.row(self.source, self.kind, text, now)
        else:
            row = self.router.changed_row(self.source, self.kind, columns, text)
        if row is None:
            return []
        row.operation = operation
        row.position = position
        return self.router.publications(row, now)


@frozen
class RouteSnapshot:
    """What one route wants before its first live row.  `query` is "" for the whole table."""

    table: str
    query: str
    routed_kind: _RoutedKind

    def publications(self, text: bytes, now: float) -> list[Outgoing]:
        """What the routes make of a row that a snapshot read."""
        return self.routed_kind.publications(text, None, now, "snapshot")


@frozen
class RoutedTable:
    """A table's rows under one kind of one source, and the routes that take them from there."""

    source: Source
    kind: str
    routes: tuple[CompiledRoute, ...]


def qualified(table: str) -> str:
    """The table's name with its schema, `public` where none is written."""
    return table if "." in table else f"public.{table}"


def appearances(config: FeedConfig) -> list[Appearance]:
    """Every (table, source, kind) of a feed, without repetition, in the configuration's order."""
    listed = [
        Appearance(qualified(table), source.name, table)
        for source in config.sources
        for table in source.tables
    ]
    read_by_key = [
        Appearance(qualified(table.table), source, kind)
        for table in config.keyed_tables
        for source, kind in table.kinds
    ]
    return list(dict.fromkeys(listed + read_by_key))


def table_operations(config: FeedConfig) -> dict[str, tuple[str, ...]]:
    """The tables that have a route, and which of their operations are wanted by any."""
    wanted: dict[str, set[str]] = {}
    for appearance in appearances(config):
        for route in filter(appearance.wanted_by, config.routes):
            wanted.setdefault(appearance.table, set()).update(route.operations)
    return {table: tuple(o for o in OPERATIONS if o in some) for table, some in wanted.items()}


def snapshot_tables(config: FeedConfig) -> list[str]:
    """The tables of the routes that have a snapshot."""
    with_snapshot = [route for route in config.routes if route.snapshot]
    return list(dict.fromkeys(a.table for a in appearances(config) if any(map(a.wanted_by, with_snapshot))))


class TableRoutes:
    """A feed's routes by table and operation."""

    def __init__(self, config: FeedConfig, status: FeedStatus) -> None:
        self._kinds: dict[tuple[str, str], list[_RoutedKind]] = {}
        self.snapshots: list[RouteSnapshot] = []
        for operation in OPERATIONS:
            for snapshot in (False, True):
                self._add_kinds(config, status, operation, snapshot)
        self.shows_positions = any(
            route.position or POSITION in route.properties.names() for route in config.routes
        )
        for route in config.routes:
            if route.snapshot:
                self.snapshots.extend(_snapshots(config, status, route))

    def of_table(self, table: str, operation: str) -> list[RoutedTable]:
        """Where the changes of a table go, in order."""
        return [
            RoutedTable(
                routed_kind.router.source(routed_kind.source),
                routed_kind.kind,
                routed_kind.router.routes_of(routed_kind.source, routed_kind.kind),
            )
            for routed_kind in self._kinds.get((table, operation), ())
        ]

    def publications(
        self,
        table: str,
        operation: str,
        text: bytes,
        now: float,
        in_snapshot: bool,
        columns: Columns | None = None,
        position: bytes = b"",
    ) -> list[Outgoing]:
        """What a changed row becomes.

        Args:
            operation: `insert`, `update` or `delete`.
            text: the row's JSON.
            now: monotonic seconds.
            in_snapshot: the change is part of the snapshot, so the routes that had one don't get it again.
            columns: the row's columns, where they are known without reading the text.
            position: the change's place in the feed's order, in words.
        """
        outgoing: list[Outgoing] = []
        for routed_kind in self._kinds.get((table, operation), ()):
            if not (in_snapshot and routed_kind.snapshot):
                outgoing += routed_kind.publications(text, columns, now, operation, position)
        return outgoing

    def _add_kinds(self, config: FeedConfig, status: FeedStatus, operation: str, snapshot: bool) -> None:
        routes = tuple(r for r in config.routes if operation in r.operations and bool(r.snapshot) == snapshot)
        router = Router(evolve(config, routes=routes), status)
        for appearance in appearances(config):
            if any(map(appearance.wanted_by, routes)):
                routed_kind = _RoutedKind(router, appearance.source, appearance.kind, snapshot)
                self._kinds.setdefault((appearance.table, operation), []).append(routed_kind)


def _snapshots(config: FeedConfig, status: FeedStatus, route: Route) -> Iterator[RouteSnapshot]:
    router = Router(evolve(config, routes=(route,)), status)
    query = "" if route.snapshot == "table" else route.snapshot
    for appearance in filter(lambda a: a.wanted_by(route), appearances(config)):
        yield RouteSnapshot(
            appearance.table, query, _RoutedKind(router, appearance.source, appearance.kind, True)
        )
