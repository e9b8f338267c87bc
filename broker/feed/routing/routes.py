"""Rows to publications: which topics, which body, and what happens to a row that does not fit.  Pure.

Invariant: a body is bytes that Postgres sent, never printed anew; a topic is one that MQTT allows.  A row
that fits nowhere is counted with its reason and harms nothing, not even the other routes of the same row.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve

from broker.config.conditions import parse_condition
from broker.config.dialects.gateway import DIALECT_KINDS
from broker.config.feeds import FeedConfig, Route, Source
from broker.config.properties import NO_PROPERTIES
from broker.config.templates import KIND, OPERATION, POSITION
from broker.core.added import Added
from broker.feed.routing.once import Key, Once, key_of
from broker.feed.routing.properties import RouteProperties
from broker.feed.routing.rowtext import Columns, NotARow, columns_of, locate, notification_text, only
from broker.feed.routing.templates import DialectTopics, MqttTopics, Unfit, columns_getter
from broker.feed.status import FeedStatus
from protocol.dialects.base import Dialect

Outgoing = tuple[bytes, bytes, int, bool] | tuple[bytes, bytes, int, bool, Added]
"""Topic, body, QoS, retain, and what is added to it: the arguments of `FeedOutlet.publish`."""

REMEMBERED_MAX: Final = 100_000
"""Keys kept per route for `once_per`, some 300 bytes each; beyond it the oldest go before their time."""


class Row:
    """One row on its way: what it is, its columns, and the texts of which bodies are made."""

    __slots__ = ("columns", "kind", "operation", "position", "raw", "source", "text")

    def __init__(self, source: CompiledSource, kind: str, columns: Columns, text: bytes, raw: bytes) -> None:
        self.source = source
        self.kind = kind
        self.columns = columns
        self.text = text
        """The row's JSON text."""
        self.raw = raw
        """The notification's whole text."""
        self.operation = ""
        """What was done to it, where that is known."""
        self.position = b""
        """Where it is in its feed's order, where somebody said so."""


class Router:
    """A feed's routes, compiled."""

    def __init__(self, config: FeedConfig, status: FeedStatus) -> None:
        self._status = status
        self._sources: dict[str, CompiledSource] = {}
        self.adopt(config)

    def adopt(self, config: FeedConfig) -> None:
        """Use other routes from now on; one that is as before keeps its memory for `once_per`."""
        status = self._status
        before = [route for source in self._sources.values() for route in source.compiled]
        self._sources = {
            source.name: CompiledSource(source, [r for r in config.routes if r.source == source.name], status)
            for source in config.sources
        }
        self._of_channel = {
            channel.encode(): (channel, source)
            for source in self._sources.values()
            for channel in source.config.listen
        }
        for route in [route for source in self._sources.values() for route in source.compiled]:
            for old in before:
                if evolve(old.config, where=route.config.where) == route.config:
                    route.once = old.once

    def notification(self, channel: bytes, text: bytes, now: float) -> Row | None:
        """The row in a notification; None, and counted, if there is none.

        Args:
            channel: the Postgres channel's name, one that a source listens to.
            text: as it was sent, in UTF-8.
            now: monotonic seconds.
        """
        name, source = self._of_channel[channel]
        try:
            return source.row_in(name, text)
        except NotARow as error:
            self._status.drop(error.reason, f"channel {name}", now)
            return None

    def row_in(self, channel: bytes, text: bytes) -> Row:
        """As `notification`.  Raises: NotARow."""
        name, source = self._of_channel[channel]
        return source.row_in(name, text)

    def row(self, source: str, kind: str, text: bytes, now: float) -> Row | None:
        """A row that was read from its table, as if it had been notified; None, and counted, if unreadable.

        The notification's text is built as `json_build_object` prints it, which is how triggers make it.
        """
        compiled = self._sources[source]
        try:
            columns = columns_of(text.decode())
        except (UnicodeDecodeError, NotARow) as error:
            reason = error.reason if isinstance(error, NotARow) else "not_utf8"
            self._status.drop(reason, f"kind {kind}", now)
            return None
        return Row(compiled, kind, columns, text, notification_text(compiled.config, kind, text))

    def changed_row(self, source: str, kind: str, columns: Columns, text: bytes) -> Row:
        """A row whose columns are known already, as if it had been notified."""
        compiled = self._sources[source]
        return Row(compiled, kind, columns, text, notification_text(compiled.config, kind, text))

    def source(self, name: str) -> Source:
        """The configuration of this source."""
        return self._sources[name].config

    def routes_of(self, source: str, kind: str) -> tuple[CompiledRoute, ...]:
        """The routes for rows of this kind of a source, those for any kind among them."""
        return self._sources[source].routes_of(kind)

    def publications(self, row: Row, now: float) -> list[Outgoing]:
        """What a row becomes, in the order of the routes and of their topics."""
        routes = row.source.routes_of(row.kind)
        if not routes:
            self._status.drop("no_route", f"kind {row.kind[:100]}", now)
            return []
        if len(routes) == 1:
            return routes[0].publications(row, now)
        return [outgoing for route in routes for outgoing in route.publications(row, now)]


class CompiledSource:
    """A source with the routes that take from it."""

    def __init__(self, config: Source, routes: list[Route], status: FeedStatus) -> None:
        self.config = config
        compiled = [(route.kind, CompiledRoute(route, status)) for route in routes]
        self.compiled = [made for _, made in compiled]
        self._any_kind = tuple(made for kind, made in compiled if kind is None)
        self._by_kind = {
            named: tuple(made for kind, made in compiled if kind in (named, None))
            for named, _ in compiled
            if named is not None
        }

    def routes_of(self, kind: str) -> tuple[CompiledRoute, ...]:
        """The routes for rows of this kind, those for any kind among them."""
        return self._by_kind.get(kind, self._any_kind)

    def row_in(self, channel: str, text: bytes) -> Row:
        """Raises: NotARow."""
        config = self.config
        try:
            decoded = text.decode()
        except UnicodeDecodeError:
            raise NotARow("not_utf8") from None
        if not config.kind_path and not config.row_path:
            return Row(self, channel, columns_of(decoded), text, text)
        kind, columns, start, end = locate(decoded, config.kind_path, config.row_path)
        if not config.kind_path:
            kind = channel
        elif type(kind) is not str:
            raise NotARow("no_kind")
        if len(decoded) == len(text):  # ASCII: positions in the text are positions in the bytes
            return Row(self, kind, columns, text[start:end], text)
        return Row(self, kind, columns, decoded[start:end].encode(), text)


class CompiledRoute:
    """One route: its templates ready to be filled, and its memory for `once_per`."""

    def __init__(self, config: Route, status: FeedStatus) -> None:
        self.config = config
        self._status = status
        kind = DIALECT_KINDS.get(config.target)
        self._machine = Dialect if kind is None else kind.machine
        self.topics = MqttTopics(config) if config.target == "mqtt" else DialectTopics(config)
        self.once = Once(config.once_for_s, REMEMBERED_MAX) if config.once_per else None
        self._key_of = columns_getter(config.once_per)
        self._only = frozenset(config.columns)
        self._properties = None if config.properties == NO_PROPERTIES else RouteProperties(config)
        self._decide = parse_condition(config.condition).decide if config.condition else None

    def publications(self, row: Row, now: float) -> list[Outgoing]:
        """What this route makes of a row; nothing, and counted, where it doesn't fit."""
        config, once = self.config, self.once
        row.columns[KIND] = row.kind
        if row.operation:
            row.columns[OPERATION] = row.operation
        try:
            if self._decide is not None and not self._decide(row.columns):
                return []
            key = key_of(self._key_of(row.columns))
            if once is not None and self._is_repeated(once, key, now):
                self._status.repeated += 1
                return []
            topics = self.topics.fill(row.columns)
            added = None if self._properties is None else self._added(self._properties, row)
        except KeyError as missing:
            self._drop("missing_column", str(missing.args[0]), now)
            return []
        except Unfit as unfit:
            self._drop(unfit.reason, unfit.name, now)
            return []
        if once is not None:
            once.remember(key, now)
        try:
            row_text = only(row.text, self._only) if self._only else row.text
        except NotARow as error:
            self._status.drop(error.reason, config.where, now)
            return []
        if added is not None:
            qos, retain = config.qos, config.retain
            return [(topic, self._body(row, row_text, text), qos, retain, added) for topic, text in topics]
        return [(topic, self._body(row, row_text, text), config.qos, config.retain) for topic, text in topics]

    def _added(self, properties: RouteProperties, row: Row) -> Added:
        if row.position:
            row.columns[POSITION] = row.position.decode()
        return properties.fill(row.columns)

    @property
    def is_fast(self) -> bool:
        """Whether rows go as they are, whatever is in them and was done to them."""
        is_plain = not self._only and self._decide is None and not self.config.operation
        return is_plain and self._properties is None

    def _body(self, row: Row, row_text: bytes, channel: str) -> bytes:
        body = self.config.body
        if self.config.delete_clears and row.operation == "delete":
            return b""
        if body == "row":
            return row_text
        text = row.raw if body == "raw" else self.framed(channel, row_text)
        if self.config.operation and row.operation and text is not row_text:
            text = b'%b,"operation":"%b"}' % (text[:-1], row.operation.encode())
        if self.config.position and row.position and text is not row_text:
            return b'%b,"position":"%b"}' % (text[:-1], row.position)
        return text

    def framed(self, channel: str, row: bytes) -> bytes:
        """The body `envelope`, which ends with the row and a brace."""
        return self._machine.envelope(channel, row)

    def _is_repeated(self, once: Once, key: Key, now: float) -> bool:
        try:
            return once.is_repeated(key, now)
        except TypeError:
            raise Unfit("unsafe_value", ", ".join(self.config.once_per)) from None  # an array or an object

    def _drop(self, reason: str, column: str, now: float) -> None:
        self._status.drop(reason, f"{self.config.where}: column {column!r}", now)
