"""What the doctor says about rowcast.publish()."""

from __future__ import annotations

from collections.abc import Iterator

from broker.feed.setup.findings import INSTALL, Examination, Finding, unwise


def check_properties(examination: Examination) -> Iterator[Finding]:
    """An earlier version's function is still there."""
    query = "SELECT FROM pg_proc WHERE proname = 'publish_properties' AND pronamespace = to_regnamespace('rowcast')"
    if examination.all(query) == []:
        yield unwise("rowcast.publish() is of an earlier version, which takes no properties", INSTALL)
