"""What nodes tell each other once a second, and when it changes: how they are, and which groups have members there."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster.link import NatsLink
from broker.cluster.names import Names
from broker.cluster.said import UNREADABLE
from protocol.nats import wire

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

logger = logging.getLogger("broker.cluster")

NODES_MAX: Final = 1000
TELL_S: Final = 1.0
KNOWN_S: Final = 3.5
"""How long what a node said of its groups is believed."""

NAMESAKE_S: Final = 15.0
"""A process of this node's name that is heard for longer is not one that this one follows and that is about to end."""

SAY_AGAIN_S: Final = 60.0


class Gossip:
    """One node's.

    Attributes:
        groups_here: names of the groups that have members on this node.
        groups_new: of these, whose place in the log is not known here.
    """

    def __init__(
        self, engine: Engine, link: NatsLink, names: Names, mark: bytes, status: ClusterStatus
    ) -> None:
        self.groups_here: Callable[[], list[str]] = list
        self.groups_new: Callable[[], list[str]] = list
        self._engine = engine
        self._link = link
        self._subject = names.groups(mark)
        self._mark = mark.decode()
        self._namesakes: dict[str, float] = {}
        """Other processes of this node's name, and since when they are heard."""
        self._said_at = -math.inf
        self._status = status
        self._elsewhere: dict[str, dict[str, float]] = {}
        """By group, nodes that have members, and when they said so."""
        self._new_to: dict[str, set[str]] = {}
        """By node, groups whose place it does not know; a node of an older version says none."""
        self._has_left = False
        self._changed = trio.Event()
        link.subscribe(names.groups("*"), self._told)

    async def run(self) -> None:
        """Tell the others, until cancelled."""
        while not self._has_left:
            self._tell(self.groups_here())
            self._changed = trio.Event()
            with trio.move_on_after(TELL_S):
                await self._changed.wait()

    def leave(self) -> None:
        """The node ends in order: it is not missed."""
        self._has_left = True
        self._tell([])

    def _tell(self, groups: list[str]) -> None:
        report = self._status.report(self._engine.connected, len(self._engine.sessions))
        said = {"n": self._mark, "g": groups, "u": self.groups_new(), "r": report, "left": self._has_left}
        self._link.send(wire.publish(self._subject, json.dumps(said).encode()))

    def tell_soon(self) -> None:
        """Something has changed that others should know."""
        self._changed.set()

    def others(self, group: str) -> list[str]:
        """Other nodes where a group has members."""
        now = trio.current_time()
        return [node for node, seen in self._elsewhere.get(group, {}).items() if now - seen < KNOWN_S]

    def others_who_know(self, group: str) -> list[str]:
        """Of these, nodes that know up to where the group was given the log."""
        return [node for node in self.others(group) if group not in self._new_to.get(node, ())]

    def _told(self, message: wire.Message) -> None:
        try:
            said = json.loads(message.payload)
            node, groups = str(said["n"]), [str(one) for one in said["g"]]
            new = {str(one) for one in said.get("u", ())}
            report = dict(said["r"])
        except UNREADABLE:
            self._status.unreadable += 1
            return
        if node == self._mark:
            return
        now = trio.current_time()
        nodes = self._status.nodes
        nodes[node] = (now, report)
        if node.rpartition("-")[0] == self._mark.rpartition("-")[0]:
            self._met_namesake(node, now)
        if said.get("left"):
            del nodes[node]
        if len(nodes) > NODES_MAX:
            nodes.pop(min(nodes, key=lambda one: nodes[one][0]))
        for others in self._elsewhere.values():
            others.pop(node, None)
        self._new_to.pop(node, None)
        if new:
            self._new_to[node] = new
        for name in groups:
            self._elsewhere.setdefault(name, {})[node] = now
        self._elsewhere = {name: others for name, others in self._elsewhere.items() if others}

    def _met_namesake(self, node: str, now: float) -> None:
        """Another process goes by this node's name."""
        since = self._namesakes.setdefault(node, now)
        if now - since >= NAMESAKE_S and now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            logger.error(
                "Another process of the cluster is the node %s, too: give each its own name, [cluster] node.",
                node.rpartition("-")[0],
            )
        if len(self._namesakes) > NODES_MAX:
            self._namesakes.clear()
