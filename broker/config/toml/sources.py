"""[source.NAME], [[recover]] and [[fetch]] of a TOML configuration: where rows come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from broker.config.feeds import FeedConfig, Fetch, Recovery, Source
from broker.config.market import Intake, SequencePaths
from broker.config.toml.checks import address_of, json_path, json_path_through_arrays
from broker.config.toml.document import Document, array_of, tables_of
from broker.config.toml.lines import Path
from broker.config.toml.message_rows import check_unused, rows_config
from broker.config.toml.reader import Reader
from broker.config.toml.tables import FetchTable, RecoverTable, SequenceTable, SourceTable
from protocol.mqtt.topics import is_valid_topic_filter

T = TypeVar("T", bound=RecoverTable)

INTAKE_KINDS = ("query", "tcp", "udp", "mqtt")
QUERY_EVERY_S_MIN = 0.05

CHANNEL_BYTES_MAX = 63
"""Of a Postgres channel's name: NAMEDATALEN."""


class Origins:
    """What one document says about where rows come from.

    Args:
        reader: structures tables and takes mistakes.
        document: as tomllib gave it.
        keeps_place: as of the database's kind.
    """

    def __init__(self, reader: Reader, document: Document, keeps_place: bool) -> None:
        self._reader = reader
        self._declared = tables_of(reader, document, "source")
        self._keeps_place = keeps_place
        self.sources: dict[str, Source] = {}
        self.recoveries: list[tuple[Path, Recovery]] = []
        self.fetches: list[tuple[Path, Fetch]] = []
        self.intakes: list[tuple[Path, Intake]] = []
        self._read_sources()
        self._read_recoveries(array_of(reader, document, "recover"))
        self._read_fetches(array_of(reader, document, "fetch"))

    def is_declared(self, source: str) -> bool:
        """Whether there is such a table, even one with mistakes."""
        return source in self._declared

    def unknown(self, name: str) -> str:
        """What to say of a source that isn't declared."""
        known = ", ".join(self._declared)
        return f"no source {name}: " + (f"there are {known}" if known else f"add [source.{name}]")

    def kinds_of(self, name: str) -> set[str] | None:
        """The kinds that can come from a source; None if rows name their kind themselves, or nobody can say."""
        source = self.sources.get(name)
        for _, intake in self.intakes:
            if intake.feed.name == name:
                source = intake.feed.sources[0]
        if source is None or source.kind_path:
            return None
        read = {kind for _, table in self.tables() for of, kind in table.kinds if of == name}
        return {*source.listen, *source.tables, *read}

    def tables(self) -> list[tuple[Path, Recovery | Fetch]]:
        """The tables that are read by key."""
        return [*self.recoveries, *self.fetches]

    def _read_sources(self) -> None:
        taken: dict[str, str] = {}
        for name, value in self._declared.items():
            path: Path = ("source", name)
            table = self._reader.structure(_written_out(value), SourceTable, path)
            if table is None:
                continue
            if kinds := [kind for kind in INTAKE_KINDS if getattr(table, kind)]:
                self._read_intake(path, name, table, kinds)
                continue
            check_unused(self._reader, path, table)
            for index, channel in enumerate(table.listen):
                self._check_channel((*path, "listen", index), channel, taken, name)
            for index, named in enumerate(table.tables):
                self._check_named_table((*path, "tables", index), named)
            if not self._keeps_place:
                self._check_listening(path, table)
            kind_path = json_path(self._reader, (*path, "kind"), table.kind)
            row_path = json_path(self._reader, (*path, "row"), "".join(table.row[:1]))
            if kind_path and row_path and kind_path[: len(row_path)] == row_path[: len(kind_path)]:
                self._reader.wrong((*path, "row"), "row: one of kind and row lies inside the other")
            self.sources[name] = Source(name, table.listen, kind_path, row_path, table.tables)

    def _read_intake(self, path: Path, name: str, table: SourceTable, kinds: list[str]) -> None:
        """A source that is no table and no channel of Postgres."""
        reader = self._reader
        if len(kinds) > 1 or table.listen or table.tables:
            others = [*kinds, *(["listen"] if table.listen else []), *(["tables"] if table.tables else [])]
            reader.wrong(
                path, f"{name}: one of {' and '.join(others)} is wanted, not both: make them two sources"
            )
        kind = kinds[0]
        host, port = "", 0
        filters: tuple[str, ...] = ()
        if kind in ("tcp", "udp"):
            host, port = address_of(reader, (*path, kind), getattr(table, kind))
        if kind == "mqtt":
            filters = table.mqtt
            for index, text in enumerate(table.mqtt):
                if not is_valid_topic_filter(text.encode()) or text.startswith("$"):
                    reader.wrong(
                        (*path, "mqtt", index), "mqtt: a topic filter is wanted, such as engine/+/trades"
                    )
        if kind == "query":
            if not table.key:
                reader.wrong(
                    (*path, "query"), "key is missing: name the columns that identify a row of the query"
                )
            if table.every_s < QUERY_EVERY_S_MIN:
                reader.wrong(
                    (*path, "every"), f'every: at least "{round(QUERY_EVERY_S_MIN * 1000)}ms" is wanted'
                )
        kind_path = json_path_through_arrays(reader, (*path, "kind"), table.kind)
        if kind == "query":
            check_unused(reader, path, table)
        rows = rows_config(reader, path, table)
        sequence = self._sequence((*path, "sequence"), table.sequence)
        row_path = rows.paths[0] if rows.paths and rows.is_plain(kind_path) else ()
        source = Source(name, (name,), kind_path, row_path)
        feed = FeedConfig(name, table.dsn, kind, (source,))
        intake = Intake(
            kind, feed, host, port, filters, table.query, table.key, table.every_s, sequence, rows
        )
        self.intakes.append((path, intake))

    def _sequence(self, path: Path, table: SequenceTable | None) -> SequencePaths | None:
        if table is None or table.last in ("", "$"):
            return None
        reader = self._reader
        if table.first and table.previous:
            reader.wrong(path, "sequence: one of first and previous is wanted, not both")
        last, first, previous, by = (
            json_path_through_arrays(reader, path, text)
            for text in (table.last, table.first, table.previous, table.by)
        )
        return SequencePaths(last, first, previous, by)

    def _check_channel(self, path: Path, channel: str, taken: dict[str, str], source: str) -> None:
        if not channel or len(channel.encode(errors="replace")) > CHANNEL_BYTES_MAX:
            self._reader.wrong(path, f"listen: a Postgres channel's name has 1 to {CHANNEL_BYTES_MAX} bytes")
        if channel in taken:
            self._reader.wrong(
                path, f"listen: {channel} belongs to source {taken[channel]} already: listen to it once"
            )
        taken.setdefault(channel, source)

    def _check_named_table(self, path: Path, named: str) -> None:
        if "*" in named or "%" in named:
            what = f'tables: {named} is no table: name each, as "public.orders"; patterns are not looked up'
            self._reader.wrong(path, what)

    def _check_listening(self, path: Path, table: SourceTable) -> None:
        if table.tables:
            self._reader.wrong((*path, "tables"), 'tables: only for the database kinds "wal" and "outbox"')
        elif not table.listen:
            self._reader.wrong(path, f'{path[-1]} listens to nothing: add `listen = "CHANNEL"`')

    def _read_recoveries(self, tables: list[dict[str, Any]]) -> None:
        for index, value in enumerate(tables):
            path: Path = ("recover", index)
            table, kinds = self._read_table(value, RecoverTable, path)
            if table is not None:
                recovery = Recovery(table.table, table.key, kinds, self._reader.where(path))
                self.recoveries.append((path, recovery))

    def _read_fetches(self, tables: list[dict[str, Any]]) -> None:
        for index, value in enumerate(tables):
            path: Path = ("fetch", index)
            table, kinds = self._read_table(value, FetchTable, path)
            if table is not None:
                when = json_path(self._reader, (*path, "when"), table.when)
                fetch = Fetch(table.table, table.key, kinds, when, self._reader.where(path))
                self._check_fetch(path, fetch)
                self.fetches.append((path, fetch))

    def _read_table(
        self, value: dict[str, Any], cls: type[T], path: Path
    ) -> tuple[T | None, tuple[tuple[str, str], ...]]:
        rest = {key: member for key, member in value.items() if key != "kind"}
        table = self._reader.structure(rest, cls, path)
        kinds = tuple(self._kinds_of_table((*path, "kind"), value.get("kind")))
        if table is not None:
            if not all(table.table.split(".")) or table.table.count(".") > 1:
                self._reader.wrong((*path, "table"), 'table: "schema.table" or "table" is wanted')
            if not table.key:
                purpose = "identify a row" if cls is FetchTable else "put the rows in their order"
                self._reader.wrong((*path, "key"), f"key: name the columns that {purpose}")
        return table, kinds

    def _check_fetch(self, path: Path, fetch: Fetch) -> None:
        """Each kind comes from somewhere and has one table; what `recover` reads can be told from what was fetched."""
        for pair in fetch.kinds:
            self._check_carried((*path, "kind"), *pair)
            for other_path, other in self.fetches:
                if pair in other.kinds:
                    line = self._reader.line_of(other_path)
                    what = f"kind: {pair[1]} of {pair[0]} is fetched already, on line {line}: fetch it once"
                    self._reader.wrong((*path, "kind"), what)
            for other_path, recovery in self.recoveries:
                missing = [name for name in recovery.key if name not in fetch.key]
                if pair in recovery.kinds and fetch.key and missing:
                    line = self._reader.line_of(other_path)
                    what = f"key: add {', '.join(missing)}, by which the [[recover]] of line {line} knows its rows"
                    self._reader.wrong((*path, "key"), what)

    def _check_carried(self, path: Path, name: str, kind: str) -> None:
        source = self.sources.get(name)
        if (
            not self._keeps_place
            and source is not None
            and not source.kind_path
            and kind not in source.listen
        ):
            known = ", ".join(sorted(source.listen))
            self._reader.wrong(path, f"kind: source {name} has no {kind}: its kinds are {known}")

    def _kinds_of_table(self, path: Path, written: object) -> Iterator[tuple[str, str]]:
        """Pairs of source and kind from `kind = "fill"` or `kind = { events = "fill" }`."""
        if isinstance(written, str):
            yield from self._sources_carrying(path, written)
            return
        if not isinstance(written, dict) or not written:
            self._reader.wrong(path, 'kind: "KIND" is wanted, or { SOURCE = "KIND" } where sources differ')
            return
        for source, kind in written.items():
            if not isinstance(kind, str):
                self._reader.wrong(
                    (*path, source), f"kind: text in quotes is wanted for {source}: the kind's name"
                )
            elif not self.is_declared(source):
                self._reader.wrong((*path, source), f"kind: {self.unknown(source)}")
            else:
                yield source, kind

    def _sources_carrying(self, path: Path, kind: str) -> Iterator[tuple[str, str]]:
        named = [
            name for name, source in self.sources.items() if kind in source.listen and not source.kind_path
        ]
        open_ended = [name for name, source in self.sources.items() if source.kind_path]
        if self._keeps_place:
            open_ended = list(self.sources)
        found = named or (open_ended if len(open_ended) == 1 else [])
        if not found and len(self.sources) == len(self._declared):
            choice = f', so say which: {{ {open_ended[0]} = "{kind}" }}' if open_ended else ": listen to it"
            self._reader.wrong(path, f"kind: no source is known to carry {kind}{choice}")
        yield from ((name, kind) for name in found)


def _written_out(value: Any) -> Any:
    """A source's table with what may be written shortly as it is in full."""
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("sequence"), str):
        value = {**value, "sequence": {"last": value["sequence"]}}
    if isinstance(value.get("add"), dict):
        added = {
            name: {"at": one} if isinstance(one, str | list) else one for name, one in value["add"].items()
        }
        value = {**value, "add": added}
    return value
