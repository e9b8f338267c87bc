"""Saying that rows may be missing: in the log, the counters, on `$SYS`, and where a dialect has a place for it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

from broker.config.dialects.gateway import DIALECT_KINDS
from broker.feed.outlet import FeedOutlet
from broker.feed.status import FeedStatus
from broker.gateway.channels import topic_of

logger = logging.getLogger("broker.feed")


def announce(
    status: FeedStatus, outlet: FeedOutlet, reason: str, start: str, end: str, tables: Sequence[str] = ()
) -> None:
    """Announce that what was committed between two positions may not have been delivered.

    Args:
        reason: what happened, in words.
        start: the last position known to be delivered, "" if unknown.
        end: the position from which on nothing is missing, but for tables that are not captured then.
        tables: those of which rows may be missing; () for all that the feed brings.
    """
    status.gap(reason)
    logger.warning(
        "feed %s: gap: %s; rows committed between %s and %s may be missing",
        status.name,
        reason,
        start or "an unknown position",
        end,
    )
    tell(status, outlet, reason, start, end, tables)


def tell(
    status: FeedStatus, outlet: FeedOutlet, reason: str, start: str, end: str, tables: Sequence[str] = ()
) -> None:
    """Publish a gap that has been counted and logged; as `announce`."""
    body: dict[str, object] = {"feed": status.name, "reason": reason, "from": start or None, "to": end}
    body |= {"number": status.gaps, "tables": list(tables) or None, "uncaptured": list(status.uncaptured)}
    outlet.publish(f"$SYS/feed/{status.name}/gap".encode(), json.dumps(body).encode(), 1, True)
    for kind in DIALECT_KINDS.values():
        notice = kind.machine.gap_notice(status.name, reason, time.time())
        if notice is not None:
            channel, text = notice
            outlet.publish(topic_of(kind.name, channel), text.encode(), 0, False)
    outlet.flush()
