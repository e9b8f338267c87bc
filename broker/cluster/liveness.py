"""Which nodes live: a record for each start of a node, renewed by it, written by compare-and-set.

    (value of its own)  ── renewed every second ──▶ itself
    (expired)           ── nobody renews it for GRACE_S ──▶ "dead", by whoever looks for it
    "dead"              for good: a node that finds this of itself closes its clients, and goes on under another mark

Invariant: others take a node's clients, and publish their wills, only after its record says "dead"; so that is decided
once, and the node itself can't miss it.  By then the log takes nothing more of it, see `fences`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster.fences import Fences
from broker.cluster.lease import Record, has_ended
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.quorum import Quorum
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.core.engine import Engine
    from protocol.nats.jetstream import Stored

logger = logging.getLogger("broker.cluster")

LIVES_S: Final = 4
"""What a record lives without being renewed."""

RENEW_S: Final = 1.0
TICK_S: Final = 0.5
GRACE_S: Final = 3.0
"""So long a record has to be seen ended before its node counts as dead, or an outage of NATS would kill all."""

STOOD_STILL_S: Final = LIVES_S + GRACE_S - 1.0
"""A process that did nothing for so long may be dead to the others."""

DEAD: Final = b"dead"
DEAD_S: Final = 24 * 3600


class Liveness:
    """This node's record, and what it knows of others.

    Args:
        mark: of this start of the node.
        quorum: hears of every renewal, and knows whether the others may have one where this node has none.
        fences: of dead nodes.

    Attributes:
        mark: under which this node has clients; another one after it was dead to the others.
        renewed_at: when the last renewal was sent that a quorum has taken.
        on_dead: told, inside a turn, that others may have taken all that was here.
    """

    def __init__(
        self, engine: Engine, link: NatsLink, names: Names, mark: bytes, quorum: Quorum, fences: Fences
    ) -> None:
        self.mark = mark + b"-1"
        fences.live_as(self.mark)
        fences.on_own = self._found_dead
        self._fences = fences
        self.on_dead: Callable[[], None] = lambda: None
        self._first = mark
        self._lives = 1
        self._engine = engine
        self._link = link
        self._names = names
        self._quorum = quorum
        self._soon = trio.Event()
        self._sequence = 0
        self.renewed_at = trio.current_time()
        self._seen_ended: dict[bytes, float] = {}
        self._past: set[bytes] = set()
        """Marks of this process's earlier lives that are not known to be dead to the others yet."""
        self._began = trio.Event()
        self._turn_at = trio.current_time()
        link.on_open.append(self._renew_soon)
        if engine.turn.clock is not None:
            engine.turn.clock = self._watched(engine.turn.clock)

    def _watched(self, clock: Callable[[], float]) -> Callable[[], float]:
        """The clock of turns, which notices first of all that this process stood still."""

        def look() -> float:
            now = clock()
            before, self._turn_at = self._turn_at, now
            if now - self.renewed_at > STOOD_STILL_S:
                self._look(now, now - before > STOOD_STILL_S)
            return now

        return look

    def _look(self, now: float, stood_still: bool) -> None:
        """The others may take this node for dead by now; where nobody reaches a quorum they do not."""
        if stood_still:
            self._die("this process stood still")
        elif self._engine.connected and self._quorum.is_elsewhere(now):
            self._die("no NATS server that has a quorum can be reached")

    def _record(self, mark: bytes) -> Record:
        return Record(self._link, self._names, self._names.node(mark))

    # --- this node -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Say once a second, and on every new connection, that this node lives."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            while True:
                await self._link.until_open()
                self._soon = trio.Event()
                await self._renew()
                await self._bury()
                with trio.move_on_after(RENEW_S):
                    await self._soon.wait()

    def _renew_soon(self) -> None:
        """There is a new connection, since the one before may have been of no use, or a new mark."""
        self._soon.set()

    async def _tick(self) -> None:
        """Have turns, whose clock notices what is wrong, also where nobody says anything."""
        while True:
            await trio.sleep(TICK_S)
            with self._engine.turn:
                pass

    async def ready(self) -> None:
        """Wait until this node's record is there, so that others see to the wills that it leaves."""
        await self._began.wait()

    async def _renew(self) -> None:
        mark = self.mark
        asked_at = trio.current_time()
        try:
            try:
                ack = await self._record(mark).put(b"lives", self._sequence, LIVES_S)
            except ApiError as error:
                if not error.is_conflict:
                    raise
                stored = await self._record(mark).get()
                if mark != self.mark:
                    return
                if stored is not None and stored.payload == DEAD:
                    self._found_dead(mark)
                    return
                self._sequence = 0 if stored is None else stored.sequence
                ack = await self._record(mark).put(b"lives", self._sequence, LIVES_S)
        except (Unavailable, ApiError, NatsProtocolError):
            return
        self._quorum.taken(asked_at)
        if mark == self.mark:
            self._sequence = ack.sequence
            self.renewed_at = asked_at
            self._began.set()

    async def _bury(self) -> None:
        """Who lived here before is dead at once, and its fence is there: its clients may be let in again."""
        with suppress(Unavailable, ApiError, NatsProtocolError):
            for mark in list(self._past):
                if await self.is_dead(mark):
                    self._past.discard(mark)

    def _found_dead(self, mark: bytes) -> None:
        with self._engine.turn:
            if mark == self.mark:
                self._die("the other nodes took it for dead")

    def _die(self, why: str) -> None:
        logger.error("The clients of this node may be elsewhere, and are closed: %s.", why)
        self._past.add(self.mark)
        self._lives += 1
        self.mark = b"%b-%d" % (self._first, self._lives)
        self._fences.live_as(self.mark)
        self._sequence = 0
        self.renewed_at = trio.current_time()
        if self._began.is_set():
            self._began = trio.Event()
        self._renew_soon()
        self.on_dead()

    async def leave(self) -> None:
        """This node ends, and has nothing any more that others would have to see to."""
        with suppress(Unavailable, ApiError, NatsProtocolError):
            await self._record(self.mark).put(DEAD, self._sequence, DEAD_S)

    # --- other nodes ---------------------------------------------------------------------------------------

    async def is_dead(self, mark: bytes) -> bool:
        """Whether a node is dead, for good.  To be asked again and again: it takes `GRACE_S` to be sure.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        if mark == self.mark or not await self._is_written_off(mark):
            return False
        await self._fences.put_up(mark)
        return True

    async def _is_written_off(self, mark: bytes) -> bool:
        """Whether its record says that it is dead, since now or before."""
        stored = await self._record(mark).get()
        if stored is not None and stored.payload == DEAD:
            self._seen_ended.pop(mark, None)
            return True
        if mark not in self._past and not self._has_long_ended(mark, stored):
            return False
        try:
            await self._record(mark).put(DEAD, 0 if stored is None else stored.sequence, DEAD_S)
        except ApiError as error:
            if error.is_conflict:
                return False
            raise
        logger.warning("The node %s is dead.", mark.decode(errors="replace"))
        self._seen_ended.pop(mark, None)
        return True

    def _has_long_ended(self, mark: bytes, stored: Stored | None) -> bool:
        """Whether a node's record has been seen ended for `GRACE_S`, while this node's own lived."""
        now = trio.current_time()
        if not has_ended(stored):
            self._seen_ended.pop(mark, None)
            return False
        since = self._seen_ended.setdefault(mark, now)
        return now - since >= GRACE_S and self.renewed_at >= since

    async def died_at(self, mark: bytes) -> float:
        """When a node was found dead, Unix time; 0.0 if that is not known any more.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        stored = await self._record(mark).get()
        return stored.at if stored is not None and stored.payload == DEAD else 0.0

    def forget_sightings(self) -> None:
        """The connection was lost: what was seen ended before does not count."""
        self._seen_ended.clear()
