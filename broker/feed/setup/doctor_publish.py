"""What the doctor says about rowcast.publish(), and about what Rowcast has installed and somebody has altered."""

from __future__ import annotations

from collections.abc import Iterator

from broker.feed.altered import ADDED, ALTERED_FUNCTION, ALTERED_OUTBOX
from broker.feed.cures import INSTALL
from broker.feed.setup.findings import Examination, Finding, unwise, wrong


def check_properties(examination: Examination) -> Iterator[Finding]:
    """An earlier version's function is still there."""
    query = "SELECT FROM pg_proc WHERE proname = 'publish_properties' AND pronamespace = to_regnamespace('rowcast')"
    if examination.all(query) == []:
        yield unwise("rowcast.publish() is of an earlier version, which takes no properties", INSTALL)


def check_altered(examination: Examination) -> Iterator[Finding]:
    """Functions of ours that somebody has replaced, and what keeps rows from the outbox."""
    is_outbox = examination.config.captures_by == "trigger"
    first = f"{ALTERED_OUTBOX}, " if is_outbox else ""
    (altered,) = examination.one(f"SELECT coalesce({first}{ALTERED_FUNCTION})".replace("%%", "%"))
    if altered is not None:
        cure = "drop it" if altered.startswith(ADDED) else INSTALL
        yield wrong(f"{altered} is not as Rowcast has made it: rows or messages are lost", cure)
