"""Retained messages for new subscriptions: sent as the client takes them, and a few at a time for all clients together.

However many ask for however much, one turn of the engine looks at `REPLAY_STEPS_MAX` names; the sessions that are not
through take turns.  What is kept for one that waits is a place in the tree for each filter it asked with; it is kept
while the client is away, too, since one that finds its session present does not subscribe again.

What is published meanwhile comes between: a retained message that is still to come on the same topic goes first, so
that a client always ends with the newest.  Each such message takes one of those that wait along, so that these get
through however busy the topics are.

Invariant: a session with `replays` is in `_waiting`, or its client is away, or its outbox or its window says when to
go on; it takes no raw packets from the end of its first turn on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from broker.core.limits import (
    REPLAY_EARLY_TOPICS_MAX,
    REPLAY_PENDING_BYTES_MAX,
    REPLAY_STEPS_MAX,
    REPLAY_STRICT_FILTERS_MAX,
)
from broker.core.publication import Publication
from broker.core.replay import Replay
from broker.core.slicing import UNPACED_STEPS
from protocol.mqtt.reserved import SHARE_PREFIX
from protocol.mqtt.topics import SEPARATOR

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

OVER: Final = 0
BLOCKED: Final = 1
OUT_OF_STEPS: Final = 2


class Replaying:
    """All sessions' replays.

    Args:
        engine: whose retained messages they are.

    Attributes:
        on_waiting: told when sessions begin to wait for `turn`; without it nobody paces, and all is sent at once.
        active: sessions that still have to get some.
        before: while a message is handed on, what was retained on its topic until then; only if `active`.
        live: counts such messages.
    """

    def __init__(self, engine: Engine) -> None:
        self.on_waiting: Callable[[], None] | None = None
        self.active = 0
        self.before: Publication | None = None
        self.live = 0
        self._engine = engine
        self._waiting: deque[Session] = deque()
        self._through: list[Session] = []
        """They may take raw packets again, once nobody looks at who gets what."""
        self._steps_left = REPLAY_STEPS_MAX

    # --- begin and end -------------------------------------------------------------------------------------

    def begin(
        self, session: Session, topic_filter: bytes, granted: int, early: set[bytes] | None = None
    ) -> None:
        """A new or repeated subscription gets the retained messages [MQTT-3.3.1-6]; one under way begins anew.

        Args:
            early: topics whose newest message the session has had since it subscribed.
        """
        if topic_filter.startswith(SHARE_PREFIX):
            return
        retained = self._engine.retained
        parts = self._engine.parts.matching(topic_filter)
        if parts:
            parts = [part for part in parts if part.retain]
        if not parts and not retained.may_have(topic_filter):
            return
        replay = Replay(topic_filter, retained, granted, parts, self.live)
        if early:
            replay.early = early
        self._add(session, topic_filter, replay)
        self.go_on(session)
        if session.replays is not None:
            self._engine.settle_plain(session)

    def restore(self, session: Session, topic_filter: bytes) -> None:
        """The broker ended before this subscription had got all; what still waits for the client is not repeated."""
        granted = session.subscriptions[topic_filter]
        replay = Replay(topic_filter, self._engine.retained, granted, [], self.live)
        outbound = session.outbound
        mount_point = session.mount_point
        replay.early = {mount_point + waiting.message.topic for waiting in outbound.queued()}
        replay.early.update([mount_point + entry.message.topic for entry in outbound.inflight()])
        self._add(session, topic_filter, replay)

    def _add(self, session: Session, topic_filter: bytes, replay: Replay) -> None:
        replays = session.replays
        if replays is None:
            replays = session.replays = {}
            session.replaying = self
            self.active += 1
        replays.pop(topic_filter, None)
        replay.strict = len(replays) < REPLAY_STRICT_FILTERS_MAX
        replays[topic_filter] = replay

    def forget(self, session: Session, topic_filter: bytes) -> None:
        """The subscription is over."""
        replays = session.replays
        if replays is not None and replays.pop(topic_filter, None) is not None and not replays:
            self.drop(session)

    def drop(self, session: Session) -> None:
        """Nothing more is to come for this session."""
        if session.replays is not None:
            session.replays = None
            self.active -= 1
            self._engine.note_change(session)
            self._through.append(session)

    def leave_all(self, sessions: Iterable[Session]) -> None:
        """The broker ends, and everybody is away: what fits into a queue waits there, as it does with Mosquitto."""
        if self.active:
            for session in sessions:
                if session.outbox is None:
                    self._leave(session)

    def _leave(self, session: Session) -> None:
        while session.replays:
            topic_filter = next(iter(session.replays))
            replay = session.replays[topic_filter]
            if replay.parts:
                return  # a state is as it is when the client gets it
            publication = self._next(session, replay, UNPACED_STEPS)
            if publication is None:
                self.forget(session, topic_filter)
                continue
            may_wait = session.quality(publication, replay.granted) > 0 and session.outbound.queue_open()
            if not may_wait or not session.hand_on(publication, replay.granted, True):
                replay.next = publication
                return

    # --- going on ------------------------------------------------------------------------------------------

    def go_on(self, session: Session) -> None:
        """Continue, as far as the client takes it and this turn allows."""
        if self.on_waiting is None:
            self._some(session, UNPACED_STEPS)
        elif self._waiting or self._steps_left <= 0:
            self._wait(session)
        else:
            self._some(session, self._steps_left)

    def acknowledged(self, session: Session) -> None:
        """There is room for one more.  Of what is queued and what waits here, each gets every second place."""
        if session.outbound.has_room():
            self.go_on(session)
            return
        session.replay_turn = not session.replay_turn
        if session.replay_turn:
            self._one(session, True)

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
        if self._through:
            through = self._through
            self._through = []
            for session in through:
                self._engine.settle_plain(session)

    # --- what is published meanwhile -----------------------------------------------------------------------

    def publishes(self, publication: Publication) -> None:
        """A message is about to be handed on, and perhaps retained, while some session waits."""
        before = self.before = self._engine.retained.get(publication.topic)
        self.live += 1
        publication.live = self.live
        if before is not None:
            before.live = self.live

    def deliver(self, session: Session, publication: Publication, granted: int) -> None:
        """Hand a live message to a session that waits for retained ones: after the one of its topic."""
        if session.outbox is None and publication.qos == 0 and not session.rules.queue_qos0:
            return
        ahead = self._ahead(session, publication)
        if not ahead:
            session.hand_on(publication, granted, False)
            self._one(session, False)
            return
        if max([len(replay.early) for replay in ahead]) >= REPLAY_EARLY_TOPICS_MAX:
            self._engine.counters.dropped_queue_full += 1
            return
        before = self.before
        if before is not None and (before.topic != publication.topic or not self._may_get(session, before)):
            before = None
        went = before is not None
        if before is not None:
            for replay in ahead:
                went = session.hand_on(before, replay.granted, True) and went
        came = session.hand_on(publication, granted, False)
        # What did not fit and is retained by now comes when its topic's turn does.
        if came if publication.retain else before is not None and (went or came):
            for replay in ahead:
                replay.early.add(publication.topic)
        self._one(session, False)

    def _ahead(self, session: Session, publication: Publication) -> list[Replay]:
        """Those that have this topic still to come."""
        replays = session.replays
        if not replays:
            return []
        topic = publication.topic
        levels = topic.split(SEPARATOR)
        return [replay for replay in replays.values() if replay.strict and replay.awaits(topic, levels)]

    # --- one session's turn --------------------------------------------------------------------------------

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
        while replays:
            outbox = session.outbox
            if outbox is None:
                return
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
        self.drop(session)

    def _send(self, session: Session, outbox: Outbox, replay: Replay, steps_max: int) -> int:
        walk = replay.walk
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
            publication = self._next(session, replay, steps_max)
            if publication is None:
                return OVER if walk.is_over() else OUT_OF_STEPS
            if session.quality(publication, replay.granted) > 0 and not session.outbound.has_room():
                replay.next = publication
                return BLOCKED
            session.hand_on(publication, replay.granted, True)
            walk.steps += MESSAGE_STEPS + (len(publication.payload) >> PAYLOAD_STEP_SHIFT)

    def _one(self, session: Session, queued: bool) -> None:
        """Send one message of those that wait, where busy topics leave them no other time.

        Args:
            queued: it may go into the queue; if not, only QoS 0 goes.
        """
        replays = session.replays
        outbox = session.outbox
        if not replays or outbox is None or outbox.pending_bytes > outbox.limit_bytes >> 1:
            return
        topic_filter = next(iter(replays))
        replay = replays[topic_filter]
        if replay.parts:
            return
        before = replay.walk.steps
        publication = self._next(session, replay, before + SLICE_STEPS)
        self._steps_left -= replay.walk.steps - before + MESSAGE_STEPS
        if publication is None:
            if replay.walk.is_over():
                self.forget(session, topic_filter)
            return
        waits = session.quality(publication, replay.granted) > 0
        outbound = session.outbound
        if waits and not outbound.has_room() and not (queued and outbound.queue_open()):
            replay.next = publication
            return
        session.hand_on(publication, replay.granted, True)

    def _next(self, session: Session, replay: Replay, steps_max: int) -> Publication | None:
        """The next message that this subscription still has to get; None if there is none, or the steps are over."""
        walk = replay.walk
        retained = self._engine.retained
        while True:
            waiting = replay.next
            replay.next = None
            name = walk.next_name(steps_max) if waiting is None else waiting.topic
            if name is None:
                return None
            if name in replay.early:
                replay.early.discard(name)
                continue
            publication = retained.get(name)
            if publication is None or not self._may_get(session, publication):
                continue
            if not replay.strict and publication.live > replay.began:
                continue  # a newer one came live
            return publication

    def _send_state(self, session: Session, replay: Replay) -> bool:
        """A part's state as it is now, so that what is published next goes on from it; False if there is no room."""
        part = replay.parts[-1]
        if replay.granted & 3 and part.qos > 0 and not session.outbound.has_room():
            return False
        replay.parts.pop()
        if session.may_read(part.topic):
            for payload in part.state():
                session.hand_on(Publication(part.topic, payload, part.qos, True), replay.granted, True)
                replay.walk.steps += MESSAGE_STEPS + (len(payload) >> PAYLOAD_STEP_SHIFT)
        return True

    def _may_get(self, session: Session, publication: Publication) -> bool:
        if not session.may_read(publication.topic):
            return False
        check = self._engine.may_still_write
        return check is None or check(publication)
