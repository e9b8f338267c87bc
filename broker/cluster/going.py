"""How a node's clients go: for good, for a while, or to another node, which asks for them.

What came to a connection before its client went elsewhere counts, as where it comes to the same node again: it is
heard out before the other node is told that it may have the client (`Hearing`).
"""

from __future__ import annotations

import json
from typing import Final

import trio

from broker.cluster.owned import Owned, OwnedClients
from broker.cluster.said import UNREADABLE
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.core.session import Session
from broker.links.listening.deciding import hear_out
from broker.links.mqtt.succeeding import Hearing
from protocol.mqtt.packets import Connect
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats import wire

ASK_S: Final = 1.0
"""How long a node that is asked for a client is waited for, until it is asked again."""

ELSEWHERE: Final = "disconnected: taken over on another node."
HERE: Final = "disconnected: taken over by another connection."

RELEASED: Final = b"released"
NOT_HERE: Final = b"not here"
WAIT: Final = b"wait"
"""What a node says that is asked for a client."""


class GoingClients(OwnedClients):
    """The clients of one node, which leave it."""

    def _detached(self, session: Session) -> None:
        self._shares.left(session)
        self._shares.members_changed()
        own = self.owned.get(session.client_id)
        if own is None or (own.session is not session and own.session is not None):
            return
        will = own.will
        if will is not None and not session.will_due:
            own.will = None
            if not will.is_sent:
                self._tasks.start(will.remove)
        if not own.is_arriving:
            self._save_soon(own)

    def takes_will(self, publication: Publication) -> bool:
        """Whether it is a client's will, which goes by the log; its record goes when the log has it."""
        own = self.owned.get(publication.client_id)
        will = None if own is None else own.will
        if own is None or will is None or will.publication is not publication:
            return False
        will.is_sent = True
        promise = publication.promise = Promise()
        promise.on_kept = lambda: self._tasks.start(will.remove)
        return True

    def asked(self, message: wire.Message) -> None:
        """Another node wants a client.  Inside a turn."""
        if message.subject != self._names.ask(self._liveness.mark):
            return  # of an earlier life, which is to be found dead, with its fence, before anybody has its clients
        try:
            said = json.loads(message.payload)
            client_id, ends = bytes.fromhex(said["c"]), bool(said["n"])
        except UNREADABLE:
            return
        own = self.owned.get(client_id)
        if own is None or own.is_arriving or own.is_heard_out:
            self._link.send(wire.publish(message.reply, NOT_HERE if own is None else WAIT))
            return
        hearing = Hearing(self._engine, client_id)
        if hearing.go_on() == 0:
            self._let_go(own, ends, message.reply)
        else:
            own.is_heard_out = True
            self._tasks.start(self._hear_out, own, hearing, ends, message.reply)

    async def _hear_out(self, own: Owned, hearing: Hearing, ends: bool, reply: bytes) -> None:
        await hear_out(self._engine, hearing)
        own.is_heard_out = False
        with self._engine.turn:
            if own.is_arriving:  # it has come to this node again
                self._link.send(wire.publish(reply, WAIT))
            else:
                self._let_go(own, ends, reply)

    def _let_go(self, own: Owned, ends: bool, reply: bytes) -> None:
        """Of what was heard out, unless it has gone itself.  Inside a turn."""
        if self.owned.get(own.client_id) is own:
            self._status.moved_away += 1
            session = self._engine.sessions.get(own.client_id)
            if session is not None:
                self._close(own, session, not ends and not session.clean, ELSEWHERE)
            self._save_soon(own)
        self._tasks.start(self._answer_when_gone, own, reply)

    def _close(self, own: Owned, session: Session, moves: bool, why: str) -> None:
        link = session.link
        if link is not None:
            # As on one node: no will when a persistent session just moves to another connection; of 5.0, only
            # when it has a delay, which is not over [MQTT-3.1.2-8].
            link.will_wanted = not moves or (session.level == 5 and session.will_delay_s == 0)
            link.code = ReasonCode.SESSION_TAKEN_OVER  # [MQTT-3.1.4-3]
            link.close(why)
        if self._engine.sessions.get(own.client_id) is session and session.will_due:
            if moves:
                self._engine.endings.cancel_will(session)
                if own.will is not None:
                    self._tasks.start(own.will.remove)
                    own.will = None
            else:
                self._engine.endings.publish_will(session)

    async def _end_here(self, own: Owned, deadline: float) -> None:
        """A client comes that does not go on with its session, which is on this node: it ends before that.

        So the record says so before CONNACK does, and the disk, where acknowledgements wait for that.
        """
        engine = self._engine
        session = engine.sessions[own.client_id]
        is_saved = trio.Event()
        with engine.turn:
            self._close(own, session, False, HERE)
            if engine.sessions.get(own.client_id) is session:
                self.behind.forget(session)
                self._shares.forget(session)
                engine.end_session(session)  # [MQTT-3.1.2-6]
            self._save_soon(own)
            promise = None if engine.saving is None else engine.saving.promise_saved()
            if promise is None:
                is_saved.set()
            else:
                promise.on_kept = is_saved.set
        with trio.move_on_at(deadline):
            await is_saved.wait()

    def _goes_on(self, client_id: bytes, packet: Connect, mount_point: bytes) -> bool:
        """Whether who comes so does with the session that is here, or there is none that would outlive it."""
        session = self._engine.sessions.get(client_id)
        if session is None or session.clean:
            return True
        return not packet.clean_session and session.mount_point == mount_point

    async def _answer_when_gone(self, own: Owned, reply: bytes) -> None:
        with trio.move_on_after(ASK_S * 5):
            while own.saving and self.owned.get(own.client_id) is own:
                await own.idle.wait()
        self._link.send(wire.publish(reply, RELEASED))
