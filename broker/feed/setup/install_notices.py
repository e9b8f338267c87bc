"""The SQL that lets notifications travel with a `wal` or `outbox` feed, and takes that back.  Pure.

What calls `pg_notify` is told to call `rowcast.pg_notify`, which does the same and lets the feed know.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.sql_text import text_of
from broker.feed.notices import carried_channels
from broker.feed.setup.sql_files import sql_file

CALL: Final = r'(?<![.\w"])(?:pg_catalog\s*\.\s*)?pg_notify(\s*\()'
"""A call of Postgres's own function, as a regular expression of Postgres."""

OUR_CALL: Final = r'(?<![.\w"])rowcast\s*\.\s*pg_notify(\s*\()'

CALLERS: Final = """
SELECT p.oid, p.oid::regprocedure::text AS name
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('plpgsql', 'sql') AND p.prokind IN ('f', 'p')
    AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    AND p.pronamespace IS DISTINCT FROM to_regnamespace('rowcast')
    AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    AND CASE p.prosrc WHEN '' THEN pg_get_functiondef(p.oid) ELSE p.prosrc END ~* {pattern}
ORDER BY 2
"""
"""Functions of the database, but for those of extensions, whose body holds the pattern.

One that was made with BEGIN ATOMIC has its body as a tree, and no text of it.
"""

HAND_ON: Final = {
    "publication": r"""PERFORM pg_logical_emit_message(true, 'rowcast.notify',
        convert_to(channel, encoding) || '\x00' || convert_to(coalesce(payload, ''), encoding));""",
    "trigger": """PERFORM rowcast.outbox_mark();
    INSERT INTO rowcast.outbox (relation, operation, body) VALUES (channel, 'notify', coalesce(payload, ''));""",
}
"""How `rowcast.notify` lets the feed know, by what brings its rows: into the WAL, into the outbox."""

_REPLACE: Final = """DO $do$
DECLARE
    caller record;
BEGIN
    -- As it was made, so it is made anew, whatever its schema's search_path.
    PERFORM set_config('check_function_bodies', 'off', true);
    FOR caller IN {callers} LOOP
        EXECUTE regexp_replace(pg_get_functiondef(caller.oid), {pattern}, {call}, 'gi');
        RAISE INFO '% now calls {name}', caller.name;
    END LOOP;
END
$do$"""


def callers(pattern: str) -> sql.Composed:
    """The query for functions with such a call."""
    return sql.SQL(CALLERS).format(pattern=sql.Literal(pattern))


def notice_steps(config: FeedConfig) -> list[tuple[str, str]]:
    """What `rowcast feed install` runs, purpose and statement of each step; nothing where no source listens."""
    channels = carried_channels(config)
    if not channels:
        return []
    both = sql.SQL(sql_file("notify_both.sql")).format(channels=sql.Literal(list(channels)))
    hand_on = sql.SQL(HAND_ON[config.captures_by])
    return [
        ("notifications for the feed", text_of(sql.SQL(sql_file("notify.sql")).format(hand_on=hand_on))),
        ("notifications for everybody and for the feed", text_of(both)),
        ("whoever notifies may go on", _GRANTS),
        ("the functions that notify, now for the feed, too", _calls(CALL, "rowcast.pg_notify")),
    ]


def remove_step() -> tuple[str, str]:
    """Lets functions call Postgres's own again; harmless where none calls ours."""
    return "the functions that notify, as they were", _calls(OUR_CALL, "pg_notify")


_GRANTS: Final = (
    "GRANT USAGE ON SCHEMA rowcast TO PUBLIC;\n"
    "GRANT EXECUTE ON FUNCTION rowcast.notify(text, text), rowcast.pg_notify(text, text) TO PUBLIC"
)


def _calls(pattern: str, name: str) -> str:
    composed = sql.SQL(_REPLACE.replace("{name}", name)).format(
        callers=callers(pattern), pattern=sql.Literal(pattern), call=sql.Literal(rf"{name}\1")
    )
    return text_of(composed)
