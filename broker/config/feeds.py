"""What a configuration says about Postgres, and about what becomes of its rows, as values.

The mapping language: a *source* is where rows come from, a *kind* names what a row is, a *route* turns rows
of one kind into publications, *recover* says how to re-read a kind by key after a gap, *fetch* how to read a row
that was too long for its notification.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, field, frozen

from broker.config.properties import NO_PROPERTIES, PropertyTemplates

OPERATIONS: Final = ("insert", "update", "delete")
"""What is done to a row, in the order in which the parts of an installation have them."""


@frozen
class Source:
    """Postgres channels that carry rows.

    `kind_path` and `row_path` are JSON paths of plain keys, `("channel",)` for `$.channel`; empty `kind_path`
    means that the kind is the Postgres channel's name, empty `row_path` that the whole text is the row.
    """

    name: str
    listen: tuple[str, ...]
    kind_path: tuple[str, ...] = ()
    row_path: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    """For the kinds `wal` and `outbox`: `schema.table` each, which is also the kind of its rows.  A table of a
    `recover` or a `fetch` need not be listed: its rows come under the kinds that are given there."""


@frozen
class Route:
    """Rows of one source (and, if given, one kind) to publications.

    `topics` are templates: text with `{column}` or `{$kind}`.  `target` is `mqtt`, or a dialect's name, whose
    topics are channel names in that dialect.
    """

    source: str
    topics: tuple[str, ...]
    kind: str | None = None
    target: str = "mqtt"
    body: str = "row"
    """`row`: the row's JSON text; `raw`: the notification's text; `envelope`: the row in its dialect's frame."""
    qos: int = 1
    retain: bool = False
    once_per: tuple[str, ...] = ()
    once_for_s: float = 3600.0
    on_null: str = "drop"
    """`drop`, or the text to use for a NULL."""
    on_unsafe: str = "drop"
    """`drop`, `percent` (percent-encode), or the text to use."""
    operations: tuple[str, ...] = ("insert",)
    """For `wal` and `outbox`: which of `insert`, `update`, `delete` the route wants."""
    snapshot: str = ""
    """For `wal` and `outbox`: what is published before the first live row.  `table` is the whole table, other
    text a query whose rows look like the table's; "" is nothing."""
    position: bool = False
    """For `wal` and `outbox`, where the body is an envelope: add a last member `"position"`, which orders all
    publications of the feed and is the same when one is repeated."""
    operation: bool = False
    """As `position`: add a member `"operation"`, which says what was done to the row."""
    delete_clears: bool = False
    """For `wal` and `outbox`, with `retain` and the operation `delete`: a deleted row publishes an empty body, which
    clears the topic."""
    columns: tuple[str, ...] = ()
    """The only columns of a row that are in its body; () is all of them."""
    condition: str = ""
    """`where` of the configuration: rows that don't fulfil it are not published; see `broker.config.conditions`."""
    properties: PropertyTemplates = NO_PROPERTIES
    """For `mqtt`: what receivers that speak MQTT 5.0 get beside the body."""
    where: str = ""
    """The place in the configuration, as `FILE:LINE`, for messages."""


@frozen
class Replication:
    """What the kinds `wal` and `outbox` may be told."""

    slot: str = ""
    """For `wal`; "" is `rowcast_NAME`, the feed's name."""
    publication: str = ""
    """For `wal`; "" is `rowcast_NAME`."""
    allow_unbounded_wal: bool = False
    """For `wal`: start although `max_slot_wal_keep_size` is -1, so that a slot may fill the disk."""
    lag_alarm_bytes: int = 256 * 1024 * 1024
    """For `wal`: WAL kept for the slot above which the log and `$SYS` raise an alarm."""
    keep_s: float = 3600.0
    """For `outbox`: how long rows that every consumer has read are kept."""
    keep_unread_s: float = 7 * 86400.0
    """For `outbox`: how long rows that a consumer has not read are kept; a gap is announced to it."""
    poll_s: float = 5.0
    """For `outbox`: how long a wake-up may be missed."""


@frozen
class Recovery:
    """How the rows of one table are read again, in the order of `key`, after a gap.

    `kinds` pairs a source with the kind under which the table's rows come from it: one table may feed several
    sources.  Right only where rows become visible in the order of their keys, as with a single writer.
    """

    table: str
    key: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    where: str = ""


@frozen
class Fetch:
    """How a row is read whose notification has only its key, because Postgres carries no more than 7 999 bytes.

    `kinds` is as in `Recovery`.  The columns of `key` together identify a row.
    """

    table: str
    key: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    when: tuple[str, ...] = ()
    """JSON path in the notification's text to the member that says that there is only a key: neither false nor
    null.  Empty: it is one whose row has no other columns than those of `key`."""
    where: str = ""


@frozen
class FeedKind:
    """What a kind of feed can do."""

    name: str
    captures_by: str
    """What brings changed rows: `publication`, `trigger`, or "" where only notifications do."""
    keeps_place: bool
    """It goes on where it was, so that one process at a time may run it, and a reload may connect anew; its rows have a
    position, an operation, and a snapshot before them."""


FEED_KINDS: dict[str, FeedKind] = {
    kind.name: kind
    for kind in (
        FeedKind("listen", "", keeps_place=False),
        FeedKind("wal", "publication", keeps_place=True),
        FeedKind("outbox", "trigger", keeps_place=True),
    )
}


_CREDENTIALS: Final = ("password", "passfile", "sslpassword", "sslcert", "sslkey", "sslrootcert", "sslcrl")
"""What is asked at the next connection only, so that another needs none."""


def _place(dsn: str) -> dict[str, object]:
    """Which database it is, and as whom; however the text is written."""
    from psycopg.conninfo import conninfo_to_dict  # not needed by whoever has no database

    return {name: value for name, value in conninfo_to_dict(dsn).items() if name not in _CREDENTIALS}


@frozen
class FeedConfig:
    """One Postgres database and everything taken from it."""

    name: str
    dsn: str = field(repr=False)
    kind: str = "listen"
    sources: tuple[Source, ...] = ()
    routes: tuple[Route, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    fetches: tuple[Fetch, ...] = ()
    replication: Replication = field(factory=Replication)
    check_interval_s: float = 5.0
    """How long a connection may be silent before it is asked for a sign of life."""
    check_timeout_s: float = 5.0
    """How long the answer may take before the connection counts as dead."""

    @property
    def captures_by(self) -> str:
        """As its kind."""
        return FEED_KINDS[self.kind].captures_by

    @property
    def keeps_place(self) -> bool:
        """As its kind."""
        return FEED_KINDS[self.kind].keeps_place

    def adopting(self, wanted: FeedConfig) -> FeedConfig:
        """This with those settings of another that need no new connection, during which notifications would be lost."""
        taken = ("routes", "check_interval_s", "check_timeout_s")
        adopted = evolve(self, **{name: getattr(wanted, name) for name in taken})
        is_same_database = self.dsn == wanted.dsn or _place(self.dsn) == _place(wanted.dsn)
        return evolve(adopted, dsn=wanted.dsn) if is_same_database else adopted

    @property
    def keyed_tables(self) -> tuple[Recovery | Fetch, ...]:
        """The tables whose rows come under kinds of sources, whatever the feed's kind."""
        return (*self.recoveries, *self.fetches)
