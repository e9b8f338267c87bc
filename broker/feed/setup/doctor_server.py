"""What the doctor asks of every server, whatever the kind of feed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.feed.captured import UNSEEN_PARTITION
from broker.feed.cures import INSTALL
from broker.feed.driver.pooler import REFUSED, shares_sessions
from broker.feed.driver.sql_text import quoted_name
from broker.feed.routing.tables import snapshot_tables, table_operations
from broker.feed.setup.findings import Examination, Finding, fine, unwise, wrong
from broker.feed.setup.steps import grant_select

SERVER_VERSION_MIN: Final = 130000
IDLE_S_MAX: Final = 60
QUEUE_USAGE_MAX: Final = 0.05


def check_server(examination: Examination) -> Iterator[Finding]:
    """The server's version, and as whom and where the doctor is connected."""
    version = examination.connection.info.server_version
    if version < SERVER_VERSION_MIN:
        yield wrong(f"the server's version is {version // 10000}, at least 13 is needed", "upgrade it")
    else:
        role, database = examination.one("SELECT current_user, current_database()")
        yield fine(f"connected to Postgres {version // 10000}, database {database}, as {role}")
    if examination.one("SELECT pg_is_in_recovery()")[0]:
        yield wrong("the server is a standby", "let the feed's dsn name the primary")
    if examination.one("SELECT getdatabaseencoding() = 'SQL_ASCII'")[0]:
        yield unwise(
            "the database's encoding is SQL_ASCII: a text that is not UTF-8 costs its row (counted as not_utf8)",
            "move to a database with ENCODING UTF8",
        )
    if shares_sessions(examination.connection, examination.connection.info.dsn):
        what, _, cure = REFUSED.rpartition(": ")
        yield wrong(what, cure)


def check_place(examination: Examination) -> Iterator[Finding]:
    """Whether the feed may keep how far it got, where its table is."""
    query = (
        "SELECT has_schema_privilege('rowcast', 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"
        " AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') FROM pg_class c"
        " WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'rowcast') AND c.relname = 'feed'"
    )
    if examination.one(query) == (False,):
        yield wrong(f"{examination.role} may not use the table rowcast.feed", INSTALL)


def check_idle_transactions(examination: Examination) -> Iterator[Finding]:
    """One that stays open keeps WAL, outbox rows and notifications from going away."""
    query = (
        "SELECT pid, usename, extract(epoch FROM now() - xact_start)::bigint FROM pg_stat_activity"
        " WHERE datname = current_database() AND state LIKE 'idle in transaction%%'"
        " AND now() - xact_start > make_interval(secs => %s) ORDER BY xact_start"
    )
    for pid, user, age_s in examination.all(query, IDLE_S_MAX):
        yield unwise(
            f"session {pid} of {user or 'another role'} has been idle in a transaction for {age_s} s",
            f"end it: SELECT pg_terminate_backend({pid}); and set idle_in_transaction_session_timeout",
        )


def check_notification_queue(examination: Examination) -> Iterator[Finding]:
    """Whether somebody keeps notifications from being removed."""
    (usage,) = examination.one("SELECT pg_notification_queue_usage()")
    if usage > QUEUE_USAGE_MAX:
        cure = "find the session that LISTENs inside an open transaction and end it"
        yield wrong(f"the NOTIFY queue is {usage:.0%} full; writers fail when it is full", cure)
    else:
        yield fine(f"the NOTIFY queue is {usage:.1%} full")


def check_tables(examination: Examination) -> Iterator[Finding]:
    """Whether the tables of the routes are there and are of a kind that can be captured."""
    read_first = snapshot_tables(examination.config)
    for table in table_operations(examination.config):
        relation = examination.relation(table)
        if relation is None:
            yield wrong(f"there is no table {table}", "create it, or correct its name in the configuration")
        elif relation.kind not in ("r", "p"):
            yield wrong(f"{table} is no table but a view or the like", "name the table behind it")
        elif relation.is_unlogged and examination.config.captures_by == "publication":
            cure = f"ALTER TABLE {quoted_name(table)} SET LOGGED"
            yield wrong(f"{table} is unlogged: its changes are in no WAL", cure)
        elif examination.config.captures_by == "publication" and (
            unseen := examination.one(UNSEEN_PARTITION.format(table="to_regclass(%s)"), quoted_name(table))
        ):
            yield wrong(
                f"{unseen[0]}, a partition of {table}, is unlogged or a foreign table: its rows are in no WAL here",
                f"ALTER TABLE {unseen[0]} SET LOGGED, or detach it",
            )
        elif table in read_first and not relation.may_select:
            yield wrong(f"{table} may not be read for a snapshot", grant_select(examination.config, table))
