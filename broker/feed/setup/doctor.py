"""What is wrong with a database for a feed, in plain words, before production says so.

Each check is a generator of findings over one connection; none changes anything.  `examine` runs those of a
feed's kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
from attrs import frozen

from broker.config.feeds import FeedConfig, Fetch, Recovery
from broker.feed.captured import quoted
from broker.feed.driver.pooler import REFUSED, shares_sessions
from broker.feed.routing.tables import table_operations
from broker.feed.setup import doctor_outbox, doctor_wal
from broker.feed.setup.doctor_columns import check_columns
from broker.feed.setup.doctor_leftovers import check_leftovers
from broker.feed.setup.doctor_notices import check_notices
from broker.feed.setup.doctor_sessions import check_heirs, check_open_writers, check_row_security
from broker.feed.setup.findings import Examination, Finding, fine, unwise, wrong

SERVER_VERSION_MIN: Final = 130000
IDLE_S_MAX: Final = 60
QUEUE_USAGE_MAX: Final = 0.05

Check = Callable[[Examination], Iterator[Finding]]
KeyCheck = Callable[[Examination, str, tuple[str, ...]], Iterator[Finding]]


@frozen
class Report:
    """Everything found about one feed."""

    feed: str
    kind: str
    findings: tuple[Finding, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong; something may be unwise."""
        return all(finding.level != "wrong" for finding in self.findings)


def examine(connection: psycopg.Connection[Any], config: FeedConfig) -> Report:
    """Examine a database over an autocommitting connection as the feed's own role."""
    examination = Examination(connection, config)
    findings: list[Finding] = []
    for check in CHECKS[config.kind]:
        try:
            findings.extend(check(examination))
        except psycopg.Error as error:
            topic = check.__name__.replace("_", " ").removeprefix("check ")
            first = str(error).strip().splitlines()[0]
            findings.append(wrong(f"{topic}: {first}", "let the feed's role read what this needs"))
    return Report(config.name, config.kind, tuple(findings))


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
    if shares_sessions(examination.connection, examination.connection.info.dsn):
        what, _, cure = REFUSED.rpartition(": ")
        yield wrong(what, cure)


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
        cure = f"GRANT SELECT ON {keyed.table} TO {examination.role}"
        yield wrong(f"{keyed.table} may not be read", cure)
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
    (known,) = examination.one(query, list(names), quoted(table))
    return bool(known == len(names))


def _check_identity(examination: Examination, table: str, key: tuple[str, ...]) -> Iterator[Finding]:
    """An index whose columns are among the key's in whatever order finds a row, and a unique one the only row."""
    listed = ", ".join(key)
    query = (
        "SELECT count(*) FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indpred IS NULL AND i.indisunique"
        " AND %s @> (SELECT array_agg(a.attname::text) FROM unnest(i.indkey) WITH ORDINALITY AS k(number, place)"
        "  LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE place <= i.indnkeyatts)"
    )
    (indexes,) = examination.one(query, quoted(table), list(key))
    if indexes:
        yield fine(f"{table} can be looked up by ({listed})")
    else:
        yield unwise(
            f"{table} has no unique index on ({listed}): looking up a row reads it all, and may find two",
            f"CREATE UNIQUE INDEX ON {table} ({listed})",
        )


def _check_order(examination: Examination, table: str, key: tuple[str, ...]) -> Iterator[Finding]:
    listed = ", ".join(key)
    query = (
        "SELECT count(*) FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indpred IS NULL AND %s ="
        " (SELECT array_agg(a.attname::text ORDER BY place) FROM unnest(i.indkey) WITH ORDINALITY AS k(number, place)"
        "  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE place <= %s)"
    )
    (indexes,) = examination.one(query, quoted(table), list(key), len(key))
    if indexes:
        yield fine(f"{table} can be read again by ({listed})")
    else:
        yield unwise(
            f"{table} has no index on ({listed}): recovery sorts it all",
            f"CREATE INDEX ON {table} ({listed})",
        )


def check_tables(examination: Examination) -> Iterator[Finding]:
    """Whether the tables of the routes are there and are of a kind that can be captured."""
    for table in table_operations(examination.config):
        relation = examination.relation(table)
        if relation is None:
            yield wrong(f"there is no table {table}", "create it, or correct its name in the configuration")
        elif relation.kind not in ("r", "p"):
            yield wrong(f"{table} is no table but a view or the like", "name the table behind it")
        elif relation.is_unlogged and examination.config.captures_by == "publication":
            yield wrong(f"{table} is unlogged: its changes are in no WAL", f"ALTER TABLE {table} SET LOGGED")
        elif any(r.snapshot for r in examination.config.routes) and not relation.may_select:
            yield wrong(
                f"{table} may not be read for a snapshot", f"GRANT SELECT ON {table} TO {examination.role}"
            )


ALWAYS: Final[tuple[Check, ...]] = (check_columns, check_row_security, check_leftovers)

CHECKS: Final[dict[str, tuple[Check, ...]]] = {
    "listen": (
        check_server,
        check_channels,
        check_recoveries,
        check_fetches,
        *ALWAYS,
        check_notification_queue,
        check_idle_transactions,
    ),
    "wal": (
        check_server,
        doctor_wal.check_settings,
        doctor_wal.check_role,
        doctor_wal.check_installation,
        check_tables,
        check_heirs,
        doctor_wal.check_publication,
        doctor_wal.check_replica_identity,
        check_notices,
        doctor_wal.check_slot,
        *ALWAYS,
        check_open_writers,
        check_idle_transactions,
    ),
    "outbox": (
        check_server,
        doctor_outbox.check_installation,
        check_tables,
        check_heirs,
        doctor_outbox.check_triggers,
        check_notices,
        doctor_outbox.check_backlog,
        *ALWAYS,
        check_open_writers,
        check_notification_queue,
        check_idle_transactions,
    ),
}
