"""What the doctor finds of other times: slots, publications, triggers and places that no configured feed uses."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from broker.feed.cures import INSTALL
from broker.feed.driver.sql_text import text_of
from broker.feed.routing.tables import qualified, table_operations
from broker.feed.setup.findings import Examination, Finding, counted, unwise, wrong
from broker.feed.setup.steps import CAPTURE_TRIGGER
from broker.feed.wal.slots import earlier_slot_name, publication_names, slot_name

_OURS = r"rowcast\_%"
"""What a name begins with that an installation has chosen."""


def check_leftovers(examination: Examination) -> Iterator[Finding]:
    """What `install` takes away, and what it can't know to be nobody's."""
    yield from _slots(examination)
    yield from _publications(examination)
    yield from _triggers(examination)
    yield from _feeds(examination)


def _slots(examination: Examination) -> Iterator[Finding]:
    config = examination.config
    is_wal = config.captures_by == "publication"
    query = (
        "SELECT slot_name::text, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint"
        " FROM pg_replication_slots WHERE database = current_database() AND plugin = 'pgoutput' AND NOT temporary"
        " AND (slot_name LIKE %s OR slot_name = ANY (%s)) ORDER BY 1"
    )
    names = [slot_name(config), earlier_slot_name(config)]
    found = examination.all(query, _OURS, names)
    used = next((name for name in names if any(name == slot for slot, *_ in found)), "") if is_wal else ""
    for name, active, kept_bytes in found:
        if name == used:
            continue
        keeps = f"the slot {name} keeps {kept_bytes or 0} bytes of WAL"
        if name in names and not is_wal:
            yield wrong(f"{keeps} for the kind wal, which this feed was before", INSTALL)
        elif not active:
            cure = f"if no other configuration has it: SELECT pg_drop_replication_slot({text_of(sql.Literal(name))})"
            yield unwise(f"{keeps}, and nobody reads it; this feed doesn't use it", cure)


def _publications(examination: Examination) -> Iterator[Finding]:
    config = examination.config
    own = publication_names(config)
    names = [name for (name,) in examination.all("SELECT pubname::text FROM pg_publication ORDER BY 1")]
    if config.captures_by != "publication":
        left = [name for name in own if name in names]
        if left:
            yield wrong(
                f"{_listed('publication', left)} of the kind wal, which this feed was before", INSTALL
            )
    others = [name for name in names if name.startswith("rowcast_") and name not in own]
    slots = {name for (name,) in examination.all("SELECT slot_name::text FROM pg_replication_slots")}
    for name in others:
        base = name.removesuffix("_update").removesuffix("_delete")
        if not any(slot.startswith(base) for slot in slots):
            cure = f"if no other configuration has it: DROP PUBLICATION {text_of(sql.Identifier(name))}"
            yield unwise(
                f"the publication {name} is not this feed's, and has no slot that looks like its own", cure
            )


def _triggers(examination: Examination) -> Iterator[Finding]:
    config = examination.config
    if not examination.exists("rowcast.feed"):
        return
    wanted = table_operations(config) if config.captures_by == "trigger" else {}
    query = (
        "SELECT n.nspname || '.' || c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = %s AND t.tgparentid = 0 ORDER BY 1"
    )
    other = "SELECT count(*) FROM rowcast.feed WHERE kind = 'outbox' AND name <> %s"
    tables = [table for (table,) in examination.all(query, CAPTURE_TRIGGER)]
    left = [table for table in tables if table not in set(map(qualified, wanted))]
    if left and not examination.one(other, config.name)[0]:
        yield wrong(f"the trigger of {', '.join(left)} fills the outbox with rows that nobody reads", INSTALL)


def _feeds(examination: Examination) -> Iterator[Finding]:
    """Feeds that were installed under other names: who doesn't read keeps rows in the outbox."""
    if not examination.exists("rowcast.outbox_commit"):
        return
    query = (
        "SELECT name, (SELECT count(*) FROM rowcast.outbox_commit WHERE seq > f.read_seq) FROM rowcast.feed f"
        " WHERE kind = 'outbox' AND name <> %s ORDER BY 1"
    )
    for name, unread in examination.all(query, examination.config.name):
        if unread:
            delete = f"DELETE FROM rowcast.feed WHERE name = {text_of(sql.Literal(name))}"
            yield unwise(
                f"the outbox keeps {counted(unread, 'transaction')} for the feed {name}, which has not read them",
                f"if no configuration has it any more: {delete}",
            )


def _listed(what: str, names: list[str]) -> str:
    return f"the {what}{'s' * (len(names) > 1)} {', '.join(names)} {'are' if len(names) > 1 else 'is'} left"
