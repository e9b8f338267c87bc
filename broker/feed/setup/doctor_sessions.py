"""What the doctor looks at beside the feed's own objects: who hides rows, whom an installation would wait for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from psycopg import sql

from broker.feed.driver.sql_text import quoted_name, text_of
from broker.feed.routing.tables import qualified, snapshot_tables, table_operations
from broker.feed.setup.findings import Examination, Finding, unwise, wrong

OPEN_S_MAX: Final = 5.0
"""How long a writing transaction may be open before it is worth a word."""

UNKNOWN_S: Final = 1.0
"""Where the age of others' transactions is not ours to see: between the two looks that show which last."""

_WRITERS = (
    "SELECT l.virtualtransaction, l.transactionid::text, l.pid, a.usename::text, a.datname::text,"
    " extract(epoch FROM clock_timestamp() - a.xact_start)::float8,"
    " (SELECT gid FROM pg_prepared_xacts p WHERE p.transaction = l.transactionid)"
    " FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted"
    " AND l.pid IS DISTINCT FROM pg_backend_pid() ORDER BY a.xact_start"
)


def check_row_security(examination: Examination) -> Iterator[Finding]:
    """Tables that are read (snapshots, [[recover]], [[fetch]]) and whose policies hide rows from the feed's role."""
    config = examination.config
    read = set(snapshot_tables(config))
    if not config.captures_by:
        read |= {keyed.table for keyed in config.keyed_tables}
    query = (
        "SELECT c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls"
        " AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))"
        " FROM pg_class c, pg_roles r WHERE c.oid = to_regclass(%s) AND r.rolname = %s"
    )
    for table in sorted(read):
        row = examination.one(query, quoted_name(table), examination.role)
        if row and row[0]:
            cure = f"ALTER ROLE {examination.quoted_role} BYPASSRLS"
            yield wrong(
                f"{table} has row security, so Postgres refuses to let {examination.role} read it", cure
            )


def check_heirs(examination: Examination) -> Iterator[Finding]:
    """Tables that inherit from one of a route: a SELECT shows their rows with its own, a feed does not."""
    query = (
        "WITH RECURSIVE heirs (oid) AS (SELECT to_regclass(%s)::oid UNION SELECT i.inhrelid FROM pg_inherits i"
        " JOIN heirs h ON i.inhparent = h.oid JOIN pg_class p ON p.oid = i.inhparent AND p.relkind = 'r')"
        " SELECT n.nspname || '.' || c.relname FROM heirs h JOIN pg_class c ON c.oid = h.oid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid <> to_regclass(%s) ORDER BY 1"
    )
    routed = set(map(qualified, table_operations(examination.config)))
    for table in table_operations(examination.config):
        heirs = [
            heir
            for (heir,) in examination.all(query, quoted_name(table), quoted_name(table))
            if heir not in routed
        ]
        if heirs:
            yield unwise(
                f"what is written to {', '.join(heirs)}, which inherit from {table}, does not come as rows of it",
                "name them in a source and its routes, or make them partitions",
            )


def check_open_writers(examination: Examination) -> Iterator[Finding]:
    """Slots, snapshots and triggers wait for whoever writes; what commits meanwhile has no slot yet."""
    for *_, pid, user, database, age_s, gid in _lasting(examination):
        since = f"for {age_s:.0f} s" if age_s is not None else f"for over {UNKNOWN_S:g} s"
        if gid is not None:
            what, cure = (
                f"the prepared transaction {gid!r} is open",
                f"COMMIT PREPARED {text_of(sql.Literal(gid))}, or ROLLBACK PREPARED",
            )
        else:
            what = f"session {pid} of {user or 'another role'}"
            what += (f" in {database}" if database else "") + f" has been writing in one transaction {since}"
            cure = f"let it end before you install, or SELECT pg_terminate_backend({pid})"
        yield unwise(f"{what}: installing, a new slot and snapshots wait for it", cure)


def _lasting(examination: Examination) -> list[tuple[Any, ...]]:
    found = examination.all(_WRITERS)
    lasting = [row for row in found if row[5] is not None and row[5] > OPEN_S_MAX]
    unknown = {row[:2] for row in found if row[5] is None}
    if unknown:
        time.sleep(UNKNOWN_S)
        lasting += [row for row in examination.all(_WRITERS) if row[5] is None and row[:2] in unknown]
    return lasting
