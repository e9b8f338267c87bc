"""Whether what this node writes reaches a quorum: a server that answers pings may itself be cut off from the others.

    a write was taken within DOUBT_S       nobody is asked
    none for longer                        every server is asked to take one, the node's own on the connection there is
    another server takes it, ours does not the connection goes there
    no server does                         it counts who could be asked: enough of them, and nobody has a quorum

Invariant: `is_elsewhere` is False only where a quorum needs a server that has just said that it has none.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import trio

from broker.cluster.handshake import send, shake_hands, take
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from protocol.nats import jetstream, wire
from protocol.nats.connection import Subscriptions, publication
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.config.cluster import ClusterConfig

logger = logging.getLogger("broker.cluster")

DOUBT_S: Final = 2.5
"""Longer than a write takes, and shorter than it takes a leader that is cut off to have a successor (4 s or more)."""

TICK_S: Final = 0.25
ANSWER_S: Final = 0.7
FRESH_S: Final = 2.5
"""What was seen before that does not count.  Less than the others look at a node before it is dead to them (3 s)."""


class Quorum:
    """What one node knows of it.

    Args:
        status: `quorum_problem` is kept up to date.
    """

    def __init__(self, config: ClusterConfig, link: NatsLink, names: Names, status: ClusterStatus) -> None:
        self._config = config
        self._link = link
        self._status = status
        self._subject = names.record(b"quorum")
        self._taken_at = trio.current_time()
        self._without: dict[str, float] = {}
        """Servers that were asked and did not take anything, and when that was."""
        self._enough = _needed(config)
        """So many servers are in every quorum, one of them at least."""

    def adopt(self, config: ClusterConfig) -> None:
        """Ask these servers from now on."""
        self._config = config
        self._enough = _needed(config)
        self._without.clear()

    def taken(self, asked_at: float) -> None:
        """A quorum has taken a write that was sent then."""
        self._taken_at = max(self._taken_at, asked_at)
        self._status.quorum_problem = ""

    def is_elsewhere(self, now: float) -> bool:
        """Whether other nodes may reach a quorum although this one does not."""
        if self._enough == len(self._config.nats) == 1:
            return False  # it is more likely to be gone than the way to it
        return sum([now - asked_at <= FRESH_S for asked_at in self._without.values()]) < self._enough

    async def run(self) -> None:
        """Look around whenever it is in doubt, until cancelled."""
        while True:
            await trio.sleep(TICK_S)
            silent_s = trio.current_time() - self._taken_at
            if silent_s > DOUBT_S:
                self._status.quorum_problem = f"no quorum has taken anything for {silent_s:.0f} s"
                await self._look_around()

    async def _look_around(self) -> None:
        """Ask all servers at once, and go where one takes writes if this node's own does not."""
        began = trio.current_time()
        here = self._link.url
        reached: set[str] = set()
        takes: set[str] = set()

        async def ask(url: str) -> None:
            try:
                with trio.move_on_after(ANSWER_S):
                    await (self._ask_here(reached) if url == here else self._ask(url, reached))
                    takes.add(url)
            except (OSError, Unavailable, ApiError, NatsProtocolError, ValueError):
                pass

        async with trio.open_nursery() as nursery:
            for url in self._config.nats:
                nursery.start_soon(ask, url)
        if here in takes:
            self.taken(began)
        elif takes:
            self._link.prefer(min(takes), "its server takes no writes, and another does")
        else:
            # Others may be named by now.
            self._without.update(dict.fromkeys(reached.intersection(self._config.nats), began))

    async def _ask_here(self, reached: set[str]) -> None:
        """Raises: Unavailable, ApiError, NatsProtocolError; cancelled if nothing comes."""
        if self._link.hears(trio.current_time()):
            reached.add(self._link.url)
        jetstream.pub_ack(await self._link.request(self._subject, b"", ANSWER_S * 2))

    async def _ask(self, url: str, reached: set[str]) -> None:
        """On a connection of its own.  Raises: OSError, ValueError, ApiError, NatsProtocolError."""
        subscriptions = Subscriptions(b"_INBOX." + uuid4().hex.encode())
        answers: list[wire.Message | None] = []
        reply = subscriptions.expect(answers.append)
        sock, connection = await shake_hands(url, self._config, subscriptions)
        try:
            reached.add(url)
            await send(sock, publication(self._subject, b"", None, reply))
            while not answers:
                await take(sock, connection)
        finally:
            sock.close()
        assert answers[0] is not None
        jetstream.pub_ack(answers[0])


def _needed(config: ClusterConfig) -> int:
    return max(len(config.nats), config.replicas) - config.replicas // 2
