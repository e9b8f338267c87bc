"""What this node's part in the cluster is doing and has done, as plain attributes that reports read."""

from __future__ import annotations

import logging
from typing import Any, Final

from broker.cluster.clock import ServerClock

logger = logging.getLogger("broker.cluster")

SILENT_S: Final = 5.0
"""A node tells of itself once a second; who is not heard of for so long is missed."""


class ClusterStatus:
    """Counters only grow.

    Attributes:
        server: the NATS server that this node is connected to, "" for none; `problem`: why.
        quorum_problem: why that server is of no use, though it is connected; `log_problem`: what is wrong with the log;
            `streams_problem`: with the streams beside it.
        connects: connections that were made.
        published: messages of this node that the log has taken; `duplicates` of them it had already.
        retried: batches that were sent again; `given_up`: messages that were never acknowledged.
        too_large: messages that NATS' max_payload does not allow.
        position: the last sequence of the log that was handed on here; `behind`: how many are waiting, as NATS said.
        awaited: marks in the log that somebody waits for until this node has read them.
        delivered: messages of the log that were handed on here.
        repeated: rows that came again when the log was filled again, and that clients were not given again.
        unreadable: messages of the log that no node can have written.
        live_sent, live_received, live_dropped: QoS 0 messages to and from other nodes, and those that were not sent.
        gaps: times when messages of the log were gone before this node could read them.
        session_gaps: the same of sessions that came back.
        claimed: client ids that became this node's; `refused`: CONNECTs that could not be decided about.
        moved_here, moved_away: of these, clients that another node had, and those that another node took.
        leader: the NATS server that decides about the log; `log_first`, `log_last`: what is in it.
        shared: messages of the log that members of groups got here.
        saved: records of sessions that were written.
        clock: what time it is, for whatever nodes tell each other.
        is_janitor: this node publishes the wills of dead ones; `wills`: those that it published.
    """

    def __init__(self) -> None:
        self.server = ""
        self.problem = "not connected yet"
        self.log_problem = "the log has not been read yet"
        self.streams_problem = ""
        self.quorum_problem = ""
        self.connects = 0
        self.published = 0
        self.duplicates = 0
        self.retried = 0
        self.given_up = 0
        self.too_large = 0
        self.position = 0
        self.behind = 0
        self.awaited: set[bytes] = set()
        self.delivered = 0
        self.repeated = 0
        self.unreadable = 0
        self.live_sent = 0
        self.live_received = 0
        self.live_dropped = 0
        self.gaps = 0
        self.session_gaps = 0
        self.claimed = 0
        self.refused = 0
        self.moved_here = 0
        self.moved_away = 0
        self.saved = 0
        self.wills = 0
        self.is_janitor = False
        self.shared = 0
        self.leader = ""
        self.log_first = 0
        self.log_last = 0
        self.nodes: dict[str, tuple[float, dict[str, Any]]] = {}
        """Other nodes: when they were heard last, as `trio.current_time` has it, and what they said of themselves."""
        self.clock = ServerClock()
        self.feeds: dict[str, str] = {}
        """Who has each feed, as this node knows: `here`, or `elsewhere`."""

    def report(self, clients: int, owned: int) -> dict[str, Any]:
        """What this node tells the others, and shows of itself."""
        return {
            "clients": clients,
            "sessions": owned,
            "server": self.server,
            "leader": self.leader,
            "position": self.position,
            "behind": max(self.behind, self.log_last - self.position, 0),
            "feeds": sorted(name for name, where in self.feeds.items() if where == "here"),
            "publishes_wills": self.is_janitor,
            "moved_here": self.moved_here,
            "moved_away": self.moved_away,
            "gaps": self.gaps + self.session_gaps,
            "unready": self.unready(),
        }

    def unready(self) -> list[str]:
        """Why what needs the cluster does not get through, in words; empty if it does."""
        others = (self.log_problem, self.streams_problem, self.quorum_problem)
        why = [self.problem] if self.problem else [one for one in others if one]
        return [f"cluster: {'; '.join(why)}"] if why else []
