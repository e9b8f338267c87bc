"""When sessions and wills of MQTT 5.0 come to their end: after an interval that the client chose.

Invariant: `_wills` has exactly the sessions with `will_due` set, `_ending` those whose state ends by itself.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from broker.core.publication import Publication
from broker.core.session import Session
from broker.core.slicing import Work

if TYPE_CHECKING:
    from broker.core.engine import Engine

logger = logging.getLogger("broker.core")

LEAVE_STEPS: Final = 8
"""What a subscription that ends counts for; see `Slicing`."""

NOTICE: Final = 25
"""Mosquitto's level between information and warning."""


class Parting(Work):
    """A session that has ended, and still stands in the trie; it gets nothing there."""

    def __init__(self, engine: Engine, session: Session) -> None:
        super().__init__()
        self._engine = engine
        self._session = session

    def go_on(self, steps: int) -> int:
        subscriptions = self._session.subscriptions
        used = 0
        while subscriptions and used < steps:
            topic_filter, _ = subscriptions.popitem()
            self._engine.leave(self._session, topic_filter)
            used += LEAVE_STEPS
        self.is_over = not subscriptions
        return used


class Endings:
    """Session expiry intervals and will delays of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wills: dict[bytes, Session] = {}
        self._ending: dict[bytes, Session] = {}
        self._look_at = -math.inf
        """No session expires sooner, with `_looked_with_s` for `persistent_client_expiration_s`."""
        self._looked_with_s = 0.0

    def delay_will(self, session: Session, will: Publication) -> bool:
        """Keep the will of a client that asked for that, until its delay or its session is over; whether it did."""
        engine = self._engine
        delay = min(session.will_delay_s, session.expiry_s)
        if delay <= 0 or engine.sessions.get(session.client_id) is not session:
            return False
        session.will = will
        session.will_due = engine.now + delay
        self._wills[session.client_id] = session
        return True

    def restore_will(self, session: Session, will: Publication, due: float) -> None:
        """A will waited for its delay when the broker stopped; its time went on."""
        session.will = will
        session.will_due = due
        self._wills[session.client_id] = session

    def publish_will(self, session: Session) -> None:
        """Its time has come, or its session ends; nothing where none waits [MQTT-3.1.2-8]."""
        if self._wills.get(session.client_id) is session:
            del self._wills[session.client_id]
            session.will_due = 0.0
            self._engine.send_will(session)

    def cancel_will(self, session: Session) -> None:
        """The client is back in time [MQTT-3.1.3-9]."""
        if self._wills.get(session.client_id) is session:
            del self._wills[session.client_id]
            session.will_due = 0.0
            session.will = None

    def keep_for(self, session: Session, expiry_s: float) -> None:
        """The state of this session outlives its connection so long; 0 is not at all [MQTT-3.1.2-23]."""
        session.expiry_s = expiry_s
        session.clean = expiry_s <= 0
        session.outbound.durable = not session.clean
        if 0 < expiry_s < math.inf:
            self._ending[session.client_id] = session
        else:
            self._ending.pop(session.client_id, None)
        self._engine.changes += 1
        session.outbound.mark_unsaved()

    def expire(self) -> list[Session]:
        """Publish wills whose time has come; the sessions that are over, for the engine to end."""
        engine = self._engine
        now = engine.now
        if self._wills:
            for session in [session for session in self._wills.values() if session.will_due <= now]:
                self.publish_will(session)
        over: list[Session] = []
        for client_id, session in list(self._ending.items()):
            if engine.sessions.get(client_id) is not session:
                del self._ending[client_id]
            elif session.link is None and now - session.disconnected_at >= session.expiry_s:
                del self._ending[client_id]
                logger.log(NOTICE, "Expiring client %s due to timeout.", client_id.decode(errors="replace"))
                over.append(session)
        self._expire_persistent(over)
        return over

    def _expire_persistent(self, over: list[Session]) -> None:
        """Nobody came back for them within `persistent_client_expiration`."""
        engine = self._engine
        now = engine.now
        limit = engine.policy.persistent_client_expiration_s
        if limit <= 0 or (limit == self._looked_with_s and now < self._look_at):
            return
        oldest = now
        known = set(over)
        for session in engine.sessions.values():
            if session.link is not None or session in known:
                continue
            if now - session.disconnected_at >= limit:
                logger.log(
                    NOTICE, "Expiring client %s due to timeout.", session.client_id.decode(errors="replace")
                )
                over.append(session)
            elif session.disconnected_at < oldest:
                oldest = session.disconnected_at
        self._looked_with_s = limit
        self._look_at = oldest + limit
