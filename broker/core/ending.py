"""When sessions and wills of MQTT 5.0 come to their end: after an interval that the client chose.

Invariant: `Session.due` is where its client id stands in the wheel, infinity if nowhere; what it says may have passed.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from broker.core.publication import Publication
from broker.core.session import Session
from broker.core.slicing import Work
from broker.core.wheel import Wheel
from protocol.mqtt.owed import Discarded

if TYPE_CHECKING:
    from broker.core.engine import Engine

logger = logging.getLogger("broker.core")

LEAVE_STEPS: Final = 8
"""What a subscription that ends counts for; see `Slicing`."""

SEND_STEPS: Final = 4
"""What a message counts for that is sent from a queue."""

EXPIRE_STEPS: Final = 8
"""What something that expires counts for, beside those who get its will."""

NOTICE: Final = 25
"""Mosquitto's level between information and warning."""


class Parting(Work):
    """A session that has ended, and still stands in the trie, where it gets nothing, and its messages in the store."""

    def __init__(self, engine: Engine, session: Session, discarded: Discarded | None) -> None:
        super().__init__()
        self._engine = engine
        self._session = session
        self._discarded = discarded

    def go_on(self, steps: int) -> int:
        subscriptions = self._session.subscriptions
        used = 0
        while subscriptions and used < steps:
            topic_filter, _ = subscriptions.popitem()
            self._engine.leave(self._session, topic_filter)
            used += LEAVE_STEPS
        discarded = self._discarded
        if discarded is not None and used < steps:
            used += discarded.release(steps - used)
        self.is_over = not subscriptions and (discarded is None or discarded.is_empty())
        return used


class Catching(Work):
    """A client that is owed more than is sent in one turn."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._outbound = session.outbound

    def go_on(self, steps: int) -> int:
        used = self._outbound.go_on(max(1, steps // SEND_STEPS))
        self.is_over = not self._outbound.waits
        return used * SEND_STEPS


class Expiry(Work):
    """Retained messages, wills and sessions whose time has come."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    def go_on(self, steps: int) -> int:
        engine = self._engine
        counters = engine.counters
        used = 0
        self.is_over = True  # also if a bug ends it: another goes on then with what is left
        while used < steps:
            sent = counters.publishes_sent
            if not (engine.retained.expire_one() or engine.endings.expire_one()):
                return used
            used += EXPIRE_STEPS + counters.publishes_sent - sent
        self.is_over = False
        return used


class Rescheduling(Work):
    """`persistent_client_expiration` has changed: every session may end at another time."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._sessions = list(engine.sessions.values())

    def go_on(self, steps: int) -> int:
        used = 0
        while self._sessions and used < steps:
            self._engine.endings.left(self._sessions.pop())
            used += 1
        self.is_over = not self._sessions
        return used


class Endings:
    """Session expiry intervals and will delays of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wheel = Wheel()
        self._expiry: Expiry | None = None
        self.succeeding: dict[bytes, list[Work]] = {}
        """Who waits for the end of the connection whose place it takes, by client id, the first to come first."""

    def delay_will(self, session: Session, will: Publication) -> bool:
        """Keep the will of a client that asked for that, until its delay or its session is over; whether it did."""
        engine = self._engine
        delay = min(session.will_delay_s, session.expiry_s)
        if delay <= 0 or engine.sessions.get(session.client_id) is not session:
            return False
        self.restore_will(session, will, engine.now + delay)
        return True

    def restore_will(self, session: Session, will: Publication, due: float) -> None:
        """A will waits for its delay; if it did when the broker stopped, its time went on.  `left` must follow."""
        session.will = will
        session.will_due = due

    def publish_will(self, session: Session) -> None:
        """Its time has come, or its session ends; nothing where none waits [MQTT-3.1.2-8]."""
        if session.will_due != 0.0:
            session.will_due = 0.0
            self._engine.send_will(session)

    def cancel_will(self, session: Session) -> None:
        """The client is back in time [MQTT-3.1.3-9]."""
        if session.will_due != 0.0:
            session.will_due = 0.0
            session.will = None

    def keep_for(self, session: Session, expiry_s: float) -> None:
        """The state of this session outlives its connection so long; 0 is not at all [MQTT-3.1.2-23]."""
        session.expiry_s = expiry_s
        session.clean = expiry_s <= 0
        session.outbound.durable = not session.clean
        self._engine.changes += 1
        session.outbound.mark_unsaved()

    def left(self, session: Session) -> None:
        """This session has no connection any more, or its times have changed: look at it when one of them comes."""
        due = self._due(session)
        if due != session.due:
            self.forget(session)
            if due < math.inf:
                session.due = due
                self._wheel.put(session.client_id, due)

    def forget(self, session: Session) -> None:
        """It need not be looked at."""
        if session.due < math.inf:
            self._wheel.remove(session.client_id, session.due)
            session.due = math.inf

    def expire(self) -> None:
        """Begin with what is due by now, if that is not being done yet."""
        engine = self._engine
        some_retained = engine.retained.turn(engine.now)
        some = self._wheel.turn(engine.now)
        expiry = self._expiry
        if (some or some_retained) and (expiry is None or expiry.is_over):
            self._expiry = Expiry(engine)
            engine.slicing.begin(self._expiry)

    def expire_one(self) -> bool:
        """Look at one session of those that are due: publish its will, or end it; False if there is none."""
        engine = self._engine
        client_id = self._wheel.take()
        if client_id is None:
            return False
        session = engine.sessions.get(client_id)
        if session is None:
            return True
        self.forget(session)
        if 0.0 != session.will_due <= engine.now:
            self.publish_will(session)
        if session.link is None and engine.now - session.disconnected_at >= self._lasts_s(session):
            logger.log(NOTICE, "Expiring client %s due to timeout.", client_id.decode(errors="replace"))
            engine.end_session(session)
            engine.counters.sessions_expired += 1
        else:
            self.left(session)
        return True

    def limit_changed(self) -> None:
        """`persistent_client_expiration` is another."""
        self._engine.slicing.begin(Rescheduling(self._engine))

    def _lasts_s(self, session: Session) -> float:
        """What its client asked for, or `persistent_client_expiration`, where that is less."""
        limit = self._engine.policy.persistent_client_expiration_s
        return min(session.expiry_s, limit) if limit > 0 else session.expiry_s

    def _due(self, session: Session) -> float:
        due = session.will_due if session.will_due != 0.0 else math.inf
        if session.link is None and self._engine.sessions.get(session.client_id) is session:
            due = min(due, session.disconnected_at + self._lasts_s(session))
        return due
