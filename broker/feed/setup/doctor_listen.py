"""What the doctor asks for a feed of the kind `listen`: who notifies, and what can be read by its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from psycopg import sql

from broker.config.feeds import Fetch, Recovery
from broker.feed.cures import INSTALL
from broker.feed.driver.sql_text import quoted_name, text_of
from broker.feed.setup.doctor_columns import check_columns
from broker.feed.setup.doctor_leftovers import check_leftovers
from broker.feed.setup.doctor_server import (
    check_idle_transactions,
    check_notification_queue,
    check_place,
    check_server,
)
from broker.feed.setup.doctor_sessions import check_row_security
from broker.feed.setup.findings import Check, Examination, Finding, fine, unwise, wrong
from broker.feed.setup.steps import grant_select

KeyCheck = Callable[[Examination, str, tuple[str, ...]], Iterator[Finding]]


def check_channels(examination: Examination) -> Iterator[Finding]:
    """Whether anything in the database notifies the channels that sources listen to."""
    for source in examination.config.sources:
        for channel in source.listen:
            query = (
                "SELECT count(*) FROM pg_proc"
                " WHERE prosrc ~* 'notify' AND (strpos(prosrc, %s) > 0 OR prosrc ~* 'TG_ARGV|TG_TABLE_NAME')"
            )
            (count,) = examination.one(query, channel)
            if count == 0:
                yield unwise(
                    f"no function here notifies channel {channel}",
                    "create the trigger, unless programs notify it",
                )
            else:
                yield fine(f"channel {channel} is notified by a function here")


def check_recoveries(examination: Examination) -> Iterator[Finding]:
    """Whether tables can be read again after a gap, by their key."""
    if not examination.config.recoveries:
        yield unwise(
            "nothing can be read again after a gap: rows notified while nobody listens are lost",
            'add [[recover]] for the tables, or use kind = "wal"',
        )
    for recovery in examination.config.recoveries:
        yield from _check_keyed(examination, recovery, _check_order)


def check_kept(examination: Examination) -> Iterator[Finding]:
    """Whether how far the feed got outlives its process."""
    if not examination.config.recoveries:
        return
    if not examination.one("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                           " WHERE n.nspname = 'rowcast' AND c.relname = 'feed'")[0]:  # fmt: skip
        yield unwise(
            "how far the feed got is not kept: what commits while Rowcast is stopped is lost", INSTALL
        )
    yield from check_place(examination)


def check_fetches(examination: Examination) -> Iterator[Finding]:
    """Whether rows can be fetched by their key."""
    for fetch in examination.config.fetches:
        yield from _check_keyed(examination, fetch, _check_identity)


def _check_keyed(
    examination: Examination, keyed: Recovery | Fetch, check_index: KeyCheck
) -> Iterator[Finding]:
    where = "[[fetch]]" if isinstance(keyed, Fetch) else "[[recover]]"
    relation = examination.relation(keyed.table)
    if relation is None:
        yield wrong(f"there is no table {keyed.table}", f"create it, or correct its name in {where}")
    elif not relation.may_select:
        yield wrong(f"{keyed.table} may not be read", grant_select(examination.config, keyed.table))
    elif not _has_columns(examination, keyed.table, keyed.key):
        listed = ", ".join(keyed.key)
        yield wrong(f"{keyed.table} has not all of the columns {listed}", f"correct `key` in {where}")
    else:
        yield from check_index(examination, keyed.table, keyed.key)


def _has_columns(examination: Examination, table: str, names: tuple[str, ...]) -> bool:
    query = (
        "SELECT count(*) FILTER (WHERE attname = ANY(%s)) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    )
    (known,) = examination.one(query, list(names), quoted_name(table))
    return bool(known == len(names))


def _check_identity(examination: Examination, table: str, key: tuple[str, ...]) -> Iterator[Finding]:
    """An index whose columns are among the key's in whatever order finds a row, and a unique one the only row."""
    listed = ", ".join(key)
    query = (
        "SELECT count(*) FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisvalid AND i.indpred IS NULL"
        " AND i.indisunique"
        " AND %s @> (SELECT array_agg(a.attname::text) FROM unnest(i.indkey) WITH ORDINALITY AS k(number, place)"
        "  LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE place <= i.indnkeyatts)"
    )
    (indexes,) = examination.one(query, quoted_name(table), list(key))
    if indexes:
        yield fine(f"{table} can be looked up by ({listed})")
    else:
        yield unwise(
            f"{table} has no unique index on ({listed}): looking up a row reads it all, and may find two",
            f"CREATE UNIQUE INDEX ON {_indexed(table, key)}",
        )


def _check_order(examination: Examination, table: str, key: tuple[str, ...]) -> Iterator[Finding]:
    """An index that has an order, whose first columns are the key's; those that it only includes have no part in it."""
    listed = ", ".join(key)
    query = (
        "SELECT count(*) FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisvalid AND i.indpred IS NULL"
        " AND pg_index_column_has_property(i.indexrelid, 1, 'orderable') AND %s ="
        " (SELECT array_agg(a.attname::text ORDER BY place) FROM unnest(i.indkey) WITH ORDINALITY AS k(number, place)"
        "  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number"
        "  WHERE place <= least(%s, i.indnkeyatts))"
    )
    (indexes,) = examination.one(query, quoted_name(table), list(key), len(key))
    if indexes:
        yield fine(f"{table} can be read again by ({listed})")
    else:
        yield unwise(
            f"{table} has no index on ({listed}): recovery sorts it all",
            f"CREATE INDEX ON {_indexed(table, key)}",
        )


def _indexed(table: str, key: tuple[str, ...]) -> str:
    return f"{quoted_name(table)} ({text_of(sql.SQL(', ').join(map(sql.Identifier, key)))})"


CHECKS: Final[tuple[Check, ...]] = (
    check_server,
    check_channels,
    check_recoveries,
    check_kept,
    check_fetches,
    check_columns,
    check_row_security,
    check_leftovers,
    check_notification_queue,
    check_idle_transactions,
)
