"""What a feed of the kind `wal` needs in its database: publications, a slot, and a role that may replicate.  Pure."""

from __future__ import annotations

from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.sql_text import text_of
from broker.feed.setup.install_marks import remember_statement
from broker.feed.setup.install_notices import notice_steps
from broker.feed.setup.install_publications import publications_statement
from broker.feed.setup.steps import (
    Step,
    base_step,
    drop_triggers,
    grants,
    know,
    publish_step,
    remember_installed,
    role_step,
    signed_notices,
)
from broker.feed.wal.slots import earlier_slot_name, slot_name


def install_steps(config: FeedConfig, publishers: str, widen: bool) -> list[Step]:
    """As `broker.feed.setup.install.install_steps`."""
    return [
        base_step(),
        role_step(config, may_replicate=True),
        Step("the publications", publications_statement(config, widen)),
        Step("the feed", know(config, "0")),
        *leftovers(config),
        publish_step("publish_wal.sql", publishers),
        Step("exactly what the feed's role needs", grants(config)),
        *(Step(*step) for step in notice_steps(config)),
        *signed_notices(config),
        Step("that rows may be missing, where its slot is gone", _owe_for_slot(config)),
        Step("the replication slot, from now on", _create_slot(config)),
        Step("what is captured from now on", remember_statement(config)),
        Step("that it is installed", remember_installed(config, True)),
    ]


def leftovers(config: FeedConfig) -> list[Step]:
    """What a feed of this name may have left behind that was of another kind before."""
    return [Step("triggers that nobody reads", drop_triggers(config))]


_NO_SLOT = (
    "NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name IN ({name}, {earlier})"
    " AND database = current_database())"
)


def _owe_for_slot(config: FeedConfig) -> str:
    """A feed that has run before can't tell a slot that is made here from its own."""
    return text_of(
        sql.SQL(
            "UPDATE rowcast.feed SET owed = 'there was no slot ' || {name}"
            " WHERE name = {feed} AND system_identifier IS NOT NULL AND moved_from IS NULL AND " + _NO_SLOT
        ).format(feed=sql.Literal(config.name), **_slot_names(config))
    )


def _slot_names(config: FeedConfig) -> dict[str, sql.Literal]:
    return {"name": sql.Literal(slot_name(config)), "earlier": sql.Literal(earlier_slot_name(config))}


def _create_slot(config: FeedConfig) -> str:
    """A feed that has never run begins where its slot is made, wherever that stands when it starts."""
    return text_of(
        sql.SQL(
            "DO $do$ DECLARE made pg_lsn; BEGIN IF " + _NO_SLOT + " THEN"
            " made := (SELECT lsn FROM pg_create_logical_replication_slot({name}, 'pgoutput'));"
            " UPDATE rowcast.feed SET stopped_at = made - '0/0'"
            " WHERE name = {feed} AND system_identifier IS NULL; END IF; END $do$"
        ).format(feed=sql.Literal(config.name), **_slot_names(config))
    )
