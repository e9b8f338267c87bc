"""What the doctor looks at for the kind `outbox`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.feed.altered import OUTBOX_FUNCTIONS
from broker.feed.cures import INSTALL
from broker.feed.driver.sql_text import quoted_name
from broker.feed.routing.tables import table_operations
from broker.feed.setup.doctor_columns import check_columns
from broker.feed.setup.doctor_leftovers import check_leftovers
from broker.feed.setup.doctor_notices import check_notices
from broker.feed.setup.doctor_publish import check_altered, check_properties
from broker.feed.setup.doctor_server import (
    check_idle_transactions,
    check_notification_queue,
    check_server,
    check_tables,
)
from broker.feed.setup.doctor_sessions import check_heirs, check_open_writers, check_row_security
from broker.feed.setup.findings import Check, Examination, Finding, counted, fine, unwise, wrong
from broker.feed.setup.steps import CAPTURE_TRIGGER, TRIGGER_BITS

PARTITION_OFF = """
SELECT l.relid::regclass::text FROM pg_partition_tree(to_regclass(%s)) l WHERE l.isleaf AND l.level > 0 AND NOT EXISTS
    (SELECT FROM pg_trigger WHERE tgrelid = l.relid AND tgname = %s AND tgenabled = 'A') ORDER BY 1
"""
"""Each partition has a trigger of its own, cloned from its table's."""


def check_installation(examination: Examination) -> Iterator[Finding]:
    """Whether the outbox's tables are there and the feed's role may use them."""
    for table in ("rowcast.feed", "rowcast.outbox", "rowcast.outbox_commit", "rowcast.outbox_pruned"):
        if not examination.exists(table):
            yield wrong(f"the table {table} is missing", INSTALL)
            return
    if not examination.one("SELECT 1 FROM rowcast.outbox_pruned"):
        yield wrong("rowcast.outbox_pruned is empty: what was pruned unread is not known", INSTALL)
    wanted = (
        "SELECT has_table_privilege('rowcast.feed', 'SELECT') AND has_table_privilege('rowcast.feed', 'UPDATE')"
        " AND has_table_privilege('rowcast.outbox', 'SELECT') AND has_table_privilege('rowcast.outbox', 'DELETE')"
    )
    if not examination.one(wanted)[0]:
        yield wrong(f"{examination.role} may not read and prune the outbox", INSTALL)
    query = (
        "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'outbox_number'"
        " AND tgrelid = to_regclass('rowcast.outbox_commit') AND tgfoid = to_regprocedure('rowcast.outbox_number()')"
    )
    state = examination.one(query)
    if not state or state[0] in ("D", "R"):
        yield wrong(
            "transactions are not numbered at their commit: the trigger outbox_number is off", INSTALL
        )
    elif state[0] == "O":
        yield wrong("transactions of replication or pg_restore are not numbered at their commit", INSTALL)
    if not examination.one("SELECT 1 FROM rowcast.feed WHERE name = %s", examination.config.name):
        yield wrong(f"the outbox does not know the feed {examination.config.name}", INSTALL)
    else:
        yield fine("the outbox is installed")
        yield from check_properties(examination)


def check_functions(examination: Examination) -> Iterator[Finding]:
    """Whether the functions are there that others call by name, so that Postgres lets anybody drop them."""
    query = (
        "SELECT name FROM unnest(%s::text[]) WITH ORDINALITY AS wanted(name, n) WHERE NOT EXISTS (SELECT FROM pg_proc"
        " WHERE proname = name AND pronamespace = to_regnamespace('rowcast')) ORDER BY n"
    )
    if not examination.exists("rowcast.outbox"):
        return  # which is said elsewhere
    missing = [name for (name,) in examination.all(query, list(OUTBOX_FUNCTIONS))]
    if "outbox_mark" in missing:
        yield wrong("rowcast.outbox_mark() is missing: writing to a captured table fails", INSTALL)
    elif missing:
        listed = ", ".join(f"rowcast.{name}()" for name in missing)
        yield unwise(f"there is no {listed}: dropped since, or installed by an earlier version", INSTALL)


def check_triggers(examination: Examination) -> Iterator[Finding]:
    """Whether each table's trigger is there, is on for every session, and covers the routes' operations."""
    for table, operations in table_operations(examination.config).items():
        if examination.relation(table) is None:
            continue
        query = (
            "SELECT tgenabled::text, tgtype, tgqual IS NULL AND tgattr = ''::int2vector"
            " AND tgfoid = to_regprocedure('rowcast.outbox_capture()')"
            " AND tgargs = convert_to(%s, 'UTF8') || '\\x00'::bytea"
            " FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = %s"
        )
        row = examination.one(query, table, quoted_name(table), CAPTURE_TRIGGER)
        if not row:
            yield wrong(f"{table} has no trigger {CAPTURE_TRIGGER}: its rows are not seen", INSTALL)
        elif row[0] != "A":
            yield _off(table, row[0])
        elif not row[2]:
            what = f"the trigger of {table} is not as Rowcast has made it: its rows may not be seen"
            yield wrong(what, INSTALL)
        elif off := examination.one(PARTITION_OFF, quoted_name(table), CAPTURE_TRIGGER):
            yield wrong(f"the trigger of {off[0]}, a partition of {table}, is disabled", INSTALL)
        elif missing := [o for o in operations if not row[1] & TRIGGER_BITS[o]]:
            yield wrong(f"the trigger of {table} leaves out {' and '.join(missing)}", INSTALL)
        else:
            yield fine(f"{table} is captured on {', '.join(operations)}")


def _off(table: str, state: str) -> Finding:
    """Of a trigger that does not fire for every session.  `state`: pg_trigger.tgenabled."""
    if state == "O":
        what = f"the trigger of {table} does not fire for rows that replication or pg_restore writes"
        return wrong(what, INSTALL)
    if state == "R":
        what = f"the trigger of {table} fires for rows that replication or pg_restore writes alone"
        return wrong(what, INSTALL)
    cure = f"ALTER TABLE {quoted_name(table)} ENABLE ALWAYS TRIGGER {CAPTURE_TRIGGER}"
    return wrong(f"the trigger of {table} is disabled", cure)


def check_backlog(examination: Examination) -> Iterator[Finding]:
    """How much has been committed that the feed has not read."""
    if not examination.exists("rowcast.outbox_commit"):
        return
    query = (
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(committed_at)), 0)::bigint"
        " FROM rowcast.outbox_commit WHERE seq > (SELECT read_seq FROM rowcast.feed WHERE name = %s)"
    )
    count, age_s = examination.one(query, examination.config.name)
    keep_s = examination.config.replication.keep_unread_s
    if age_s > keep_s / 2:
        yield wrong(f"unread rows are {age_s} s old and pruned at {keep_s:g} s", "start Rowcast")
    elif age_s > 60:
        yield unwise(
            f"unread: {counted(count, 'transaction')}, the oldest for {age_s} s",
            "start Rowcast, or see why it waits",
        )
    else:
        yield fine(f"unread: {counted(count, 'transaction')}")
    (unnumbered,) = examination.one("SELECT count(*) FROM rowcast.outbox_commit WHERE seq IS NULL")
    if unnumbered:
        cure = "find who disabled triggers (session_replication_role?); their rows are never delivered"
        yield wrong(f"committed without a number: {counted(unnumbered, 'transaction')}", cure)


CHECKS: Final[tuple[Check, ...]] = (
    check_server,
    check_installation,
    check_functions,
    check_altered,
    check_tables,
    check_heirs,
    check_triggers,
    check_notices,
    check_backlog,
    check_columns,
    check_row_security,
    check_leftovers,
    check_open_writers,
    check_notification_queue,
    check_idle_transactions,
)
