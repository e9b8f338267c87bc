"""The records of this node's clients: written when they change, by compare-and-set; what fails has been taken over."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster import session_state
from broker.cluster.behind import Behind
from broker.cluster.lease import Record
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.repeats import Repeats
from broker.cluster.session_state import SessionState
from broker.cluster.tasks import Tasks
from broker.cluster.will_record import WillRecord
from broker.core.promise import Promise
from broker.core.session import Session
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError, Stored

if TYPE_CHECKING:
    from broker.cluster.liveness import Liveness
    from broker.cluster.reader import LogReader
    from broker.cluster.shares import Shares
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

logger = logging.getLogger("broker.cluster")

AGAIN_S: Final = 0.1
LOGGED_S: Final = 0.01
LOGGED_TRIES: Final = 100
SAVE_EVERY_S: Final = 1.0
SAVES_MAX: Final = 200
"""Records that are written at a time without being asked for; the others have their turn a second later."""

CLEAN_S: Final = 7 * 24 * 3600
"""How long the record of a connected client lives unless it is written again, which it is sooner.

A session that expires has as long on top of it; one that does not lives for ever.
"""

ACCEPTED_EACH: Final = 64
"""Messages of QoS 2 after which a record is written again."""

REWRITE_S: Final = 24 * 3600.0
TURN_AWAY_S: Final = 6.0

TAKEN_OVER: Final = (ReasonCode.SESSION_TAKEN_OVER, "disconnected: taken over on another node.")
MAY_BE_ELSEWHERE: Final = (ReasonCode.SERVER_BUSY, "disconnected: it may be on another node.")
"""To who has to come again: programs that are told of a takeover may stay away, since there is a newer one of them."""


class Owned:
    """One client id of this node.

    Attributes:
        sequence: of its record, as this node has written it.
    """

    def __init__(self, client_id: bytes, sequence: int) -> None:
        self.client_id = client_id
        self.sequence = sequence
        self.dirty = False
        self.saving = False
        self.idle = trio.Event()
        self.promises: list[Promise] = []
        self.will: WillRecord | None = None
        self.seen: object = None
        self.written_at = 0.0
        self.session: Session | None = None
        self.is_arriving = True
        self.is_heard_out = False
        """Another node has asked for it, and what came to its connection before is being taken."""


class OwnedClients:
    """The client ids of one node, by client id in `owned`."""

    def __init__(
        self,
        engine: Engine,
        link: NatsLink,
        names: Names,
        liveness: Liveness,
        reader: LogReader,
        shares: Shares,
        repeats: Repeats,
        status: ClusterStatus,
    ) -> None:
        self.owned: dict[bytes, Owned] = {}
        self.behind = Behind(engine, link, names, reader, status)
        self._engine = engine
        self._link = link
        self._names = names
        self._liveness = liveness
        self._reader = reader
        self._shares = shares
        self._repeats = repeats
        self.on_dropped: Callable[[Set[bytes], bool], None] = lambda client_ids, is_dead: None
        """Told of clients that may be on other nodes, and whether those see to their wills."""
        self._status = status
        self._tasks = Tasks()
        self._records_of = ""
        """When the stream of the records was made, as NATS said last."""
        liveness.on_dead = self._drop_all

    # --- writing ----------------------------------------------------------------------------------------------

    def _save_soon(self, own: Owned) -> None:
        own.dirty = True
        if not own.saving:
            own.saving = True
            own.idle = trio.Event()
            self._tasks.start(self._save, own)

    async def _save(self, own: Owned) -> None:
        try:
            while own.dirty and self.owned.get(own.client_id) is own:
                own.dirty = False
                promises, own.promises = own.promises, []
                await self._write(own, promises)
        finally:
            own.saving = False
            own.idle.set()

    async def _write(self, own: Owned, promises: list[Promise]) -> None:
        """Write the record as the session is now, and let go of it if its client is away."""
        engine = self._engine
        record = Record(self._link, self._names, self._names.client(own.client_id))
        began = trio.current_time()
        mark = self._liveness.mark
        tried: set[bytes] = set()
        if self._is_away(own):
            await self._until_logged(own)
        while self.owned.get(own.client_id) is own:
            with engine.turn:  # whose clock may find that all is to be dropped
                if self.owned.get(own.client_id) is not own:
                    return
                value, ttl_s, goes = self._value(own)
            tried.add(value)
            try:
                ack = await record.put(value, own.sequence, ttl_s)
                own.sequence = ack.sequence
                break
            except ApiError as error:
                if error.is_conflict and await self._found(own, record, tried) == value:
                    break
                if self.owned.get(own.client_id) is not own:
                    return
            except (Unavailable, NatsProtocolError):
                pass
            if promises and trio.current_time() - began > TURN_AWAY_S:
                self._turn_away(own)
            await trio.sleep(AGAIN_S * 2)
        with engine.turn:
            if self.owned.get(own.client_id) is not own or mark != self._liveness.mark:
                return
            own.written_at = trio.current_time()
            self._status.saved += 1
            if goes and self._is_away(own):
                self._forget(own)
            for promise in promises:
                promise.keep()

    async def _until_logged(self, own: Owned) -> None:
        """Wait a moment for the log to have what the client sent last at QoS 2.

        What it has goes into the record, and is not published again where the client repeats it elsewhere.
        """
        for _ in range(LOGGED_TRIES):
            session = self._engine.sessions.get(own.client_id)
            if session is None or session_state.are_promised(session):
                return
            await trio.sleep(LOGGED_S)

    def _is_away(self, own: Owned) -> bool:
        session = self._engine.sessions.get(own.client_id)
        return not own.is_arriving and (session is None or (session.link is None and not session.will_due))

    def _value(self, own: Owned) -> tuple[bytes, int, bool]:
        """(record, seconds it lives or 0, whether the client is nobody's from then on)."""
        engine = self._engine
        session = engine.sessions.get(own.client_id)
        goes = self._is_away(own)
        if session is None or (session.clean and session.link is None):
            if own.is_arriving:
                state = SessionState(self._liveness.mark)
                return session_state.encode(state, engine.now, self._status.clock.now()), CLEAN_S, False
            return b"", 1, True
        owner = b"" if goes else self._liveness.mark
        given_back = self._shares.given_back(session) if goes else set()
        state = session_state.state_of(session, owner, self.behind.read_up_to(session), given_back)
        state.epoch, state.read = self._reader.epoch, self._reader.place_read()
        if not session.clean:
            known = {one[0] for one in state.under_way} | {one[0] for one in state.inbound}
            state.under_way += self._repeats.unsaid_of(session.client_id, known)
        state.unsettled_from = self._unsettled_from(session, goes, bool(state.under_way))
        own.seen = self._look(session)
        ttl_s = self._ttl_s(session, goes)
        return session_state.encode(state, engine.now, self._status.clock.now()), ttl_s, goes

    def _ttl_s(self, session: Session, goes: bool) -> int:
        """Seconds that its record lives unless it is written again, 0 for ever.

        Of a client that is here, too: should this node die, and the client never come back, nobody else ends it.
        """
        if session.clean:
            return CLEAN_S
        lives_s = self._lives_s(session.expiry_s)
        if lives_s == math.inf:
            return 0
        return max(1, math.ceil(lives_s)) if goes else math.ceil(lives_s) + CLEAN_S

    def _lives_s(self, expiry_s: float) -> float:
        """For how long a session outlives its connection here."""
        return min(expiry_s, self._engine.policy.persistent_client_expiration_s or math.inf)

    def _unsettled_from(self, session: Session, goes: bool, has_under_way: bool) -> int | None:
        place = session_state.unsettled_from(session, self._reader.last)
        earlier = self._repeats.start_of(session.client_id)
        if earlier is not None:  # what a crashed node had sent may be repeated yet
            return min(place, earlier)
        # Else who lets go says exactly what waits; the place is for who comes after the next node, should that crash.
        is_exact = goes and not has_under_way and session.client_id not in self._repeats.held
        return None if is_exact else place

    async def _found(self, own: Owned, record: Record, tried: set[bytes]) -> bytes | None:
        """After a conflict: what is there, if it is one of our own writes, whose answer was lost; else None.

        Lets go of what another node has.
        """
        stored = await self._certain(own, record)
        if stored is not None and stored.payload in tried:
            own.sequence = stored.sequence
            return stored.payload
        if stored is None:  # the stream was made anew, and nobody has the client yet
            own.sequence = 0
        elif stored.sequence < own.sequence and self._is_ours(
            stored
        ):  # it has lost its end, with our last write
            own.sequence = stored.sequence
        elif stored.sequence != own.sequence:
            self._lost(own)
        # Else a leader without a quorum has our write under way, and refuses it when it comes again.
        return None

    async def _certain(self, own: Owned, record: Record) -> Stored | None:
        """The record; if it is older than our last write, once a quorum has taken something since it was so.

        Whoever leads may have yet to catch up.
        """
        since = math.inf
        while True:
            is_certain = self._liveness.renewed_at >= since or self.owned.get(own.client_id) is not own
            with suppress(Unavailable, ApiError, NatsProtocolError):
                stored = await record.get()
                if is_certain or (stored is not None and stored.sequence >= own.sequence):
                    return stored
                since = min(since, trio.current_time())
            await trio.sleep(AGAIN_S)

    def _is_ours(self, stored: Stored) -> bool:
        """Whether no other node has the client, as its record says it."""
        try:
            state = session_state.decode(stored.payload, self._engine.now, self._status.clock.now())
        except NatsProtocolError:
            return not stored.payload
        return state.owner in (b"", self._liveness.mark)

    def records_are_of(self, created: str) -> None:
        """The stream of the records was made then.  After another one this node's clients are written down again."""
        before, self._records_of = self._records_of, created
        if before in ("", created):
            return
        with self._engine.turn:
            for own in list(self.owned.values()):
                self._save_soon(own)
                if own.will is not None:
                    self._tasks.start(self._put_will_again, own, own.will)

    async def _put_will_again(self, own: Owned, will: WillRecord) -> None:
        mark = self._liveness.mark
        while own.will is will and not will.is_sent and mark == self._liveness.mark:
            try:
                await will.put(mark)
                break
            except (Unavailable, ApiError, NatsProtocolError):
                await trio.sleep(AGAIN_S)
        if own.will is not will or will.is_sent:  # it was not wanted any more, or has come, meanwhile
            await will.remove()

    def _forget(self, own: Owned) -> None:
        """The record has all of it."""
        engine = self._engine
        session = engine.sessions.get(own.client_id)
        if session is not None:
            self.behind.forget(session)
            self._shares.forget(session)
            engine.end_session(session)
        self._repeats.gone(own.client_id)
        del self.owned[own.client_id]

    def _lost(self, own: Owned) -> None:
        """Another node has it."""
        with self._engine.turn:
            if self.owned.get(own.client_id) is own:
                logger.warning("Client %s is on another node.", own.client_id.decode(errors="replace"))
                self._drop(own, TAKEN_OVER)
                self.on_dropped({own.client_id}, False)

    def _drop(self, own: Owned, goodbye: tuple[ReasonCode, str]) -> None:
        """Close it without will, and keep nothing."""
        own.will = None
        self._repeats.gone(own.client_id)
        del self.owned[own.client_id]
        self._drop_client(own.client_id, goodbye)

    def _drop_client(self, client_id: bytes, goodbye: tuple[ReasonCode, str]) -> None:
        engine = self._engine
        session = engine.sessions.get(client_id)
        if session is None:
            return
        link = session.link
        if link is not None:
            link.will_wanted = False
            link.code, why = goodbye
            link.close(why)
        session = engine.sessions.get(client_id)
        if session is not None:
            engine.endings.cancel_will(session)
            self.behind.forget(session)
            self._shares.forget(session)
            engine.end_session(session)

    def _drop_all(self) -> None:
        client_ids = set(self.owned)
        for own in list(self.owned.values()):
            self._drop(own, MAY_BE_ELSEWHERE)
        self.on_dropped(client_ids, True)

    def _turn_away(self, own: Owned) -> None:
        session = self._engine.sessions.get(own.client_id)
        link = None if session is None else session.link
        if link is not None:
            with self._engine.turn:
                link.code = ReasonCode.SERVER_BUSY
                link.close("disconnected: the cluster takes no subscriptions.")

    def _save_what_changed(self) -> None:
        count = 0
        now = trio.current_time()
        for own in list(self.owned.values()):
            if own.saving or own.is_arriving:
                continue
            session = self._engine.sessions.get(own.client_id)
            if session is None or (session.link is None and not session.will_due):
                self._save_soon(own)
            elif now - own.written_at > REWRITE_S or (
                not session.clean and count < SAVES_MAX and self._look(session) != own.seen
            ):
                # Last of all the next time.
                self.owned[own.client_id] = self.owned.pop(own.client_id)
                count += 1
                self._save_soon(own)

    def _look(self, session: Session) -> object:
        """What tells whether a record would differ by more than its cursor."""
        outbound = session.outbound
        return (
            outbound.last_packet_id,
            outbound.inflight_count(),
            outbound.queued_count(),
            0 if session.inbound is None else session.inbound.count(),
            # Now and then while it publishes, so that what is behind the record stays short.
            0 if session.inbound is None else session.inbound.accepted // ACCEPTED_EACH,
            session.expiry_s,
        )
