"""Retained messages for new subscriptions: sent as the client takes them, and a few at a time for all clients together.

However many ask for however much, one turn of the engine looks at `REPLAY_STEPS_MAX` names; the sessions that are not
through take turns.  What is kept for one that waits is a place in the tree for each filter it asked with.

Invariant: a session with `replays` is in `_waiting`, or its outbox or its window says when to go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from broker.core.limits import REPLAY_PENDING_BYTES_MAX, REPLAY_STEPS_MAX
from broker.core.names_walk import NameWalk
from broker.core.parts import Part
from broker.core.publication import Publication

if TYPE_CHECKING:
    from broker.core.engine import Engine
    from broker.core.outbox import Outbox
    from broker.core.session import Session

SLICE_STEPS: Final = 64
"""One session's share of a turn while others wait."""

MESSAGE_STEPS: Final = 4
"""What a message that is sent counts for; a name that is looked at is one step."""

PAYLOAD_STEP_SHIFT: Final = 12
"""And one more for each 4 KiB of payload, which is copied."""

UNPACED_STEPS: Final = 1 << 60

OVER: Final = 0
BLOCKED: Final = 1
OUT_OF_STEPS: Final = 2


class Replay:
    """What a new subscription still has to get.

    Args:
        walk: over the names it matches.
        granted: the subscription's QoS.
        began: how many messages had been retained until then: a later one came to it live.
        parts: whose states it gets, ahead of what is retained.
    """

    def __init__(self, walk: NameWalk, granted: int, began: int, parts: list[Part]) -> None:
        self.walk = walk
        self.parts = parts
        self.granted = granted
        self.began = began
        self.next: Publication | None = None
        """Found, and waiting for the client's window."""


class Replaying:
    """All sessions' replays.

    Args:
        engine: whose retained messages they are.

    Attributes:
        on_waiting: told when sessions begin to wait for `turn`; without it nobody paces, and all is sent at once.
    """

    def __init__(self, engine: Engine) -> None:
        self.on_waiting: Callable[[], None] | None = None
        self._engine = engine
        self._waiting: deque[Session] = deque()
        self._steps_left = REPLAY_STEPS_MAX

    def begin(self, session: Session, topic_filter: bytes, granted: int) -> None:
        """A new or repeated subscription gets the retained messages [MQTT-3.3.1-6]; one under way begins anew."""
        if topic_filter.startswith(b"$share/"):
            return
        retained = self._engine.retained
        parts = [part for part in self._engine.parts.matching(topic_filter) if part.retain]
        if not len(retained) and not parts:
            return
        if session.replays is None:
            session.replays = {}
        session.replays[topic_filter] = Replay(retained.walk(topic_filter), granted, retained.puts, parts)
        self.go_on(session)

    def go_on(self, session: Session) -> None:
        """Continue, as far as the client takes it and this turn allows."""
        if self.on_waiting is None:
            self._some(session, UNPACED_STEPS)
        elif self._waiting or self._steps_left <= 0:
            self._wait(session)
        else:
            self._some(session, self._steps_left)

    def waits(self) -> bool:
        """Whether there is something for `turn` to do."""
        return len(self._waiting) > 0

    def turn(self) -> None:
        """Send some of what sessions wait for."""
        self.renew()
        while self._waiting and self._steps_left > 0:
            session = self._waiting.popleft()
            session.replay_waits = False
            self._some(session, min(SLICE_STEPS, self._steps_left))

    def renew(self) -> None:
        """A turn of the engine is over."""
        self._steps_left = REPLAY_STEPS_MAX

    def _wait(self, session: Session) -> None:
        if session.replay_waits:
            return
        session.replay_waits = True
        self._waiting.append(session)
        on_waiting = self.on_waiting
        if on_waiting is not None and len(self._waiting) == 1:
            on_waiting()

    def _some(self, session: Session, steps: int) -> None:
        replays = session.replays
        outbox = session.outbox
        while replays and outbox is not None:
            topic_filter = next(iter(replays))
            replay = replays[topic_filter]
            before = replay.walk.steps
            outcome = self._send(session, outbox, replay, before + steps)
            used = replay.walk.steps - before + 1
            steps -= used
            self._steps_left -= used
            if outcome == BLOCKED:
                return
            if outcome == OVER:
                del replays[topic_filter]
            if replays and (outcome == OUT_OF_STEPS or steps <= 0):
                self._wait(session)
                return
        session.replays = None

    def _send(self, session: Session, outbox: Outbox, replay: Replay, steps_max: int) -> int:
        walk = replay.walk
        retained = self._engine.retained
        while True:
            if outbox.pending_bytes > REPLAY_PENDING_BYTES_MAX:
                outbox.more_waits = True
                return BLOCKED
            if replay.parts:
                if walk.steps >= steps_max:
                    return OUT_OF_STEPS
                if not self._send_state(session, replay):
                    return BLOCKED
                continue
            publication = replay.next
            if publication is None:
                name = walk.next_name(steps_max)
                if name is None:
                    return OVER if walk.is_over() else OUT_OF_STEPS
                publication = retained.get(name)
            elif retained.get(publication.topic) is not publication:
                publication = None
            replay.next = None
            # One that was replaced meanwhile came to this subscriber live, and must not be followed by the old.
            if (
                publication is None
                or publication.stored_as > replay.began
                or not self._may_get(session, publication)
            ):
                continue
            if replay.granted > 0 and publication.qos > 0 and not session.outbound.has_room():
                replay.next = publication
                return BLOCKED
            session.deliver(publication, replay.granted, True)
            walk.steps += MESSAGE_STEPS + (len(publication.payload) >> PAYLOAD_STEP_SHIFT)

    def _send_state(self, session: Session, replay: Replay) -> bool:
        """A part's state as it is now, so that what is published next goes on from it; False if there is no room."""
        part = replay.parts[-1]
        if replay.granted > 0 and part.qos > 0 and not session.outbound.has_room():
            return False
        replay.parts.pop()
        if session.may_read(part.topic):
            for payload in part.state():
                session.deliver(Publication(part.topic, payload, part.qos, True), replay.granted, True)
                replay.walk.steps += MESSAGE_STEPS + (len(payload) >> PAYLOAD_STEP_SHIFT)
        return True

    def _may_get(self, session: Session, publication: Publication) -> bool:
        if not session.may_read(publication.topic):
            return False
        check = self._engine.may_still_write
        return check is None or check(publication)
