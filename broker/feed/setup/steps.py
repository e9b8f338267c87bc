"""The statements that the kinds of feeds share, for their installation and their removal.  Pure: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from attrs import frozen
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from broker.config.feeds import FeedConfig
from broker.feed.altered import FINGERPRINT, NOTIFYING_FUNCTIONS, PUBLISHING_FUNCTIONS
from broker.feed.driver.sql_text import identifier, quoted_name, text_of
from broker.feed.notices import carried_channels
from broker.feed.routing.tables import snapshot_tables
from broker.feed.setup.sql_files import sql_file
from broker.feed.wal.slots import earlier_slot_name, publication_names, slot_name

CAPTURE_TRIGGER = "rowcast_capture"
SERVICE_ROLE: Final = "rds_replication"
"""Who is a member may replicate where nobody can be given the attribute: Amazon's services."""

MAY_REPLICATE: Final = (
    "(r.rolreplication OR r.rolsuper OR EXISTS (SELECT FROM pg_roles AS service "
    f"WHERE service.rolname = '{SERVICE_ROLE}' AND pg_has_role(r.oid, service.oid, 'MEMBER')))"
)
"""Of the role `r`, in SQL."""

TRIGGER_BITS: Final = {"insert": 4, "delete": 8, "update": 16}
"""Of pg_trigger.tgtype; 1 is FOR EACH ROW."""

INSTALLED = "rowcast.installed"
"""A setting of the feed's role in its database, which outlives the schema: the names of feeds."""


@frozen
class Step:
    """One statement and what it is for."""

    purpose: str
    statement: str


def base_step() -> Step:
    """What every feed that keeps a place needs first."""
    return Step("the schema rowcast and the table of feeds", sql_file("base.sql"))


def know(config: FeedConfig, seq: str) -> str:
    """The feed's row, from now on; if it was of another kind, its place means nothing any more.

    Args:
        seq: SQL for the number after which it begins.
    """
    return text_of(
        sql.SQL(
            "INSERT INTO rowcast.feed AS known (name, kind, read_seq, owed) SELECT {name}, {kind}, "
            + seq
            + ", (SELECT {reason} WHERE {name} = ANY ({installed}))"
            " ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, read_seq = excluded.read_seq, read_id = 0,"
            " captured = NULL, marks = NULL, sealed = NULL, moved_from = coalesce(known.moved_from, known.kind)"
            " WHERE known.kind <> excluded.kind"
        ).format(
            name=sql.Literal(config.name),
            kind=sql.Literal(config.kind),
            reason=sql.Literal("the schema rowcast was dropped, and installed anew"),
            installed=_installed(config),
        )
    )


def _installed(config: FeedConfig) -> sql.Composed:
    """SQL for the names of feeds that were installed in this database, also where the schema has been dropped since."""
    return sql.SQL(
        "coalesce((SELECT string_to_array(substr(entry, length({prefix}) + 1), ',') FROM pg_db_role_setting s,"
        " unnest(s.setconfig) AS entry WHERE entry LIKE {prefix} || '%' AND setrole = to_regrole({role})"
        " AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())), '{{}}')"
    ).format(
        prefix=sql.Literal(f"{INSTALLED}="),
        role=sql.Literal(text_of(sql.Identifier(feed_role(config)))),
    )


def remember_installed(config: FeedConfig, is_installed: bool) -> str:
    """Keep, outside of the schema, that the feed has a place in it; nothing where we may not change the role."""
    change = (
        "array_append(array_remove({all}, {name}), {name})" if is_installed else "array_remove({all}, {name})"
    )
    names = sql.SQL(change).format(all=_installed(config), name=sql.Literal(config.name))
    alter = f"ALTER ROLE %I IN DATABASE %I SET {INSTALLED} = %L"
    return text_of(
        sql.SQL(
            "DO $do$ DECLARE names text[] := {names}; BEGIN IF names IS DISTINCT FROM {all} THEN"
            " EXECUTE format({alter}, {role}::text, current_database(), array_to_string(names, ','));"
            " END IF; EXCEPTION WHEN insufficient_privilege OR undefined_object THEN NULL; END $do$"
        ).format(
            names=names,
            all=_installed(config),
            alter=sql.Literal(alter),
            role=sql.Literal(feed_role(config)),
        )
    )


def signed(names: Iterable[str]) -> str:
    """Notes what these functions have been made, behind what makes them and in its transaction."""
    return sql_file("sign.sql").format(names=text_of(sql.Literal(list(names))), fingerprint=FINGERPRINT)


def signed_notices(config: FeedConfig) -> list[Step]:
    """The same for those that notify, where there are some."""
    names = signed(NOTIFYING_FUNCTIONS)
    return [Step("what these functions were made", names)] if carried_channels(config) else []


def feed_role(config: FeedConfig) -> str:
    """The user that the feed's connection string names; libpq's default otherwise."""
    user = conninfo_to_dict(config.dsn).get("user") or os.environ.get("PGUSER")
    return str(user) if user else _login_name()


def _login_name() -> str:
    import getpass

    return getpass.getuser()


def role_step(config: FeedConfig, may_replicate: bool) -> Step:
    """The role that the feed connects as, where there is none of its name."""
    return Step("the feed's role", _create_role(feed_role(config), may_replicate))


def _create_role(role: str, may_replicate: bool) -> str:
    create = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role))
    absent = sql.SQL("SELECT FROM pg_roles WHERE rolname = {}").format(sql.Literal(role))
    text = create_unless(absent, create)
    if may_replicate:
        may = sql.SQL(f"SELECT FROM pg_roles AS r WHERE r.rolname = {{}} AND {MAY_REPLICATE}").format(
            sql.Literal(role)
        )
        is_service = sql.SQL(f"SELECT FROM pg_roles WHERE rolname = '{SERVICE_ROLE}'")
        give = sql.SQL("IF EXISTS ({}) THEN GRANT {} TO {}; ELSE ALTER ROLE {} REPLICATION; END IF").format(
            is_service, sql.Identifier(SERVICE_ROLE), sql.Identifier(role), sql.Identifier(role)
        )
        text += ";\n" + create_unless(may, give)
    return text


def grants(config: FeedConfig, more: Iterable[str] = ()) -> str:
    """Exactly what the feed's role needs.

    Args:
        more: privileges of its kind, `{}` for the role.
    """
    role = sql.Identifier(feed_role(config))
    wanted = [
        "GRANT USAGE ON SCHEMA rowcast TO {}",
        "GRANT SELECT, INSERT, UPDATE ON rowcast.feed TO {}",
        *more,
    ]
    statements = [text_of(sql.SQL(text).format(role)) for text in wanted]
    statements += [grant_select(config, table) for table in snapshot_tables(config)]
    return ";\n".join(statements)


def grant_select(config: FeedConfig, table: str) -> str:
    """Let the feed's role read a table."""
    role = sql.Identifier(feed_role(config))
    return text_of(sql.SQL("GRANT SELECT ON {} TO {}").format(identifier(table), role))


def publish_step(for_bytes: str, publishers: str) -> Step:
    """One statement, hence one transaction: whoever publishes meanwhile finds the functions, before it or after.

    Args:
        for_bytes: the file with the function that takes bytes.
        publishers: as for `install_steps`.
    """
    files = [sql_file(name) for name in ("publish_before.sql", for_bytes, "publish_text.sql")]
    files.append(signed(PUBLISHING_FUNCTIONS))
    return Step("rowcast.publish(), and who may use it", ";\n".join([*files, _grant_publishers(publishers)]))


def _grant_publishers(publishers: str) -> str:
    """For one role, which takes it from all others; or for everybody."""
    is_everybody = publishers.upper() == "PUBLIC"
    who = sql.SQL("PUBLIC") if is_everybody else sql.Identifier(publishers)
    take = sql.SQL(sql_file("take_publish.sql")).format(publisher=sql.Literal(text_of(who)))
    grant = sql.SQL(
        "GRANT USAGE ON SCHEMA rowcast TO {};\n"
        "GRANT EXECUTE ON FUNCTION rowcast.publish(text, bytea, integer, boolean, jsonb), "
        "rowcast.publish(text, text, integer, boolean, jsonb) TO {}"
    ).format(who, who)
    return text_of(grant) if is_everybody else ";\n".join([text_of(take), text_of(grant)])


def drop_wal(config: FeedConfig) -> list[Step]:
    """Take away a feed's slot, after whoever reads it, and its publications."""
    names = sql.SQL(", ").join(
        map(sql.Literal, dict.fromkeys((slot_name(config), earlier_slot_name(config))))
    )
    # Slots are the server's: one of the same name may be another database's.
    ours = sql.SQL(
        "FROM pg_replication_slots WHERE slot_name IN ({}) AND plugin = 'pgoutput' AND database = current_database()"
    ).format(names)
    end = sql.SQL("SELECT pg_terminate_backend(active_pid) {} AND active")
    steps = [
        Step("end the reader of its slot", text_of(end.format(ours))),
        Step("its slot", text_of(sql.SQL("SELECT pg_drop_replication_slot(slot_name) {}").format(ours))),
    ]
    drop = "DROP PUBLICATION IF EXISTS {}"
    names = sql.SQL(", ").join(map(sql.Identifier, publication_names(config)))
    return [*steps, Step("its publications", text_of(sql.SQL(drop).format(names)))]


def drop_triggers(config: FeedConfig, but: Iterable[str] = ()) -> str:
    """Triggers on tables that are not among `but`, unless another feed reads the outbox."""
    return text_of(
        sql.SQL(sql_file("drop_triggers.sql")).format(
            feed=sql.Literal(config.name),
            but=sql.Literal([quoted_name(table) for table in but]),
            trigger=sql.Literal(CAPTURE_TRIGGER),
        )
    )


def create_unless(exists: sql.Composed, create: sql.Composed) -> str:
    """`create`, unless `exists` selects something."""
    return f"DO $do$ BEGIN IF NOT EXISTS ({text_of(exists)}) THEN {text_of(create)}; END IF; END $do$"


def where_installed(statement: str) -> str:
    """Only where the schema is there."""
    return f"DO $do$ BEGIN IF to_regclass('rowcast.feed') IS NOT NULL THEN {statement}; END IF; END $do$"
