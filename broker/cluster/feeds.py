"""A feed of a cluster: one node reads it at a time, the one that has its lease; the others wait for that."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster.lease import Lease
from broker.cluster.link import Unavailable
from broker.cluster.rows import RowOutlet, TakenOver
from broker.feed.status import STANDBY
from broker.feed.supervise import Supervisor
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.cluster.node import Node
    from broker.config.feeds import FeedConfig
    from broker.feed.status import FeedStatus

logger = logging.getLogger("broker.cluster")

PAUSE_S: Final = 0.3


class ElectedFeed:
    """As `broker.feed.supervise.Supervisor`, but only while this node has the lease."""

    def __init__(self, node: Node, config: FeedConfig, status: FeedStatus) -> None:
        self._node = node
        self._config = config
        self._status = status
        self._supervisor: Supervisor | None = None
        self._terms = 0
        key = b"feed." + config.name.encode()
        self._lease = Lease(node.link, node.names, key, node.mark)

    def adopt(self, config: FeedConfig) -> None:
        """Other settings, from now on or from when this node reads the feed."""
        self._config = config
        if self._supervisor is not None:
            self._supervisor.adopt(config)

    async def run(self) -> None:
        """Feed whenever it is this node's turn, until cancelled."""
        while True:
            self._status.enter(STANDBY)
            self._node.status.feeds[self._config.name] = "elsewhere"
            await self._node.streams.made.wait()
            await self._lease.acquire()
            logger.info("The feed %s is read here from now on.", self._config.name)
            self._node.status.feeds[self._config.name] = "here"
            try:
                await self._hold()
            finally:
                with trio.move_on_after(1) as giving_back:
                    giving_back.shield = True
                    await self._lease.give_back()
            logger.warning("The feed %s is not read here any more.", self._config.name)

    async def _hold(self) -> None:
        """Until the lease is lost, or the rows are another node's, or some are to be read again."""
        node = self._node
        self._terms += 1
        holder = b"%b/%b.%d" % (node.mark, self._config.name.encode(), self._terms)
        keep_s = node.config.keep_wal_s
        outlet = RowOutlet(node.engine, node.link, node.names, self._status, holder, node.status, keep_s)
        try:
            await outlet.begin()
            if outlet.epoch != node.reader.epoch:
                raise Unavailable("this node has not found the log that was made anew")
        except (Unavailable, ApiError, NatsProtocolError) as error:
            logger.warning("The feed %s can't begin: %s", self._config.name, error)
            await trio.sleep(PAUSE_S)
            return
        supervisor = self._supervisor = Supervisor(self._config, outlet, self._status)
        outlet.here = lambda: supervisor.here
        try:
            async with trio.open_nursery() as sending:
                reading = trio.CancelScope()
                sender = trio.CancelScope(
                    shield=True
                )  # the feed's last rows go out before its position is saved
                sending.start_soon(self._send, outlet, reading, sender)
                node.reader.on_lost.append(reading.cancel)
                try:
                    with reading:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(supervisor.run)
                            await self._lease.keep()
                            nursery.cancel_scope.cancel()
                finally:
                    node.reader.on_lost.remove(reading.cancel)
                    sender.cancel()
        finally:
            self._supervisor = None

    async def _send(self, outlet: RowOutlet, reading: trio.CancelScope, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await outlet.run()
            except TakenOver:
                text = "The rows of the feed %s are written by another node, or the log has lost some."
                logger.warning(text, self._config.name)
                reading.cancel()
