"""A seal on a feed's place in `rowcast.feed`: what is there was written by Rowcast, or was moved by hand.  SQL; pure.

A place that somebody moves forwards while Rowcast is away skips rows, and looks as if they had been delivered.
The seal keeps nobody from it who wants to deceive; who copies a place, or corrects it, does not think of the seal.
"""

from __future__ import annotations

from typing import Final


def seal(seq: str = "read_seq", row: str = "read_id", marks: str = "marks", kind: str = "kind") -> str:
    """SQL for the seal of a place; by default of the one that is there."""
    return f"md5(concat_ws('/', {kind}, {seq}, {row}, {marks}))"


IS_BROKEN: Final = f"coalesce(to_jsonb(feed) ->> 'sealed' <> {seal()}, false)"
"""Of `rowcast.feed`; never where no seal is: after an installation, or one of an earlier version."""

BROKEN: Final = "somebody has changed the feed's place in rowcast.feed"
