"""The streams of a cluster while its nodes run: what somebody removes is made again, or it is said why it can't be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from broker.cluster.complaints import Complaints
from broker.cluster.link import Unavailable
from broker.cluster.retained_copy import see_to_copying
from broker.cluster.setup import info, made_at, make_streams, words_of
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.cluster.node import Node

logger = logging.getLogger("broker.cluster")


class Streams:
    """As one node sees to them.

    Attributes:
        made: set once all of them were there.
    """

    def __init__(self, node: Node) -> None:
        self.made = trio.Event()
        self._node = node
        self._making = trio.Lock()
        self._complaints = Complaints()

    async def see_to_them(self) -> None:
        """Miss all but the log, which is missed by who reads it.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        node = self._node
        created = ""
        copy: dict[str, Any] = {}
        for name in (node.names.retained, node.names.sessions):
            found = await info(node.link, name)
            if found is None:
                if not await self._is_made_again(name):
                    return
                found = await info(node.link, name) or {}
            if name == node.names.retained:
                copy = found
            created = made_at(found)
        node.status.streams_problem = ""
        node.owners.records_are_of(created)  # of the sessions', the last
        await self._see_to_copying(copy)

    async def _see_to_copying(self, copy: dict[str, Any]) -> None:
        """Raises: as above."""
        node = self._node
        try:
            await see_to_copying(node.link, node.names, copy, node.status.log_last)
        except ApiError as error:
            if error.passes:
                raise
            problem = f"NATS does not copy again what is retained in the log: {words_of(error)}"
            if self._complaints.is_due(problem, trio.current_time()):
                logger.error("In the cluster %s %s.", node.config.name, problem)

    async def make_again(self) -> None:
        """A stream is gone.  Raises: Unavailable, ApiError, NatsProtocolError."""
        async with self._making:  # else two would find the log new, and bring everything along
            if await make_streams(self._node.link, self._node.config):
                self.bring_along()

    def bring_along(self) -> None:
        """The log is new: what this node had retained is everybody's from now on."""
        engine = self._node.engine
        with engine.turn:
            for publication in engine.retained.all():
                if not publication.topic.startswith(b"$SYS"):
                    self._node.publisher.offer(publication)

    async def _is_made_again(self, name: str) -> bool:
        """Whether a stream that is gone is there again; else it is said why not, and what helps."""
        status = self._node.status
        if not status.streams_problem:
            logger.error("The stream %s is gone, with what was in it; it is made again.", name)
        try:
            await self.make_again()
        except (Unavailable, ApiError, NatsProtocolError) as error:
            problem = f"the stream {name} is gone and can't be made again: {words_of(error)}"
            if self._complaints.is_due(problem, trio.current_time()):
                logger.error("In the cluster %s %s.", self._node.config.name, problem)
            status.streams_problem = problem
            return False
        return True
