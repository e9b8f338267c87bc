"""What the doctor looks at where a `wal` or `outbox` feed carries notifications."""

from __future__ import annotations

from collections.abc import Iterator

from broker.feed.cures import INSTALL
from broker.feed.driver.sql_text import text_of
from broker.feed.notices import carried_channels
from broker.feed.setup.findings import Examination, Finding, fine, wrong
from broker.feed.setup.install_notices import CALL, OUR_CALL, callers


def check_notices(examination: Examination) -> Iterator[Finding]:
    """Whether what `rowcast.pg_notify` announces reaches this feed."""
    channels = carried_channels(examination.config)
    if not channels:
        return
    (function,) = examination.one("SELECT to_regprocedure('rowcast.pg_notify(text, text)')")
    if function is None:
        yield wrong(f"nothing brings notifications on {', '.join(channels)} to the feed", INSTALL)
        return
    for name in _names(examination, CALL):
        yield wrong(f"{name} calls pg_notify, which only those hear who LISTEN", INSTALL)
    ours = _names(examination, OUR_CALL)
    if ours:
        yield fine(f"notifications on {', '.join(channels)} come with the rows; {', '.join(ours)} send them")


def _names(examination: Examination, pattern: str) -> list[str]:
    query = text_of(callers(pattern))
    return [name for _, name in examination.connection.execute(query.encode()).fetchall()]
