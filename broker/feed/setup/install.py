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
from broker.feed.setup.install_marks import remember_statement
from broker.feed.setup.install_notices import notice_steps, remove_step
from broker.feed.setup.install_publications import publications_statement
from broker.feed.wal.slots import earlier_slot_name, publication_names, slot_name

CAPTURE_TRIGGER = "rowcast_capture"


@frozen
class Step:
    """One statement and what it is for."""

    purpose: str
    statement: str


def install_steps(config: FeedConfig, publishers: str = "PUBLIC", widen: bool = False) -> list[Step]:
    """What `rowcast feed install` runs, in order.

    Args:
        publishers: the role that may call `rowcast.publish()`, or PUBLIC.
        widen: publish also columns and rows that somebody has kept out of a publication.
    """
    if not config.captures_by:
        return _listen_steps(config)
    role = feed_role(config)
    steps = [
        Step("the schema rowcast and the table of feeds", _file("base.sql")),
        Step("the feed's role", _create_role(config, role)),
    ]
    steps += _wal_steps(config, widen) if config.captures_by == "publication" else _outbox_steps(config)
    steps += leftovers(config)
    steps.append(_publish_step(config, publishers))
    steps.append(Step("exactly what the feed's role needs", _grants(config, role)))
    steps += [Step(*step) for step in notice_steps(config)]
    if config.captures_by == "publication":
        steps.append(Step("the replication slot, from now on", _create_slot(config)))
    steps.append(Step("what is captured from now on", remember_statement(config)))
    return steps


def remove_steps(config: FeedConfig, drop_schema: bool = False) -> list[Step]:
    """What `rowcast feed remove` runs: this feed's objects; with `drop_schema` everything of every feed."""
    steps = [*_drop_wal(config), Step("its triggers", _drop_triggers(config, ()))]
    forget = sql.SQL("DELETE FROM rowcast.feed WHERE name = {}").format(sql.Literal(config.name))
    steps.append(Step("its row in the table of feeds", _guarded(_text(forget))))
    if drop_schema or carried_channels(config):
        steps.append(Step(*remove_step()))
    if drop_schema:
        steps.append(Step("the schema with everything in it", "DROP SCHEMA IF EXISTS rowcast CASCADE"))
    return steps


def leftovers(config: FeedConfig) -> list[Step]:
    """What a feed of this name has left behind that was of another kind before."""
    if config.captures_by == "publication":
        return [Step("triggers that nobody reads", _drop_triggers(config, ()))]
    wanted = tuple(table_operations(config)) if config.captures_by == "trigger" else ()
    return [*_drop_wal(config), Step("triggers that nobody wants", _drop_triggers(config, wanted))]


def _drop_wal(config: FeedConfig) -> list[Step]:
    names = sql.SQL(", ").join(
        map(sql.Literal, dict.fromkeys((slot_name(config), earlier_slot_name(config))))
    )
    # Slots are the server's: one of the same name may be another database's.
    ours = sql.SQL(
        "FROM pg_replication_slots WHERE slot_name IN ({}) AND plugin = 'pgoutput' AND database = current_database()"
    ).format(names)
    end = sql.SQL("SELECT pg_terminate_backend(active_pid) {} AND active")
    steps = [
        Step("end the reader of its slot", _text(end.format(ours))),
        Step("its slot", _text(sql.SQL("SELECT pg_drop_replication_slot(slot_name) {}").format(ours))),
    ]
    drop = "DROP PUBLICATION IF EXISTS {}"
    names = sql.SQL(", ").join(map(sql.Identifier, publication_names(config)))
    return [*steps, Step("its publications", _text(sql.SQL(drop).format(names)))]


def _drop_triggers(config: FeedConfig, but: tuple[str, ...]) -> str:
    """Triggers on tables that are not among `but`, unless another feed reads the outbox."""
    return _text(
        sql.SQL(_file("drop_triggers.sql")).format(
            feed=sql.Literal(config.name),
            but=sql.Literal([_text(_table(table)) for table in but]),
            trigger=sql.Literal(CAPTURE_TRIGGER),
        )
    )


def _know(config: FeedConfig, seq: str) -> str:
    """The feed's row, from now on; if it was of another kind, its place means nothing any more."""
    return _text(
        sql.SQL(
            "INSERT INTO rowcast.feed AS known (name, kind, read_seq) SELECT {name}, {kind}, "
            + seq
            + " ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, read_seq = excluded.read_seq, read_id = 0,"
            " captured = NULL, moved_from = coalesce(known.moved_from, known.kind)"
            " WHERE known.kind <> excluded.kind"
        ).format(name=sql.Literal(config.name), kind=sql.Literal(config.kind))
    )


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
        return leftovers(config)
    role = feed_role(config)
    steps = [Step("the feed's role", _create_role(config, role))]
    if config.recoveries:
        steps.insert(0, Step("the schema rowcast and the table of feeds", _file("base.sql")))
        steps.append(Step("the feed", _know(config, "0")))
        steps.append(Step("keep how far the feed has got", _grants(config, role)))
    for recovery in config.recoveries:
        steps.append(Step(f"read {recovery.table} again after a gap", _grant_select(recovery.table, role)))
    for fetch in config.fetches:
        purpose = f"read the rows of {fetch.table} that are too long for a notification"
        steps.append(Step(purpose, _grant_select(fetch.table, role)))
    return [*steps, *leftovers(config)]


def _grant_select(table: str, role: str) -> str:
    return _text(sql.SQL("GRANT SELECT ON {} TO {}").format(_table(table), sql.Identifier(role)))


def _publish_step(config: FeedConfig, publishers: str) -> Step:
    """One statement, hence one transaction: whoever publishes meanwhile finds the functions, before it or after."""
    for_bytes = "publish_wal.sql" if config.captures_by == "publication" else "publish_outbox.sql"
    files = [_file(name) for name in ("publish_before.sql", for_bytes, "publish_text.sql")]
    return Step("rowcast.publish(), and who may use it", ";\n".join([*files, _grant_publishers(publishers)]))


def _wal_steps(config: FeedConfig, widen: bool) -> list[Step]:
    return [
        Step("the publications", publications_statement(config, widen)),
        Step("the feed", _know(config, "0")),
    ]


def _outbox_steps(config: FeedConfig) -> list[Step]:
    steps = [Step("the outbox", _file("outbox.sql"))]
    for table, operations in table_operations(config).items():
        create = sql.SQL(_file("trigger.sql")).format(
            table=sql.Literal(_text(_table(table))),
            target=_table(table),
            argument=sql.Literal(table),
            trigger=sql.Identifier(CAPTURE_TRIGGER),
            trigger_name=sql.Literal(CAPTURE_TRIGGER),
            bits=sql.Literal(1 + sum(_BITS[operation] for operation in operations)),
            operations=sql.SQL(" OR ".join(operation.upper() for operation in operations)),
        )
        steps.append(Step(f"the trigger of {table}", _text(create)))
    last = "coalesce((SELECT max(seq) FROM rowcast.outbox_commit), 0)"
    steps.append(Step("the consumer, from now on", _know(config, last)))
    return steps


_BITS = {"insert": 4, "delete": 8, "update": 16}
"""Of pg_trigger.tgtype; 1 is FOR EACH ROW."""


def _grants(config: FeedConfig, role: str) -> str:
    who = sql.Identifier(role)
    wanted = ["GRANT USAGE ON SCHEMA rowcast TO {}", "GRANT SELECT, INSERT, UPDATE ON rowcast.feed TO {}"]
    if config.captures_by == "trigger":
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
    replication = " REPLICATION" if config.captures_by == "publication" else ""
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
            "REVOKE EXECUTE ON FUNCTION rowcast.publish(text, bytea, integer, boolean, jsonb), "
            "rowcast.publish(text, text, integer, boolean, jsonb) FROM PUBLIC;\n"
        )
    )
    grant = sql.SQL(
        "GRANT USAGE ON SCHEMA rowcast TO {};\n"
        "GRANT EXECUTE ON FUNCTION rowcast.publish(text, bytea, integer, boolean, jsonb), "
        "rowcast.publish(text, text, integer, boolean, jsonb) TO {}"
    )
    return revoke + _text(grant.format(who, who))


def _create_slot(config: FeedConfig) -> str:
    return _text(
        sql.SQL(
            "SELECT pg_create_logical_replication_slot({name}, 'pgoutput') WHERE NOT EXISTS (SELECT FROM"
            " pg_replication_slots WHERE slot_name IN ({name}, {earlier}) AND database = current_database())"
        ).format(name=sql.Literal(slot_name(config)), earlier=sql.Literal(earlier_slot_name(config)))
    )


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
