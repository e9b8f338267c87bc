"""What `/metrics` shows of this node's part in a cluster; nothing where it has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from broker.reports.exposition import Family, counter, gauge

if TYPE_CHECKING:
    from broker.reports.facts import Facts

_NUMBERS: Final = (
    ("connects", "counter", "Connections to a NATS server that were made."),
    ("published", "counter", "Messages of this node that the log has taken."),
    ("duplicates", "counter", "Of those, how many it had already."),
    ("retried", "counter", "Batches that were sent again."),
    ("given_up", "counter", "Messages that the log never acknowledged."),
    ("too_large", "counter", "Messages above NATS' max_payload."),
    ("position", "gauge", "Sequence in the log up to which messages were handed on here."),
    ("delivered", "counter", "Messages of the log that were handed on here."),
    ("repeated", "counter", "Rows that came again when the log was filled again."),
    ("unreadable", "counter", "Messages of the log that no node can have written."),
    ("live_sent", "counter", "QoS 0 messages to the other nodes."),
    ("live_received", "counter", "QoS 0 messages from the other nodes."),
    ("live_dropped", "counter", "QoS 0 messages that could not be sent to them."),
    ("gaps", "counter", "Times when messages of the log were gone before this node had read them."),
    ("session_gaps", "counter", "The same, of sessions that came back."),
    ("claimed", "counter", "Clients that became this node's."),
    ("refused", "counter", "CONNECTs that could not be decided about."),
    ("moved_here", "counter", "Clients that another node had before."),
    ("moved_away", "counter", "Clients that another node took."),
    ("saved", "counter", "Records of sessions that were written."),
    ("shared", "counter", "Messages of the log that members of shared subscriptions got here."),
    ("wills", "counter", "Wills of dead nodes' clients that this node published."),
)
"""Attributes of `ClusterStatus`."""


def cluster_families(facts: Facts) -> Iterator[Family]:
    """`rowcast_cluster_*`."""
    node = facts.cluster
    if node is None:
        return
    status = node.status
    for name, kind, text in _NUMBERS:
        make = counter if kind == "counter" else gauge
        yield make(f"rowcast_cluster_{name}", text, getattr(status, name))
    behind = max(status.behind, status.log_last - status.position, 0)
    yield gauge("rowcast_cluster_behind", "Messages of the log that this node has yet to hand on.", behind)
    yield gauge("rowcast_cluster_waiting", "Messages that wait for the log.", node.publisher.owed())
    yield gauge("rowcast_cluster_connected", "1 while a NATS server is connected.", int(bool(status.server)))
    yield gauge("rowcast_cluster_sessions", "Client ids that are this node's.", len(node.owners.owned))
    feeds = sum(where == "here" for where in status.feeds.values())
    yield gauge("rowcast_cluster_feeds_here", "Feeds that this node reads for all.", feeds)
