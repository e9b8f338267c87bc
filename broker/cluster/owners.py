"""One owner for each client id: this node's clients, their records, and how they come and go.

    CONNECT       claim: read the record; a living node that has the client is asked to let it go, a dead one is not
    SUBACK        the record has the subscriptions
    now and then  the record has what is owed
    gone          the record has the cursor, and no owner; nothing of the session is kept here

Invariant: a client is connected here only while its record names this node, and was written by it last.  Every write
is by compare-and-set: what fails has been taken over, and is closed.
"""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster import session_state
from broker.cluster.going import ASK_S, NOT_HERE, WAIT, GoingClients
from broker.cluster.lease import Record, has_ended
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.owned import AGAIN_S, CLEAN_S, MAY_BE_ELSEWHERE, SAVE_EVERY_S, Owned
from broker.cluster.repeats import Repeats
from broker.cluster.session_state import SessionState
from broker.cluster.will_record import WillRecord, came_back
from broker.core.promise import Promise
from broker.core.session import Session
from protocol.mqtt.packets import Connect
from protocol.mqtt.v5.property_table import SESSION_EXPIRY
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError, Stored

if TYPE_CHECKING:
    from broker.cluster.liveness import Liveness
    from broker.cluster.reader import LogReader
    from broker.cluster.shares import Shares
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

logger = logging.getLogger("broker.cluster")

CLAIM_S: Final = 12.0
"""Longest wait of a CONNECT: a dead node is one after 7 s."""


class Owners(GoingClients):
    """All client ids of one node."""

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
        super().__init__(engine, link, names, liveness, reader, shares, repeats, status)
        self._locks: dict[bytes, tuple[trio.Lock, int]] = {}
        self._moving: set[bytes] = set()
        """Client ids that are being claimed and that another node has, or had."""
        self._is_leaving = False
        engine.on_detached = self._detached
        engine.keep = self._keep

    # --- a client comes ------------------------------------------------------------------------------------

    async def claim(
        self, client_id: bytes, packet: Connect, will: WillRecord | None, mount_point: bytes = b""
    ) -> str:
        """Make a client id this node's, and bring its session here; why that is not possible, or "".

        What follows a "" without a checkpoint has the client to itself; `arrived` must follow.

        Args:
            mount_point: where the client comes to; a session of another one ends, as on one node.
        """
        lock, users = self._locks.get(client_id, (trio.Lock(), 0))
        self._locks[client_id] = (lock, users + 1)
        try:
            async with lock:
                problem = "it was given up"
                try:
                    problem = await self._claim(client_id, packet, will, mount_point)
                finally:
                    self._moving.discard(client_id)
                    own = self.owned.get(client_id)
                    if problem and own is not None and own.is_arriving:
                        self.arrived(client_id, will)
                return problem
        finally:
            lock, users = self._locks.pop(client_id)
            if users > 1:
                self._locks[client_id] = (lock, users - 1)

    async def _claim(
        self, client_id: bytes, packet: Connect, will: WillRecord | None, mount_point: bytes
    ) -> str:
        deadline = trio.current_time() + CLAIM_S
        problem = ""
        while trio.current_time() < deadline and not self._is_leaving:
            try:
                own = self.owned.get(client_id)
                if own is not None and own.saving:
                    with trio.move_on_at(deadline):
                        await own.idle.wait()
                    continue
                if own is not None and not self._goes_on(client_id, packet, mount_point):
                    await self._end_here(own, deadline)
                    continue
                if own is None:
                    with trio.move_on_at(deadline) as waiting:
                        await self._liveness.ready()
                    if waiting.cancelled_caught:
                        problem = problem or "this node reaches no quorum"
                        break
                    own = await self._take(client_id, packet, mount_point)
                if own is None:
                    await trio.sleep(AGAIN_S)
                    continue
                own.is_arriving = True
                mark = self._liveness.mark
                if will is not None:
                    await will.put(mark)
                if self.owned.get(client_id) is own and not own.saving and mark == self._liveness.mark:
                    self._status.claimed += 1
                    return ""
            except (Unavailable, NatsProtocolError) as error:
                problem = str(error)
                await trio.sleep(AGAIN_S)
            except ApiError as error:
                if not error.is_conflict:
                    problem = str(error)
                    await trio.sleep(AGAIN_S)
        self._status.refused += 1
        return f"the cluster can't say who has this client: {problem or 'its node does not answer'}"

    async def _take(self, client_id: bytes, packet: Connect, mount_point: bytes) -> Owned | None:
        """Read the record and write it; None if that has to be tried again.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        record = Record(self._link, self._names, self._names.client(client_id))
        mark = self._liveness.mark
        stored = await record.get()
        engine = self._engine
        state = None
        if stored is not None and not has_ended(stored):
            state = self._state_in(stored, client_id)
        before = b"" if state is None else state.owner
        was_dead = False
        if before not in (b"", mark):
            self._moving.add(client_id)
            was_dead = await self._liveness.is_dead(before)
            ends = packet.clean_session or (state is not None and state.mount_point != mount_point)
            if not was_dead and await self._ask(before, client_id, ends) != NOT_HERE:
                return None
            if was_dead and state is not None and await self._has_expired(state, before):
                state = None
        is_new = state is None or state.clean or packet.clean_session or state.mount_point != mount_point
        if state is None or is_new:
            state = await self._begun(packet, mount_point)
        else:
            await self._find_again(state, stored)
        owner, state.owner = state.owner, mark
        expected = 0 if stored is None else stored.sequence
        value = session_state.encode(state, engine.now, self._status.clock.now())
        ack = await record.put(value, expected, CLEAN_S if is_new else 0)
        with engine.turn:  # whose clock may find that this node is dead to the others
            if mark != self._liveness.mark:
                return None
            own = self.owned[client_id] = Owned(client_id, ack.sequence)
            own.written_at = trio.current_time()
            self._status.moved_here += client_id in self._moving
            older = engine.sessions.get(client_id)
            if older is not None:  # of the file of this node, from before it was in the cluster
                engine.endings.cancel_will(older)
                engine.end_session(older)
            self._repeats.came(client_id, *((None, []) if is_new else self._unsettled(state, owner)))
            if was_dead:
                self._tasks.start(came_back, self._link, self._names, before, client_id, not is_new)
            if not is_new:
                session = own.session = session_state.restore(engine, client_id, state)
                self.behind.begin(session, state.cursor, state.epoch, state.lost_from)
                self._shares.came_back(session, state.epoch, state.cursor)
        return own

    async def _has_expired(self, state: SessionState, owner: bytes) -> bool:
        """Whether a session of a dead node is over, whose connection ended with the node [MQTT-4.1.0-2].

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        lives_s = self._lives_s(state.expiry_s)
        if lives_s == math.inf:
            return False
        died_at = await self._liveness.died_at(owner)
        return died_at > 0.0 and self._status.clock.now() - died_at >= lives_s

    async def _begun(self, packet: Connect, mount_point: bytes) -> SessionState:
        """A session before its client is let in, and knows of it: should this node crash then, the next one has it.

        Raises: Unavailable.
        """
        state = SessionState(b"", not outlives_connection(packet))
        if not state.clean:
            await self.behind.until_begun()
            state.cursor = state.unsettled_from = self._reader.last
            state.epoch, state.read = self._reader.epoch, self._reader.place_read()
            state.mount_point = mount_point
        return state

    def _unsettled(self, state: SessionState, owner: bytes) -> tuple[int | None, list[tuple[int, bytes]]]:
        """What `Repeats.came` is told; what a crashed node's record has of QoS 2 is older than what the log has."""
        start = state.unsettled_from
        if start is not None and state.epoch != self._reader.epoch:
            start = 0
        if start is None or not owner:
            return start, state.under_way
        state.inbound = [one for one in state.inbound if one[1].sequence == 0]
        return start, []

    def _state_in(self, stored: Stored, client_id: bytes) -> SessionState | None:
        """None if nobody can read it: a node that has the client finds that its record is not its own any more."""
        try:
            state = session_state.decode(stored.payload, self._engine.now, self._status.clock.now())
        except NatsProtocolError as error:
            name = client_id.decode(errors="replace")
            logger.error("The session of client %s begins anew: %s", name, error)
            return None
        return state

    async def _find_again(self, state: SessionState, stored: Stored | None) -> None:
        """Let this node read up to a session's places, set right where the log has lost its end since.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        if (
            stored is not None
            and state.epoch == self._reader.epoch
            and state.read != self._reader.place_read()
        ):
            kept = await self._reader.lost_ends.still_there(*state.read, stored.at)
            had = max(state.cursor, state.read[0])
            if kept < had:
                state.lost_from = had
                state.cursor = min(state.cursor, kept)
                if state.unsettled_from is not None:
                    state.unsettled_from = min(state.unsettled_from, kept)
        await self.behind.until_read(state.cursor, state.epoch)

    async def _ask(self, owner: bytes, client_id: bytes, ends: bool) -> bytes:
        """Ask the node that has a client to let it go, or end its session; what it says.  Raises: Unavailable."""
        said = json.dumps({"c": client_id.hex(), "n": ends}).encode()
        answer = await self._link.request(self._names.ask(owner), said, ASK_S)
        if answer.status:  # nobody listens: it is dead, or will be
            await trio.sleep(AGAIN_S)
            return WAIT
        return answer.payload

    def arrived(self, client_id: bytes, will: WillRecord | None) -> None:
        """The client was let in, or has gone meanwhile.  In the turn of that."""
        own = self.owned.get(client_id)
        if own is None:  # dropped with all others, in the turn that has let it in
            self._drop_client(client_id, MAY_BE_ELSEWHERE)
            return
        own.is_arriving = False
        session = self._engine.sessions.get(client_id)
        own.session = session
        if session is not None and session.link is not None:
            if will is not None and session.will is not None:
                will.publication = session.will
                session.will.message_id = will.message_id
                own.will = will
            self._shares.forget(session)
            self._shares.members_changed()
            if session.behind:
                self._tasks.start(self.behind.run, session)
        elif will is not None:
            self._tasks.start(will.remove)
        # Whether it is clean, its expiry, and who it is may be others now.
        self._save_soon(own)

    # --- now and then --------------------------------------------------------------------------------------

    def _keep(self, session: Session) -> Promise | None:
        """A SUBACK waits until the record has it, where the session outlives its connection."""
        if session.behind and (reading := self.behind.readings.get(session)) is not None:
            reading.subscribed(self._reader.last)
        promise = self._shares.promise(session)
        own = self.owned.get(session.client_id)
        if session.clean or own is None:
            return promise
        promise = promise or Promise()
        promise.join()
        own.promises.append(promise)
        self._save_soon(own)
        return promise

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what changes, until cancelled."""
        sid = 0
        mark = b""
        async with self._tasks.opened():
            task_status.started()
            while True:
                if mark != self._liveness.mark:
                    self._link.unsubscribe(sid)
                    mark = self._liveness.mark
                    sid = self._link.subscribe(self._names.ask(mark), self.asked)
                await trio.sleep(SAVE_EVERY_S)
                self._save_what_changed()

    def bring_along(self) -> None:
        """Sessions of this node's file become the cluster's, unless it has them; a file may be older than that."""
        for session in list(self._engine.sessions.values()):
            if not session.clean and session.link is None and session.client_id not in self.owned:
                own = self.owned[session.client_id] = Owned(session.client_id, 0)
                own.session = session
                own.is_arriving = False
                self._save_soon(own)

    async def leave(self) -> None:
        """The node ends: every record says that its client is away.  The connections have been closed."""
        self._is_leaving = True
        for own in list(self.owned.values()):
            own.is_arriving = False
            self._save_soon(own)
        for own in list(self.owned.values()):
            await own.idle.wait()


def outlives_connection(packet: Connect) -> bool:
    """Whether the session that a CONNECT asks for is kept when the connection ends."""
    if packet.protocol_level == 5:
        return packet.properties.numbers.get(SESSION_EXPIRY, 0) > 0
    return not packet.clean_session
