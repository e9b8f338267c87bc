"""What a client sends again on this node: whether it is a message that the log has already, sent by another node.

    this node had it          its id is known, and NATS drops what is twice
    another one had it        the log is read from where the client's record says: messages have their ids there, and
                              `broker.cluster.finished` says which of them have ended
        which let it go       if the log does not have it yet, its id is known by the record

The latter at QoS 2 only, and only for a PUBLISH with DUP; what its client publishes behind it waits.  NATS knows an id
for two minutes, and a client may be away for longer: so what another node had is always looked for.

Invariant: a message is taken for one that the log has only if it says the same under the same packet id, and no PUBREL
of that packet id came after it.  In doubt it is another one: to come twice is better than not at all.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster import record
from broker.cluster.finished import lines
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.log_end import certain_end
from broker.cluster.names import CLIENTS, Names
from broker.cluster.stretch import read_all
from broker.cluster.tasks import Tasks
from broker.core.publication import Publication
from broker.ingest.message_ids import MessageIds, epoch_in, is_of, prefix_of
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats import jetstream, wire
from protocol.nats.delivery import Delivered
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.core.engine import Engine

REMEMBERED_S: Final = 60.0
"""How long after a crash its client may take to send everything again, should the next node crash, too."""

HELD_MAX: Final = 1000
"""Messages of a client that wait for the log to be read."""

FILTERS_MAX: Final = 50
"""Topics that are looked for at a time."""

AGAIN_S: Final = 0.2
TURN_AWAY_S: Final = 6.0


class _Claim:
    """What is known of a client since it came to this node."""

    def __init__(self, epoch: int, start: int | None) -> None:
        self.epoch = epoch
        """Ids that this node made up to then are of an earlier stay."""
        self.start = start
        """Behind this place in the log are messages of a node that has crashed; None if all are known."""
        self.came_at = trio.current_time()


class Repeats:
    """Of one node's clients.

    Args:
        ids: of this node's messages.

    Attributes:
        held: by client id, what waits for the log to be read.
        unsaid: by client id and packet id, ids in the log of what a node before this one had sent, and has not ended
            since; only of those clients that have any.
        offer: takes a message to the log, with the id that it has, if it has one.
    """

    def __init__(self, engine: Engine, link: NatsLink, names: Names, ids: MessageIds) -> None:
        self.held: dict[bytes, list[Publication]] = {}
        self.offer: Callable[[Publication], None] = lambda publication: None
        self._engine = engine
        self._link = link
        self._names = names
        self._ids = ids
        self.unsaid: dict[bytes, dict[int, str]] = {}
        self._claims: dict[bytes, _Claim] = {}
        self._tasks = Tasks()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this lasts, the log is read for those who wait."""
        async with self._tasks.opened():
            yield

    # --- clients come and go -------------------------------------------------------------------------------

    def came(self, client_id: bytes, start: int | None, under_way: list[tuple[int, bytes]]) -> None:
        """A client is this node's from now on.

        Args:
            start: where its record ends, if its node has crashed.
            under_way: (packet id, id in the log) of what its node had not heard of from the log.
        """
        self._claims[client_id] = _Claim(self._ids.epoch, start)
        self.unsaid.pop(client_id, None)
        if under_way:
            self.unsaid[client_id] = {packet_id: message_id.decode() for packet_id, message_id in under_way}

    def gone(self, client_id: bytes) -> None:
        """It is not any more; what was held has not been acknowledged, and comes again elsewhere.

        But for what has no acknowledgement, such as a will, which nobody sends again.
        """
        self._claims.pop(client_id, None)
        self.unsaid.pop(client_id, None)
        for one in self.held.pop(client_id, ()):
            if not one.packet_id:
                self.offer(one)

    def start_of(self, client_id: bytes) -> int | None:
        """Where the next node has to look from, should this one crash, for what another crashed node had sent."""
        claim = self._claims.get(client_id)
        if claim is None or trio.current_time() - claim.came_at > REMEMBERED_S:
            return None
        return claim.start

    def log_lost(self, last: int, owed: list[Publication]) -> None:
        """The log has nothing any more that it had behind this place; what is put there from now on is looked for.

        Args:
            owed: to the log; they will stand behind it.
        """
        for claim in self._claims.values():
            claim.start = last if claim.start is None else min(claim.start, last)
            claim.came_at = trio.current_time()
        for one in [*owed, *(one for held in self.held.values() for one in held)]:
            if one.sequence < -1 - last:
                one.sequence = -1 - last

    def unsaid_of(self, client_id: bytes, others: set[int]) -> list[tuple[int, bytes]]:
        """(packet id, id in the log) of what a node before this one had sent to the log, and that has not ended since.

        The next node is to know it, too, whether or not the client has repeated it here.

        Args:
            others: packet ids of which more is known here.
        """
        ids = self.unsaid.get(client_id, {})
        return [(packet_id, ids[packet_id].encode()) for packet_id in ids if packet_id not in others]

    # --- ids -----------------------------------------------------------------------------------------------

    def ended(self, client_id: bytes, packet_id: int) -> None:
        """A PUBREL came, or a PUBACK leaves: the next message under this packet id is another one, whatever it says."""
        self._ids.forget(client_id, packet_id)
        self.unsaid.get(client_id, {}).pop(packet_id, None)

    def id_of(self, publication: Publication) -> str:
        """The id of a message with DUP; "" if the log has to be read for it."""
        claim = self._claims.get(publication.client_id)
        packet_id = publication.packet_id
        known = self._ids.newest(publication.client_id, packet_id)
        if claim is not None:
            if known is not None and epoch_in(known) <= claim.epoch:
                known = None
            if known is None and publication.qos == 2 and claim.start is not None:
                return ""
            if known is None:
                known = self.unsaid.get(publication.client_id, {}).get(packet_id)
        if known is not None and is_of(known, publication):
            return known
        return self._ids.fresh(publication, time.time_ns())

    def hold(self, publication: Publication) -> None:
        """Keep a message back until the log was read, and behind it what its client publishes."""
        client_id = publication.client_id
        if (
            publication.packet_id
        ):  # also of one that is turned away: without a promise it would count as settled
            publication.join_promise()
        held = self.held.get(client_id)
        if held is None:
            held = self.held[client_id] = []
            self._tasks.start(self._settle, client_id, held)
        elif len(held) >= HELD_MAX:
            turn_away(self._engine, client_id)
            return
        held.append(publication)

    # --- the log is read -----------------------------------------------------------------------------------

    async def _settle(self, client_id: bytes, held: list[Publication]) -> None:
        """Read the log for what is held, and let it go on its way."""
        began = trio.current_time()
        while self.held.get(client_id) is held:
            claim = self._claims[client_id]
            batch = list(held)
            asked = [one for one in batch if one.dup and one.packet_id and not self.id_of(one)]
            try:
                found = await self._search(asked, claim.start or 0)
            except (Unavailable, ApiError, NatsProtocolError):
                if trio.current_time() - began > TURN_AWAY_S:
                    with self._engine.turn:
                        turn_away(self._engine, client_id)
                await trio.sleep(AGAIN_S)
                continue
            with self._engine.turn:
                if self.held.get(client_id) is not held:
                    return
                del held[: len(batch)]
                if not held:
                    del self.held[client_id]
                for one in batch:
                    self._let_go(one, one in asked, found.get(prefix_of(one).encode()))

    def _let_go(self, one: Publication, was_asked: bool, found: tuple[int, str] | None) -> None:
        if was_asked and found is not None:
            one.sequence, message_id = found
            self.unsaid.setdefault(one.client_id, {})[one.packet_id] = message_id
            one.message_id = message_id.encode()
        else:
            if was_asked:
                known = self.unsaid.get(one.client_id, {}).get(one.packet_id)
                is_same = known is not None and is_of(known, one)
                message_id = known if is_same and known else self._ids.fresh(one, time.time_ns())
                one.message_id = message_id.encode()
            self.offer(one)
        if one.packet_id and one.promise is not None:
            one.promise.keep()

    async def _search(self, asked: list[Publication], start: int) -> dict[bytes, tuple[int, str]]:
        """(place, id) by `prefix_of` of those that the log has, and that have not ended.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        if not asked:
            return {}
        _, end = await certain_end(self._link, self._names)
        if end <= start:
            return {}
        search = _Search(self._names, asked)
        subjects = sorted({self._names.message(CLIENTS, one.retain, one.topic) for one in asked})
        for first in range(0, len(subjects), FILTERS_MAX):
            # With the end, at which the reading is complete.
            filters = (self._names.end, self._names.finished, *subjects[first : first + FILTERS_MAX])
            await read_all(self._link, self._names.messages, start + 1, end, filters, search.look)
        return search.found()


class _Search:
    """For messages of one client that say the same as those that it repeats."""

    def __init__(self, names: Names, asked: list[Publication]) -> None:
        self._finished = names.finished
        self._asked = {prefix_of(one).encode(): one for one in asked}
        self._ended: dict[bytes, int] = {}
        self._last: dict[bytes, tuple[int, str]] = {}

    def look(self, message: wire.Message) -> None:
        """At each message of the log, in its order; at some more than once."""
        place = Delivered(message.reply).stream_sequence
        if message.subject == self._finished:
            for prefix in self._asked.keys() & lines(message.payload):
                self._ended[prefix] = max(place, self._ended.get(prefix, 0))
            return
        message_id = message.headers.get(jetstream.MSG_ID) or b""
        prefix = message_id[: message_id.rfind(b":", 0, message_id.rfind(b":")) + 1]
        asked = self._asked.get(prefix)
        words = record.value_in(message.block).split(b" ")
        if asked is not None and words[2:3] == [b"2"] and is_of(message_id.decode(), asked):
            self._last[prefix] = (place, message_id.decode())

    def found(self) -> dict[bytes, tuple[int, str]]:
        """By prefix."""
        return {
            prefix: there for prefix, there in self._last.items() if self._ended.get(prefix, 0) < there[0]
        }


def turn_away(engine: Engine, client_id: bytes) -> None:
    """End a client's connection, without the acknowledgement that it waits for."""
    session = engine.sessions.get(client_id)
    link = None if session is None else session.link
    if link is not None:
        link.code = ReasonCode.SERVER_BUSY
        link.close("disconnected: the cluster's log takes nothing.")
