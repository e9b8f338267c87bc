"""What the doctor looks at for the kind `wal`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from psycopg import sql

from broker.config.feeds import OPERATIONS
from broker.feed.cures import INSTALL, MADE_LOGICAL
from broker.feed.driver.sql_text import quoted_name, text_of
from broker.feed.routing.columns_wanted import columns_wanted
from broker.feed.routing.tables import qualified, table_operations
from broker.feed.setup.doctor_columns import check_columns
from broker.feed.setup.doctor_leftovers import check_leftovers
from broker.feed.setup.doctor_notices import check_notices
from broker.feed.setup.doctor_publish import check_altered, check_properties
from broker.feed.setup.doctor_server import (
    check_idle_transactions,
    check_place,
    check_server,
    check_tables,
)
from broker.feed.setup.doctor_sessions import check_heirs, check_open_writers, check_row_security
from broker.feed.setup.findings import Check, Examination, Finding, counted, fine, unwise, wrong
from broker.feed.setup.steps import MAY_REPLICATE, SERVICE_ROLE
from broker.feed.wal.slots import (
    PG_STREAMING,
    earlier_slot_name,
    publication_name,
    publication_names,
    slot_name,
)

PG_LISTS: Final = 150000
"""server_version from which publications have lists of columns, row filters and whole schemas."""

PG_GENERATED: Final = 180000
"""server_version from which a generated column in a replica identity lets writers fail."""


def check_settings(examination: Examination) -> Iterator[Finding]:
    """Whether the server's settings allow logical replication, and bound what a slot may keep."""
    wal_level, keep, slots, senders = (
        examination.one("SELECT current_setting(%s, true)", name)[0]
        for name in ("wal_level", "max_slot_wal_keep_size", "max_replication_slots", "max_wal_senders")
    )
    if wal_level == "logical":
        yield fine("wal_level is logical")
    else:
        yield wrong(f"wal_level is {wal_level}, not logical", MADE_LOGICAL)
    if keep != "-1":
        yield fine(f"a slot nobody reads can keep {keep} of WAL at most (max_slot_wal_keep_size)")
    elif examination.config.replication.allow_unbounded_wal:
        cure = "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf()"
        yield unwise("a slot nobody reads can fill the disk, which allow_unbounded_wal permits", cure)
    else:
        cure = (
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf(); "
            "or set allow_unbounded_wal = true"
        )
        yield wrong("max_slot_wal_keep_size is unlimited, and the feed refuses to start", cure)
    (idle,) = examination.one(
        "SELECT current_setting('idle_replication_slot_timeout', true)"
    )  # PostgreSQL 18
    if idle not in (None, "0"):
        yield unwise(
            f"a slot nobody reads for {idle} is invalidated (idle_replication_slot_timeout): a longer stop is a gap",
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf(); or longer than any stop",
        )
    (used,) = examination.one("SELECT count(*) FROM pg_replication_slots")
    if used >= int(slots) and not _slot(examination):
        yield wrong(
            f"all {slots} replication slots are in use", "raise max_replication_slots and restart Postgres"
        )
    (sending,) = examination.one("SELECT count(*) FROM pg_stat_replication")
    if sending >= int(senders):
        yield unwise(f"all {senders} WAL senders are in use", "raise max_wal_senders and restart Postgres")


def check_role(examination: Examination) -> Iterator[Finding]:
    """Whether the feed's role may replicate."""
    # The role that the feed will be, which need not be the one that asks here (--as).
    query = f"SELECT {MAY_REPLICATE}, r.rolsuper FROM pg_roles AS r WHERE r.rolname = %s"
    row = examination.one(query, examination.role)
    if not row:
        yield wrong(f"there is no role {examination.role}", INSTALL)
        return
    may_replicate, is_superuser = row
    if not may_replicate:
        is_service = bool(examination.one("SELECT 1 FROM pg_roles WHERE rolname = %s", SERVICE_ROLE))
        role = examination.quoted_role
        cure = f"GRANT {SERVICE_ROLE} TO {role}" if is_service else f"ALTER ROLE {role} REPLICATION"
        yield wrong(f"{examination.role} may not replicate", cure)
    elif is_superuser:
        yield unwise(
            f"{examination.role} is a superuser, which a feed does not need",
            "let the dsn name a role of its own; `rowcast feed install` shows what it needs",
        )
    else:
        yield fine(f"{examination.role} may replicate and is no superuser")


def check_installation(examination: Examination) -> Iterator[Finding]:
    """Whether the place of the feed is there and its role may write it."""
    if unusable := list(check_place(examination)):
        yield from unusable
        return
    if not examination.exists("rowcast.feed"):
        yield wrong("the schema rowcast is missing", INSTALL)
        return
    (count,) = examination.one(
        "SELECT count(*) FROM pg_proc WHERE proname = 'publish' AND pronamespace = to_regnamespace('rowcast')"
    )
    if examination.connection.info.server_version < PG_STREAMING:
        cure = 'upgrade, or use kind = "outbox"'
        yield unwise("before PostgreSQL 14 nothing comes of rowcast.publish() and rowcast.notify()", cure)
    elif count < 2:
        yield unwise("rowcast.publish() is missing, so nothing can be published from SQL", INSTALL)
    else:
        yield fine("rowcast.publish() is there")
        yield from check_properties(examination)


def check_publication(examination: Examination) -> Iterator[Finding]:
    """Whether each publication has the tables and operations of the routes."""
    wanted = table_operations(examination.config)
    for operation in OPERATIONS:
        yield from _check_publication(
            examination, operation, [t for t, some in wanted.items() if operation in some]
        )
    if examination.connection.info.server_version >= PG_LISTS:
        yield from _check_kept_out(examination)


def _check_kept_out(examination: Examination) -> Iterator[Finding]:
    """Lists of columns and row filters: what doesn't come, and whether a route misses it."""
    config = examination.config
    query = (
        "SELECT schemaname || '.' || tablename, string_agg(DISTINCT pubname, ', '), attnames::text[], rowfilter, ("
        " SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute"
        "  WHERE attrelid = format('%%I.%%I', schemaname, tablename)::regclass"
        "  AND attnum > 0 AND NOT attisdropped AND attgenerated = '')"
        " FROM pg_publication_tables WHERE pubname = ANY (%s) GROUP BY schemaname, tablename, 3, 4 ORDER BY 1, 2"
    )
    for table, names, published, condition, columns in examination.all(query, publication_names(config)):
        left_out = [column for column in columns if column not in published]
        if left_out:
            yield fine(
                f"{names}: of {table} {', '.join(published)} are published, and not {', '.join(left_out)}"
            )
        if condition:
            yield fine(f"{names}: of {table} only rows are published where {condition}")
        for wanted in columns_wanted(config):
            column = wanted.column_in(columns)
            if qualified(wanted.table) == table and column in left_out:
                what = f"{wanted.where} names {column} of {table}, which the publication leaves out"
                yield wrong(what, "run `rowcast feed install -c FILE --apply --widen` if it may be published")


def _check_publication(examination: Examination, operation: str, tables: list[str]) -> Iterator[Finding]:
    name = publication_name(examination.config, operation)
    row = examination.one(
        f"SELECT pub{operation}, pubviaroot, puballtables FROM pg_publication WHERE pubname = %s", name
    )
    if not row:
        yield wrong(f"there is no publication {name}", INSTALL)
        return
    query = "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s"
    published = {table for (table,) in examination.all(query, name)}
    for table in tables:
        if qualified(table) not in published and examination.relation(table) is not None:
            yield wrong(f"the publication {name} lacks the table {table}", INSTALL)
    if not row[0] and tables:
        yield wrong(f"the publication {name} leaves out {operation}s", INSTALL)
    if not row[1]:
        yield unwise(f"the publication {name} names partitions instead of their tables", INSTALL)
    if row[2]:
        cure = f"DROP PUBLICATION {text_of(sql.Identifier(name))}, then {INSTALL}"
        yield unwise(f"the publication {name} is of all tables, whether a route wants them or not", cure)
        return
    if schemas := _schemas(examination, name):
        drop = text_of(
            sql.SQL("ALTER PUBLICATION {} DROP TABLES IN SCHEMA {}").format(
                sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, schemas))
            )
        )
        what = f"the publication {name} is of all tables in {', '.join(schemas)}, whether a route wants them or not"
        yield unwise(what, f"{drop}, then {INSTALL}")
        return
    for table in sorted(published - set(map(qualified, tables))):
        yield unwise(f"{table} is published, but no route wants its {operation}s", INSTALL)
    yield fine(f"the publication {name} has {counted(len(published), 'table')}")


def _schemas(examination: Examination, publication: str) -> list[str]:
    """Those all of whose tables it has, now and later: an installation takes away tables only."""
    if examination.connection.info.server_version < PG_LISTS:
        return []
    query = (
        "SELECT n.nspname::text FROM pg_publication_namespace m JOIN pg_publication p ON p.oid = m.pnpubid"
        " JOIN pg_namespace n ON n.oid = m.pnnspid WHERE p.pubname = %s ORDER BY 1"
    )
    return [schema for (schema,) in examination.all(query, publication)]


def check_replica_identity(examination: Examination) -> Iterator[Finding]:
    """Without one Postgres refuses the writer's own UPDATE and DELETE of a published table."""
    for table, operations in table_operations(examination.config).items():
        relation = examination.relation(table)
        if relation is None or not {"update", "delete"} & set(operations):
            continue
        if relation.identity == "n" or (relation.identity == "d" and not relation.has_primary_key):
            cure = f"give it a primary key, or ALTER TABLE {quoted_name(table)} REPLICA IDENTITY FULL"
            yield wrong(f"{table} has no replica identity: updating or deleting its rows fails", cure)
        elif generated := _generated_in_identity(examination, table):
            cure = f"ALTER TABLE {quoted_name(table)} REPLICA IDENTITY DEFAULT, or an index without them"
            what = (
                f"{table}: PostgreSQL 18 publishes no generated columns ({generated}) in a replica identity"
            )
            yield wrong(f"{what}: updating or deleting its rows fails", cure)
        elif relation.identity == "f":
            yield fine(f"{table}: deleted rows come whole")
        elif "delete" in operations:
            yield fine(
                f"{table}: of deleted rows only the key comes (REPLICA IDENTITY FULL gives all of them)"
            )


def _generated_in_identity(examination: Examination, table: str) -> str:
    """The generated columns for which the server would refuse a writer's UPDATE and DELETE; "" if none."""
    if examination.connection.info.server_version < PG_GENERATED:
        return ""
    query = """SELECT string_agg(a.attname, ', ') FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_index i ON i.indrelid = c.oid
            AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
        WHERE c.oid = to_regclass(%s) AND a.attgenerated <> '' AND NOT a.attisdropped
            AND (c.relreplident = 'f' OR a.attnum = ANY (i.indkey::int2[]))"""
    return str(examination.one(query, quoted_name(table))[0] or "")


def check_slot(examination: Examination) -> Iterator[Finding]:
    """Whether the slot is there, is this database's, is valid, and how far it is behind."""
    slot = _slot(examination)
    name = slot[-1] if slot else slot_name(examination.config)
    if not slot:
        yield wrong(f"there is no slot {name}: what commits now is lost", INSTALL)
        return
    plugin, is_here, wal_status, active, lag_bytes, kept_bytes, confirmed_lsn, _ = slot
    alarm_bytes = examination.config.replication.lag_alarm_bytes
    if plugin != "pgoutput" or not is_here:
        yield wrong(f"the slot {name} belongs to another database or plugin", "give this feed another `slot`")
    elif wal_status == "lost":
        yield wrong(
            f"the slot {name} is lost: too much WAL was waiting",
            "start Rowcast: it announces the gap, goes on",
        )
    elif wal_status == "unreserved":
        yield wrong(
            f"the slot {name} is about to be lost", "start Rowcast now, or raise max_slot_wal_keep_size"
        )
    elif not active and _is_beyond_place(examination, confirmed_lsn):
        yield wrong(
            f"somebody has moved the slot {name}, read from it or made it anew: rows are missing",
            "start Rowcast: it announces the gap, goes on",
        )
    elif lag_bytes > alarm_bytes:
        yield unwise(
            f"{lag_bytes} bytes of WAL wait in the slot {name}", "start Rowcast, or see why it does not read"
        )
    else:
        state = "is being read" if active else "is not being read now"
        yield fine(f"the slot {name} {state}, {lag_bytes} bytes behind; it keeps {kept_bytes} bytes of WAL")


def _is_beyond_place(examination: Examination, confirmed_lsn: int | None) -> bool:
    """Whether the slot is farther than what the feed kept; to be asked behind the slot, as its place is kept first."""
    if not examination.exists("rowcast.feed"):
        return False
    query = "SELECT (to_jsonb(feed) ->> 'stopped_at')::bigint FROM rowcast.feed WHERE name = %s"
    row = examination.one(query, examination.config.name)
    return bool(row and row[0] and confirmed_lsn and confirmed_lsn > row[0])


def _slot(examination: Examination) -> tuple[Any, ...]:
    return examination.one(
        "SELECT plugin, database = current_database(), wal_status, active,"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint,"
        " (confirmed_flush_lsn - '0/0')::bigint, slot_name::text"
        " FROM pg_replication_slots"
        " WHERE slot_name = %s OR (slot_name = %s AND database = current_database())"
        " ORDER BY slot_name = %s DESC",
        slot_name(examination.config),
        earlier_slot_name(examination.config),
        slot_name(examination.config),
    )


CHECKS: Final[tuple[Check, ...]] = (
    check_server,
    check_settings,
    check_role,
    check_installation,
    check_altered,
    check_tables,
    check_heirs,
    check_publication,
    check_replica_identity,
    check_notices,
    check_slot,
    check_columns,
    check_row_security,
    check_leftovers,
    check_open_writers,
    check_idle_transactions,
)
