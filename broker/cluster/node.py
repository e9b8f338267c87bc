"""One node of a cluster: what its engine hands over, and the tasks that serve it.

`take` is the engine's `log`: it decides where a publication goes.

    rows, QoS 1 and 2, what is retained, wills, what ports and programs send      the log, and from there to all nodes
    QoS 0 of clients                                                              here, and to the other nodes directly
    topics of the broker itself ($SYS)                                            here only
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import trio

from broker.cluster.clients import Clients
from broker.cluster.complaints import Complaints
from broker.cluster.gossip import Gossip
from broker.cluster.janitor import Janitor
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.live import LiveMessages
from broker.cluster.liveness import Liveness
from broker.cluster.names import Names
from broker.cluster.owners import Owners
from broker.cluster.publisher import Publisher
from broker.cluster.quorum import Quorum
from broker.cluster.reader import LogReader
from broker.cluster.repeats import turn_away
from broker.cluster.setup import info, make_streams, places, words_of
from broker.cluster.shares import Shares
from broker.cluster.status import SILENT_S, ClusterStatus
from broker.cluster.streams import Streams
from protocol.mqtt.reserved import CHANNEL_PREFIX
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.cluster.feeds import ElectedFeed
    from broker.config.cluster import ClusterConfig
    from broker.config.feeds import FeedConfig
    from broker.core.engine import Engine
    from broker.core.history import History
    from broker.core.promise import Promise
    from broker.core.publication import Publication
    from broker.core.session import Session
    from broker.feed.status import FeedStatus
    from broker.links.pump import Pump

logger = logging.getLogger("broker.cluster")

JOIN_S: Final = 10.0
"""How long listeners wait for the cluster at the start; then they open, and /readyz says what is missing."""

PAUSE_S: Final = 0.5
LOOK_S: Final = 2.0
FORGET_S: Final = 600.0
"""How long a node is shown that is heard of no more."""


class Node:
    """This process's part in the cluster.

    Args:
        engine: whose publications are shared; its `log` and `catch_up` are set.
        history: its positions become the log's sequences.
        pump: serves the connection to NATS.
    """

    def __init__(self, config: ClusterConfig, engine: Engine, history: History, pump: Pump) -> None:
        self.config = config
        self.status = ClusterStatus()
        self.names = Names(config.name)
        self.mark = f"{config.node}-{uuid4().hex[:8]}".encode()
        self.link = NatsLink(config, engine, pump, self.status)
        self.publisher = Publisher(engine, self.link, self.names, self.mark, self.status)
        self.reader = LogReader(
            engine, self.link, self.names, self.mark, self.publisher, history, self.status
        )
        self.streams = Streams(self)
        self.engine = engine
        self.quorum = Quorum(config, self.link, self.names, self.status)
        self.liveness = Liveness(engine, self.link, self.names, self.mark, self.quorum, self.publisher.fences)
        self.link.on_lost.append(self.liveness.forget_sightings)
        self._gossip = Gossip(engine, self.link, self.names, self.mark, self.status)
        self.shares = Shares(
            engine,
            self.link,
            self.names,
            self.mark,
            self.reader,
            self._gossip,
            config.keep_s,
            self.status,
        )
        self.owners = Owners(
            engine,
            self.link,
            self.names,
            self.liveness,
            self.reader,
            self.shares,
            self.publisher.repeats,
            self.status,
        )
        self.owners.on_dropped = self.publisher.give_up
        self.clients = Clients(engine, self.link, self.names, self.owners)
        self._janitor = Janitor(
            engine, self.link, self.names, self.liveness, self.publisher, self.mark, self.status
        )
        self._live = LiveMessages(engine, self.link, self.names, self.mark, self.status)
        engine.log = self.take
        engine.catch_up = self.catch_up
        engine.finish = self.finish

    async def run(
        self, stopping: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Be a part of the cluster until cancelled.

        Started once the log is read, or `JOIN_S` have passed, or the process is to end.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            nursery.start_soon(self.quorum.run)
            nursery.start_soon(self._keep_streams)
            nursery.start_soon(self.publisher.run)
            await nursery.start(self.shares.run)
            nursery.start_soon(self._gossip.run)
            await nursery.start(self.owners.run)
            with trio.move_on_after(JOIN_S) as joining:
                nursery.start_soon(_cancel_when, stopping, joining)
                await self.reader.current.wait()
            if joining.cancelled_caught:
                logger.error("Not in the cluster yet: %s.", "; ".join(self.status.unready()))
            task_status.started()

    def adopt(self, config: ClusterConfig) -> None:
        """Other addresses, or another way to show NATS who this is; used at the next connection."""
        self.config = config
        self.quorum.adopt(config)
        self.link.adopt(config)

    def feed(self, config: FeedConfig, status: FeedStatus) -> ElectedFeed:
        """A feed that one node reads for all."""
        from broker.cluster.feeds import ElectedFeed  # which needs psycopg

        return ElectedFeed(self, config, status)

    async def _keep_streams(self) -> None:
        """Make the streams, then read the log."""
        complaints = Complaints()
        while True:
            await self.link.until_open()
            try:
                is_new = await make_streams(self.link, self.config)
                break
            except (Unavailable, ApiError, NatsProtocolError) as error:
                problem = f"the streams are not ready: {words_of(error)}"
                if complaints.is_due(problem, trio.current_time()):
                    logger.warning("In the cluster %s %s.", self.config.name, problem)
                self.status.log_problem = problem
            await trio.sleep(PAUSE_S)
        await self._look()  # before anything is read that expires
        self.streams.made.set()
        if is_new:
            self.streams.bring_along()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.reader.run, self.streams.make_again)
            nursery.start_soon(self.liveness.run)
            await self.reader.current.wait()
            with self.engine.turn:
                self.owners.bring_along()
            nursery.start_soon(self._janitor.run)
            await self._look_at_log()

    async def _look_at_log(self) -> None:
        """Now and then, for reports, and for the time; and whether somebody has removed a stream."""
        while True:
            await trio.sleep(LOOK_S)
            await self._look()
            with suppress(Unavailable, ApiError, NatsProtocolError):
                await self.streams.see_to_them()

    async def _look(self) -> None:
        status = self.status
        asked_at = time.time()
        with suppress(Unavailable, ApiError, NatsProtocolError):
            found = await info(self.link, self.names.messages) or {}
            status.clock.told(found.get("ts"), asked_at, time.time())
            status.leader = str((found.get("cluster") or {}).get("leader", ""))
            status.log_first, status.log_last = places(found)

    def report(self) -> dict[str, Any]:
        """This node and those that it hears of, for people."""
        now = trio.current_time()
        mine = self.status.report(self.engine.connected, len(self.engine.sessions))
        nodes = [{"node": self.config.node, "heard_s": 0.0, "here": True, **mine}]
        is_again = {self.config.node}
        for mark, (heard, said) in sorted(self.status.nodes.items(), key=lambda one: -one[1][0]):
            name, heard_s = mark.rpartition("-")[0], round(now - heard, 1)
            if heard_s < SILENT_S or name not in is_again:  # else it is there again, under another mark
                nodes.append({**said, "node": name, "heard_s": heard_s, "here": False})
            is_again.add(name)
        nodes[1:] = sorted(nodes[1:], key=lambda one: str(one["node"]))
        status = self.status
        return {
            "cluster": self.config.name,
            "leader": status.leader,
            "log": {"first": status.log_first, "last": status.log_last},
            "nodes": [one for one in nodes if one["heard_s"] < FORGET_S],
        }

    async def leave(self) -> None:
        """The node ends in an orderly way: what it owes the log is there, and its clients are free for other nodes."""
        await self.publisher.drained()
        await self.owners.leave()
        self._gossip.leave()
        await self.liveness.leave()

    # --- what the engine hands over ------------------------------------------------------------------------

    def take(self, publication: Publication) -> bool:
        """Whether the publication comes back from the log, so that it is not handed on now."""
        if publication.sequence:  # released by a PUBREL: the log had it before the PUBREC
            return True
        topic = publication.topic
        if topic.startswith(b"$") and not topic.startswith(CHANNEL_PREFIX):
            return False
        engine = self.engine
        if publication.is_requested and not publication.is_ingested and engine.ingest is not None:
            engine.ingest(publication)  # here and not on every node
            publication.is_ingested = True
        is_will = bool(publication.message_id) and self.owners.takes_will(publication)
        if publication.qos == 0 and not publication.retain and publication.client_id and not is_will:
            self._live.offer(publication)
            return False
        if self.publisher.overdue.refuses and publication.client_id and publication.packet_id:
            publication.join_promise()  # without one it would count as settled
            turn_away(engine, publication.client_id)
            return True
        # Until the log has brought it: it is not to be handed on for itself, and will stand behind this place.
        publication.sequence = -1 - self.status.position
        self.publisher.offer(publication)
        return True

    def finish(self, session: Session, packet_id: int) -> Promise | None:
        """What a PUBCOMP waits for: a session that another node may have next knows there that this has ended."""
        return None if session.clean else self.publisher.finish(session.client_id, packet_id)

    def catch_up(self, session: Session, topic_filter: bytes, granted: int) -> None:
        """A subscription gets its retained messages once everything is here that the log has now."""
        link = session.link

        def begin(came: set[bytes]) -> None:
            if session.link is link and topic_filter in session.subscriptions:
                self.engine.replaying.begin(session, topic_filter, granted, came)

        self.reader.when_current(begin)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
