"""The SQL that a feed needs in its database, and the SQL that takes it away again.  Pure: text in, text out.

Every statement may run again without harm.  They are meant to run one by one, each in its own transaction: a
slot can't be created in a transaction that has written.
"""

from __future__ import annotations

import os
from importlib import resources

from attrs import frozen
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from broker.config.feeds import FeedConfig
from broker.feed.notices import carried_channels
from broker.feed.routing.tables import table_operations
from broker.feed.setup.install_notices import notice_steps, remove_step
from broker.feed.wal.slots import publication_name, slot_name

CAPTURE_TRIGGER = "rowcast_capture"


@frozen
class Step:
    """One statement and what it is for."""

    purpose: str
    statement: str


def install_steps(config: FeedConfig, publishers: str = "PUBLIC") -> list[Step]:
    """What `rowcast feed install` runs, in order.

    Args:
        publishers: the role that may call `rowcast.publish()`, or PUBLIC.
    """
    if config.kind == "listen":
        return _listen_steps(config)
    role = feed_role(config)
    steps = [
        Step("the schema rowcast and the table of feeds", _file("base.sql")),
        Step("the feed's role", _create_role(config, role)),
    ]
    steps += _wal_steps(config) if config.kind == "wal" else _outbox_steps(config)
    steps.append(Step("rowcast.publish() for text", _file("publish_text.sql")))
    steps.append(Step("who may publish from SQL", _grant_publishers(publishers)))
    steps.append(Step("exactly what the feed's role needs", _grants(config, role)))
    steps += [Step(*step) for step in notice_steps(config)]
    if config.kind == "wal":
        steps.append(Step("the replication slot, from now on", _create_slot(slot_name(config))))
    return steps


def remove_steps(config: FeedConfig, drop_schema: bool = False) -> list[Step]:
    """What `rowcast feed remove` runs: this feed's objects; with `drop_schema` everything of every feed."""
    steps = []
    if config.kind == "wal":
        slot, publication = sql.Literal(slot_name(config)), sql.Identifier(publication_name(config))
        end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {}"
        steps.append(Step("end its reader", _text(sql.SQL(end).format(slot) + sql.SQL(" AND active"))))
        drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {}"
        steps.append(Step("the slot", _text(sql.SQL(drop).format(slot))))
        steps.append(
            Step("the publication", _text(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(publication)))
        )
    if config.kind == "outbox":
        steps += [Step(f"the trigger of {table}", _drop_trigger(table)) for table in table_operations(config)]
    if config.kind != "listen":
        forget = sql.SQL("DELETE FROM rowcast.feed WHERE name = {}").format(sql.Literal(config.name))
        steps.append(Step("its row in the table of feeds", _guarded(_text(forget))))
    if drop_schema or carried_channels(config):
        steps.append(Step(*remove_step()))
    if drop_schema:
        steps.append(Step("the schema with everything in it", "DROP SCHEMA IF EXISTS rowcast CASCADE"))
    return steps


def feed_role(config: FeedConfig) -> str:
    """The user that the feed's connection string names; libpq's default otherwise."""
    user = conninfo_to_dict(config.dsn).get("user") or os.environ.get("PGUSER")
    return str(user) if user else _login_name()


def _login_name() -> str:
    import getpass

    return getpass.getuser()


def _listen_steps(config: FeedConfig) -> list[Step]:
    """LISTEN needs no object and no privilege; what is read by key must be readable; recovery keeps how far it got."""
    if not config.keyed_tables:
        return []
    role = feed_role(config)
    steps = [Step("the feed's role", _create_role(config, role))]
    if config.recoveries:
        steps.insert(0, Step("the schema rowcast and the table of feeds", _file("base.sql")))
        steps.append(Step("keep how far the feed has got", _grants(config, role)))
    for recovery in config.recoveries:
        steps.append(Step(f"read {recovery.table} again after a gap", _grant_select(recovery.table, role)))
    for fetch in config.fetches:
        purpose = f"read the rows of {fetch.table} that are too long for a notification"
        steps.append(Step(purpose, _grant_select(fetch.table, role)))
    return steps


def _grant_select(table: str, role: str) -> str:
    return _text(sql.SQL("GRANT SELECT ON {} TO {}").format(_table(table), sql.Identifier(role)))


def _wal_steps(config: FeedConfig) -> list[Step]:
    name = sql.Identifier(publication_name(config))
    create = _guarded_create(
        sql.SQL("SELECT FROM pg_publication WHERE pubname = {}").format(
            sql.Literal(publication_name(config))
        ),
        sql.SQL("CREATE PUBLICATION {}").format(name),
    )
    steps = [Step("the publication", create)]
    tables = table_operations(config)
    if tables:
        listed = sql.SQL(", ").join(map(_table, tables))
        steps.append(
            Step("its tables", _text(sql.SQL("ALTER PUBLICATION {} SET TABLE {}").format(name, listed)))
        )
    operations = ", ".join(dict.fromkeys(o for some in tables.values() for o in some)) or "insert"
    options = sql.SQL("ALTER PUBLICATION {} SET (publish = {}, publish_via_partition_root = true)")
    steps.append(Step("its operations", _text(options.format(name, sql.Literal(operations)))))
    steps.append(Step("rowcast.publish() for bytes", _file("publish_wal.sql")))
    return steps


def _outbox_steps(config: FeedConfig) -> list[Step]:
    steps = [Step("the outbox", _file("outbox.sql"))]
    steps.append(Step("rowcast.publish() for bytes", _file("publish_outbox.sql")))
    for table, operations in table_operations(config).items():
        create = sql.SQL(
            "CREATE TRIGGER {} AFTER {} ON {} FOR EACH ROW EXECUTE FUNCTION rowcast.outbox_capture({})"
        ).format(
            sql.Identifier(CAPTURE_TRIGGER),
            sql.SQL(" OR ".join(operation.upper() for operation in operations)),
            _table(table),
            sql.Literal(table),
        )
        steps.append(Step(f"the trigger of {table}", f"{_drop_trigger(table)};\n{_text(create)}"))
    seen = sql.SQL(
        "INSERT INTO rowcast.feed (name, kind, read_seq) SELECT {}, 'outbox', "
        "coalesce((SELECT max(seq) FROM rowcast.outbox_commit), 0) ON CONFLICT DO NOTHING"
    )
    steps.append(Step("the consumer, from now on", _text(seen.format(sql.Literal(config.name)))))
    return steps


def _grants(config: FeedConfig, role: str) -> str:
    who = sql.Identifier(role)
    wanted = ["GRANT USAGE ON SCHEMA rowcast TO {}", "GRANT SELECT, INSERT, UPDATE ON rowcast.feed TO {}"]
    if config.kind == "outbox":
        wanted += [
            "GRANT SELECT, DELETE ON rowcast.outbox, rowcast.outbox_commit TO {}",
            "GRANT SELECT, UPDATE ON rowcast.outbox_pruned TO {}",
            "GRANT SELECT ON rowcast.outbox_seq TO {}",
        ]
    grants = [sql.SQL(text).format(who) for text in wanted]
    if any(route.snapshot for route in config.routes):
        grants += [
            sql.SQL("GRANT SELECT ON {} TO {}").format(_table(t), who) for t in table_operations(config)
        ]
    return ";\n".join(map(_text, grants))


def _create_role(config: FeedConfig, role: str) -> str:
    replication = " REPLICATION" if config.kind == "wal" else ""
    create = sql.SQL("CREATE ROLE {} LOGIN" + replication).format(sql.Identifier(role))
    absent = sql.SQL("SELECT FROM pg_roles WHERE rolname = {}").format(sql.Literal(role))
    text = _guarded_create(absent, create)
    if replication:
        may = sql.SQL("SELECT FROM pg_roles WHERE rolname = {} AND (rolreplication OR rolsuper)")
        alter = sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(role))
        text += ";\n" + _guarded_create(may.format(sql.Literal(role)), alter)
    return text


def _grant_publishers(publishers: str) -> str:
    who = sql.SQL("PUBLIC") if publishers.upper() == "PUBLIC" else sql.Identifier(publishers)
    revoke = (
        ""
        if publishers.upper() == "PUBLIC"
        else (
            "REVOKE EXECUTE ON FUNCTION rowcast.publish(text, bytea, integer, boolean), "
            "rowcast.publish(text, text, integer, boolean) FROM PUBLIC;\n"
        )
    )
    grant = sql.SQL(
        "GRANT USAGE ON SCHEMA rowcast TO {};\n"
        "GRANT EXECUTE ON FUNCTION rowcast.publish(text, bytea, integer, boolean), "
        "rowcast.publish(text, text, integer, boolean) TO {}"
    )
    return revoke + _text(grant.format(who, who))


def _create_slot(name: str) -> str:
    return _text(
        sql.SQL(
            "SELECT pg_create_logical_replication_slot({}, 'pgoutput')"
            " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {})"
        ).format(sql.Literal(name), sql.Literal(name))
    )


def _drop_trigger(table: str) -> str:
    drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}")
    return _text(drop.format(sql.Identifier(CAPTURE_TRIGGER), _table(table)))


def _guarded_create(exists: sql.Composed, create: sql.Composed) -> str:
    return f"DO $do$ BEGIN IF NOT EXISTS ({_text(exists)}) THEN {_text(create)}; END IF; END $do$"


def _guarded(statement: str) -> str:
    """Only where the schema is there."""
    return f"DO $do$ BEGIN IF to_regclass('rowcast.feed') IS NOT NULL THEN {statement}; END IF; END $do$"


def _table(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


def _text(composed: sql.Composable) -> str:
    return composed.as_string(None)


def _file(name: str) -> str:
    return (
        (resources.files("broker.feed.setup") / "sql" / name).read_text(encoding="utf-8").strip().rstrip(";")
    )
