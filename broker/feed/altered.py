"""Whether what Rowcast has installed in a database is still what it was made.  SQL; pure.

`install` comments on each of its functions what it made of it (`sql/sign.sql`), so that an older installation is not
taken for one that was altered: there is no comment, and nothing is said.
"""

from __future__ import annotations

from typing import Final

FINGERPRINT: Final = "md5(concat_ws('/', p.prosrc, p.prosecdef, p.proconfig))"
"""Of the function `p` of pg_proc."""

OUTBOX_FUNCTIONS: Final = (
    "outbox_number",
    "outbox_number_rest",
    "outbox_taken",
    "outbox_mark",
    "outbox_row",
    "outbox_capture",
)
PUBLISHING_FUNCTIONS: Final = (
    "publish",
    "publish_with",
    "publish_refused",
    "publish_properties",
)
NOTIFYING_FUNCTIONS: Final = ("notify", "pg_notify")

_SIGNED: Final = f"""
SELECT p.proname, p.oid::regprocedure::text AS name, p.xmin::text AS xmin, d.description IS NOT NULL AS is_signed,
    split_part(d.description, ' ', 2) IS DISTINCT FROM {FINGERPRINT} AS is_altered,
    split_part(d.description, ' ', 3) IS DISTINCT FROM p.xmin::text AS is_made_anew
FROM pg_proc p LEFT JOIN pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_proc'::regclass AND d.objsubid = 0
    AND d.description LIKE 'rowcast: %%'
WHERE p.pronamespace = to_regnamespace('rowcast')"""


_OUTBOX: Final = ", ".join(f"'{name}'" for name in OUTBOX_FUNCTIONS)

ALTERED_FUNCTION: Final = f"(SELECT min(name) FROM ({_SIGNED}) AS f WHERE is_altered AND is_signed)"
"""A function that is not as it was made; NULL if all are."""

ALTERED_OUTBOX: Final = f"""coalesce((
    SELECT min(name) FROM ({_SIGNED}) AS f WHERE proname IN ({_OUTBOX}) AND is_altered
        AND (is_signed OR EXISTS (SELECT FROM ({_SIGNED}) AS g WHERE g.is_signed AND g.proname IN ({_OUTBOX})))
), (
    SELECT 'the rule ' || r.rulename || ' of ' || r.ev_class::regclass FROM pg_rewrite r
    WHERE r.ev_class IN (to_regclass('rowcast.outbox'), to_regclass('rowcast.outbox_commit')) ORDER BY 1 LIMIT 1
), (
    SELECT 'the trigger ' || t.tgname || ' of ' || t.tgrelid::regclass FROM pg_trigger t
    WHERE t.tgrelid IN (to_regclass('rowcast.outbox'), to_regclass('rowcast.outbox_commit')) AND NOT t.tgisinternal
        AND t.tgname NOT IN ('outbox_number', 'outbox_taken') ORDER BY 1 LIMIT 1
))"""
"""What keeps rows from the outbox, or from being numbered: an altered function, or what somebody has added to it."""

ADDED: Final = ("the rule ", "the trigger ")
"""How `ALTERED_OUTBOX` begins where it is no function."""

MADE_ANEW: Final = (
    f"(SELECT string_agg(xmin, ',' ORDER BY name) FROM ({_SIGNED}) AS f"
    " WHERE proname LIKE 'outbox%%' AND is_signed AND is_made_anew)"
)
"""Changes where functions of the outbox were replaced and put back, but for what an installation does; else NULL."""

MAKINGS: Final = """SELECT string_agg(concat_ws('/', oid, xmin), ',' ORDER BY oid) FROM pg_proc
WHERE pronamespace = to_regnamespace('rowcast') AND proname LIKE 'outbox%'"""
"""Changes whenever a function of the outbox was replaced, also by an installation."""
