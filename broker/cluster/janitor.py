"""What dead nodes leave behind: their clients' wills, published by one node for all.

Whoever has the lease looks once a second whether a node has died, and then publishes its wills, each under the id that
the node itself would have used; so a will comes once, whoever dies in between.
"""

from __future__ import annotations

import json
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster import session_state
from broker.cluster.lease import Lease, Record, has_ended
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.said import UNREADABLE
from broker.cluster.setup import ask
from broker.cluster.will_record import remove
from broker.core.promise import Promise
from protocol.nats import jetstream
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.cluster.liveness import Liveness
    from broker.cluster.publisher import Publisher
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

logger = logging.getLogger("broker.cluster")

LOOK_S: Final = 1.0
LOOK_FOR_ALL_EVERY: Final = 60
"""Looks between two that also find nodes whose own record is long gone."""

PUBLISH_S: Final = 30.0


class Janitor:
    """One node's wish to be the one who does it."""

    def __init__(
        self,
        engine: Engine,
        link: NatsLink,
        names: Names,
        liveness: Liveness,
        publisher: Publisher,
        mark: bytes,
        status: ClusterStatus,
    ) -> None:
        self._engine = engine
        self._link = link
        self._names = names
        self._liveness = liveness
        self._publisher = publisher
        self._status = status
        self._lease = Lease(link, names, b"janitor", mark)
        self._done: set[bytes] = set()
        self._at_work: set[bytes] = set()
        self._due: dict[bytes, float] = {}
        """Subjects of wills that wait for their delay."""

    async def run(self) -> None:
        """See to what dead nodes left whenever it is this node's turn, until cancelled."""
        while True:
            await self._lease.acquire()
            self._status.is_janitor = True
            self._done.clear()
            self._due.clear()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._look, nursery)
                    await self._lease.keep()
                    nursery.cancel_scope.cancel()
            finally:
                self._status.is_janitor = False
                with trio.move_on_after(1) as giving_back:
                    giving_back.shield = True
                    await self._lease.give_back()

    async def _look(self, nursery: trio.Nursery) -> None:
        looks = 0
        undecided: set[bytes] = set()  # that one is dead takes its time, and its own record may be gone
        while True:
            with suppress(Unavailable, ApiError, NatsProtocolError):
                marks = await self._marks(looks % LOOK_FOR_ALL_EVERY == 0)
                undecided |= marks - {self._liveness.mark} - self._done - self._at_work
                for mark in list(undecided):
                    with suppress(Unavailable, ApiError, NatsProtocolError):  # the others have their turn
                        if await self._liveness.is_dead(mark):
                            undecided.discard(mark)
                            self._at_work.add(mark)
                            nursery.start_soon(self._see_to, mark)
                looks += 1
            await trio.sleep(LOOK_S)

    async def _marks(self, all_of_them: bool) -> set[bytes]:
        """Nodes that there are, or were.  Raises: Unavailable, ApiError, NatsProtocolError."""
        nodes = self._names.record(b"n.")
        marks = {one[len(nodes) :] for one in await self._subjects(nodes + b">")}
        if all_of_them:
            wills = self._names.record(b"w.")
            marks |= {one[len(wills) :].split(b".")[0] for one in await self._subjects(wills + b">")}
        return marks

    async def _subjects(self, subject_filter: bytes) -> list[bytes]:
        found = await ask(self._link, jetstream.stream_subjects(self._names.sessions, subject_filter))
        return [one.encode() for one in (found.get("state", {}).get("subjects") or {})]

    async def _see_to(self, mark: bytes) -> None:
        """Publish every will of a dead node, each when its delay is over."""
        try:
            prefix = self._names.record(b"w.%b." % mark)
            while True:
                waits_s = 0.0
                try:
                    for subject in await self._subjects(prefix + b">"):
                        waits_s = max(waits_s, await self._publish(mark, subject[len(prefix) :]))
                except (Unavailable, ApiError, NatsProtocolError, trio.TooSlowError):
                    # Also where the log takes nothing: it is offered again, under the same id.
                    waits_s = LOOK_S
                if not waits_s:
                    self._done.add(mark)
                    return
                await trio.sleep(min(waits_s, 5.0))
        finally:
            self._at_work.discard(mark)

    async def _publish(self, mark: bytes, client: bytes) -> float:
        """Publish one will, if its time has come: in how many seconds that is, 0 if it is done.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        stored = await Record(self._link, self._names, b"w.%b.%b" % (mark, client)).get()
        if stored is None or has_ended(stored):
            return 0.0
        self._engine.turn.tick()
        now = self._engine.now
        try:
            value = json.loads(stored.payload)
            message_id = str(value["i"]).encode()
            publication = session_state.read_message(value["w"], now, self._status.clock.now())
            delay_s, expiry_s = float(value["d"]), int(value["e"])
        except (*UNREADABLE, NatsProtocolError) as error:
            logger.error("A will of a client of the node %s can't be read: %s", mark.decode(), error)
            return 0.0
        due = self._due[stored.subject] = min(self._due.get(stored.subject, math.inf), now + delay_s)
        if due > now:
            return due - now
        if expiry_s >= 0:
            publication.expires_at = now + expiry_s
        publication.message_id = message_id
        publication.sequence = -1
        done = trio.Event()
        promise = publication.promise = Promise()
        promise.on_kept = done.set
        with self._engine.turn:
            self._publisher.offer(publication)
        with trio.fail_after(PUBLISH_S):
            await done.wait()
        self._status.wills += 1
        await remove(self._link, self._names, mark, client, message_id)
        return 0.0
