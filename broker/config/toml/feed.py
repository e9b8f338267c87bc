"""[database] and the routes of a TOML configuration to a FeedConfig."""

from __future__ import annotations

from collections.abc import Sequence, Set
from difflib import get_close_matches
from typing import Final

from attrs import evolve

from broker.config.dialects.gateway import DIALECT_KINDS
from broker.config.feeds import FEED_KINDS, FeedConfig, Route
from broker.config.ingest import IngestConfig
from broker.config.market import PREFIX, MarketConfig
from broker.config.templates import OPERATION, POSITION, names_in
from broker.config.toml.checks import check_choice, check_dsn, check_name, with_password
from broker.config.toml.document import Document, array_of, without_routes
from broker.config.toml.ingest import sinks_of
from broker.config.toml.lines import Path
from broker.config.toml.market import MarketReader
from broker.config.toml.properties import KEYS
from broker.config.toml.reader import Reader
from broker.config.toml.routes import check_inherited, mqtt_route, websocket_route
from broker.config.toml.sources import INTAKE_KINDS, Origins
from broker.config.toml.tables import (
    DatabaseTable,
    MqttRouteTable,
    MqttTable,
    WebsocketRouteTable,
    WebsocketTable,
)

_OF_A_PLACE: Final = frozenset({"snapshot", "position", POSITION})
"""Of rows that come from where a feed goes on."""
_OF_A_CHANGE: Final = frozenset({"operations", "operation", "delete_clears", OPERATION})
"""Of rows of which it is known what was done to them, as of those that a query gave before and gives no more."""


def are_intakes(document: Document) -> bool:
    """Whether no source needs the database's feed."""
    sources = document.get("source")
    return isinstance(sources, dict) and all(
        isinstance(table, dict) and any(kind in table for kind in INTAKE_KINDS) for table in sources.values()
    )


class FeedReader:
    """What one document says about its database.

    Args:
        reader: structures tables and takes mistakes.
        document: as tomllib gave it.
        websocket: its [websocket], or an empty one.
        dialects: the names of those that are set up.
    """

    def __init__(
        self, reader: Reader, document: Document, websocket: WebsocketTable, dialects: Sequence[str]
    ) -> None:
        self._reader = reader
        self._document = document
        self._websocket = websocket
        self._dialects = dialects
        self._database = self._read_database()
        kind = FEED_KINDS.get(self._database.kind) if self._database is not None else None
        self._keeps_place = kind is not None and kind.keeps_place
        self._origins = Origins(reader, document, self._keeps_place)
        self._market = MarketReader(reader, document, self._origins, self._keeps_place)
        self.market = MarketConfig()
        """After `read`: what is calculated."""
        self.ingest: IngestConfig | None = None
        """After `read`: what is written to the database."""
        self.routes: list[tuple[Path, Route]] = []
        self._written_routes = 0

    def read(self) -> FeedConfig | None:
        """The feed; None without a [database], or if that is broken."""
        self._read_routes()
        self._check_use()
        feed = self._feed()
        self.ingest = sinks_of(self._reader, self._document, feed)
        routes = [route for _, route in self.routes]
        if len(self.routes) == self._written_routes:
            self._market.check_use(routes, self._origins.intakes, self._database is not None)
        self.market = self._market.config(feed, routes, self._origins.intakes)
        is_only_written_to = self.ingest is not None and not self._keeps_place
        is_idle = feed is not None and not feed.sources and (self.market.is_used or is_only_written_to)
        return None if is_idle else feed

    def _feed(self) -> FeedConfig | None:
        database = self._database
        if database is None:
            return None
        own = [route for _, route in self.routes if route.source in self._origins.sources]
        return FeedConfig(
            name=database.name,
            dsn=database.dsn,
            kind=database.kind,
            sources=tuple(self._origins.sources.values()),
            routes=(*own, *self._market.routes()),
            recoveries=tuple(recovery for _, recovery in self._origins.recoveries),
            fetches=tuple(fetch for _, fetch in self._origins.fetches),
            replication=database.replication,
            check_interval_s=database.check_interval_s,
            check_timeout_s=database.check_timeout_s,
        )

    def _read_database(self) -> DatabaseTable | None:
        if "database" not in self._document:
            for name in ("source", "recover", "fetch"):
                if name in self._document and not (name == "source" and are_intakes(self._document)):
                    self._reader.wrong((name,), f"{name} without a database: add [database] with its dsn")
            return None
        database = self._reader.structure(self._document["database"], DatabaseTable, ("database",))
        if database is not None:
            check_choice(self._reader, ("database", "kind"), database.kind, tuple(FEED_KINDS))
            if database.kind not in FEED_KINDS:
                # What may have been meant, so that nothing else seems wrong for it.
                meant = next(iter(get_close_matches(database.kind, FEED_KINDS, 1)), "wal")
                database = evolve(database, kind=meant)
            check_name(self._reader, ("database", "name"), database.name)
            check_dsn(self._reader, ("database", "dsn"), database.dsn)
            dsn = with_password(self._reader, ("database", "password"), database.dsn, database.password)
            database = evolve(database, dsn=dsn)
        return database

    def _read_routes(self) -> None:
        inherited = (
            self._reader.structure(without_routes(self._document, "mqtt"), MqttTable, ("mqtt",))
            or MqttTable()
        )
        check_inherited(self._reader, inherited, self._websocket)
        for index, value in enumerate(array_of(self._reader, self._document, "mqtt", "route")):
            path: Path = ("mqtt", "route", index)
            mqtt = self._reader.structure(value, MqttRouteTable, path)
            self._written_routes += 1
            if mqtt is not None:
                self._add(path, value, mqtt_route(self._reader, path, mqtt, inherited))
        for index, value in enumerate(array_of(self._reader, self._document, "websocket", "route")):
            path = ("websocket", "route", index)
            with_channels = [name for name in self._dialects if DIALECT_KINDS[name].has_channels]
            if "dialect" not in value and len(with_channels) == 1:
                value["dialect"] = with_channels[0]
            websocket = self._reader.structure(value, WebsocketRouteTable, path)
            self._written_routes += 1
            if websocket is not None:
                source = self._origins.sources.get(websocket.source)
                self._add(
                    path, value, websocket_route(self._reader, path, websocket, self._websocket, source)
                )

    def _add(self, path: Path, written: Document, route: Route) -> None:
        self._check_origin(path, route)
        unknown = self._unknown_of(route.source)
        for name in unknown & written.keys():
            self._reader.wrong((*path, name), f'{name}: only for the database kinds "wal" and "outbox"')
        if OPERATION in unknown and any(OPERATION in names_in(topic) for topic in route.topics):
            what = f'topics: {{{OPERATION}}} is known only with the database kinds "wal" and "outbox"'
            self._reader.wrong(path, what)
        self._check_properties(path, route)
        if route.source.startswith(PREFIX):
            for name in KEYS:
                if name in written:
                    what = f"{name}: messages of {route.source} have no properties: only those of rows do"
                    self._reader.wrong((*path, name), what)
        if route.delete_clears and not (route.retain and "delete" in route.operations):
            what = 'delete_clears: only with `retain = true` and "delete" among the operations'
            self._reader.wrong((*path, "delete_clears"), what)
        if route.columns and route.body == "raw":
            what = 'columns: body "raw" is the whole text, in which no column is left out: use "row" or "envelope"'
            self._reader.wrong((*path, "columns"), what)
        for name in ("position", "operation"):
            if getattr(route, name) and route.body == "row":
                what = f'{name}: a row\'s own text has no room for it: use body "envelope"'
                self._reader.wrong((*path, name), what)
        for other_path, other in self.routes:
            if evolve(other, where=route.where) == route:
                line = self._reader.line_of(other_path)
                self._reader.wrong(
                    path, f"the same route as on line {line}: it would publish everything twice"
                )
        self.routes.append((path, route))

    def _check_properties(self, path: Path, route: Route) -> None:
        names = route.properties.names()
        for name in (OPERATION, POSITION):
            if name in names and name in self._unknown_of(route.source):
                key = _naming(route, name)
                what = f'{key[0]}: {{{name}}} is known only with the database kinds "wal" and "outbox"'
                self._reader.wrong((*path, *key), what)

    def _unknown_of(self, source: str) -> Set[str]:
        """Keys and names that say nothing of this source's rows."""
        if self._keeps_place and source not in self._intakes():
            return frozenset()
        return _OF_A_PLACE if self._is_query(source) else _OF_A_PLACE | _OF_A_CHANGE

    def _intakes(self) -> set[str]:
        return {one.feed.name for _, one in self._origins.intakes}

    def _is_query(self, source: str) -> bool:
        return any(one.kind == "query" and one.feed.name == source for _, one in self._origins.intakes)

    def _check_origin(self, path: Path, route: Route) -> None:
        if route.source.startswith(PREFIX):
            if not self._market.is_declared(route.source):
                self._reader.wrong((*path, "from"), f"from: {self._market.unknown(route.source)}")
            return
        if not self._origins.is_declared(route.source):
            self._reader.wrong((*path, "from"), f"from: {self._origins.unknown(route.source)}")
            return
        kinds = self._origins.kinds_of(route.source)
        if route.kind is not None and kinds is not None and route.kind not in kinds:
            known = ", ".join(sorted(kinds)) or "none"
            self._reader.wrong(
                (*path, "kind"), f"kind: source {route.source} has no {route.kind}: its kinds are {known}"
            )

    def _check_use(self) -> None:
        """Sources and kinds that nothing takes."""
        if (
            not self._keeps_place
            and self._database is not None
            and "source" not in self._document
            and "market" not in self._document
            and not array_of(self._reader, self._document, "mqtt", "sink")
        ):
            self._reader.wrong(
                ("database",),
                "nothing is taken from the database: add [source.NAME], or [[mqtt.sink]] to write to it",
            )
        sources = {route.source for _, route in self.routes if not route.source.startswith(PREFIX)}
        if not all(map(self._origins.is_declared, sources)) or len(self.routes) < self._written_routes:
            return  # a broken one may be what is missing
        for name in self._origins.sources:
            taken = [*(route for _, route in self.routes), *self._market.routes()]
            routed = {route.kind for route in taken if route.source == name}
            path: Path = ("source", name)
            if not routed:
                self._reader.wrong(path, f"no route takes anything from {name}: add a route, or remove it")
            elif None not in routed:
                for kind in sorted((self._origins.kinds_of(name) or set()) - routed):
                    self._reader.wrong(
                        path, f"no route takes {kind} of {name}: add a route, or don't listen to it"
                    )
        for path, table in self._origins.tables():
            for source, kind in table.kinds:
                routed = {route.kind for _, route in self.routes if route.source == source}
                if source in self._origins.sources and not routed & {kind, None}:
                    self._reader.wrong((*path, "kind"), f"kind: no route takes {kind} of {source}")


def _naming(route: Route, name: str) -> tuple[str, ...]:
    """The key of a route's properties that names this."""
    wanted = route.properties
    for key in ("content_type", "response_topic", "correlation_data"):
        if name in names_in(getattr(wanted, key), in_property=True):
            return (key,)
    for key, text in wanted.user_properties:
        if name in names_in(text, in_property=True):
            return ("user_properties", key)
    return ("expiry",)
