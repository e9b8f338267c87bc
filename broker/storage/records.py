"""What outlives the process: durable sessions and retained messages, as one value.  Pure: no file, no clock.

Collecting holds up the loop, so it takes references only: messages never change once published, and what does change
(the state of an in-flight message) is copied.  Whoever writes a snapshot reads it in peace.

Times are in seconds of the broker's monotonic clock; Unix time is that plus `Snapshot.clock_offset_s`, so the time that
a session was away goes on counting while the broker is down.

Hot: compiled.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.session import Session
from protocol.mqtt.message import Message
from protocol.mqtt.outbound import InFlight, Queued
from protocol.mqtt.reserved import SYS_PREFIX

Item = TypeVar("Item")

NEVER: Final = 2**62
"""Above every position in a queue."""


class SessionRecord:
    """One session with clean_session 0.

    `inflight` is in the order of first sending, `queued` in that of publishing; `states` are those of `inflight`.
    `disconnected_at` is infinity for a client that is here.

    Attributes:
        will: it waits for its delay, until `will_due`.
        replays: filters that have not got all retained messages yet.
        last_position: `Queued.position` of the last message that a file had queued for it.
        oldest: if not 0, `queued` has only what is new: the position of the first message that waits, or `NEVER`.
    """

    def __init__(
        self,
        client_id: bytes,
        user_name: bytes | None,
        listener_port: int,
        mount_point: bytes,
        bridge: bool,
        last_packet_id: int,
        ids_after: int,
        disconnected_at: float,
        subscriptions: dict[bytes, int],
        inflight: list[InFlight],
        states: bytes,
        queued: list[Queued],
        inbound: list[tuple[int, Message]],
        expiry_s: float = math.inf,
        will: Publication | None = None,
        will_due: float = 0.0,
        replays: set[bytes] | None = None,
        last_position: int = 0,
        oldest: int = 0,
    ) -> None:
        self.client_id = client_id
        self.user_name = user_name
        self.listener_port = listener_port
        self.mount_point = mount_point
        self.bridge = bridge
        self.last_packet_id = last_packet_id
        self.ids_after = ids_after
        self.disconnected_at = disconnected_at
        self.subscriptions = subscriptions
        self.inflight = inflight
        self.states = states
        self.queued = queued
        self.inbound = inbound
        self.expiry_s = expiry_s
        self.will = will
        self.will_due = will_due
        self.replays: set[bytes] = set() if replays is None else replays
        self.last_position = last_position
        self.oldest = oldest


class Snapshot:
    """Everything that outlives the process, at one moment; or what changed of it since the snapshot before.

    Attributes:
        saved_at: Unix time.
        is_whole: False: `sessions` are those that changed.
        unchanged: client ids of the other sessions there are.
        ended: in place of `unchanged`: client ids that have no durable session any more.
        retained_changed: False: `retained` is left empty, because it is what it was.
        retained_changes: in place of `retained`: the topics that changed, each with what it has now.
        retained_positions: where the file has each of `retained`; only of a snapshot that was read from one.
    """

    def __init__(
        self,
        saved_at: float,
        clock_offset_s: float,
        *,
        retained: list[Publication] | None = None,
        is_whole: bool = True,
    ) -> None:
        self.saved_at = saved_at
        self.clock_offset_s = clock_offset_s
        self.sessions: list[SessionRecord] = []
        self.retained: list[Publication] = [] if retained is None else retained
        self.is_whole = is_whole
        self.unchanged: set[bytes] = set()
        self.ended: set[bytes] | None = None
        self.retained_changed = True
        self.retained_changes: dict[bytes, Publication | None] | None = None
        self.retained_positions: list[int] = []

    def retained_to_keep(self) -> Iterator[Publication]:
        """Retained messages but what the broker said about itself: it would be wrong after a restart."""
        for publication in self.retained:
            if not publication.topic.startswith(SYS_PREFIX):
                yield publication


def snapshot(engine: Engine, unix_now: float, *, retained: bool = True) -> Snapshot:
    """Collect what a restart must not lose, all of it, at one moment.

    Args:
        engine: with `now` up to date.
        unix_now: the wall clock, in seconds.
        retained: False leaves the retained messages out.
    """
    saved = Snapshot(unix_now, unix_now - engine.now)
    for _ in collect(engine, saved, retained=retained):
        pass
    return saved


def collect(engine: Engine, into: Snapshot, *, retained: bool = True) -> Iterator[None]:
    """Fill a snapshot, a slice of a millisecond or so at a time; others may have their turn after each.

    Everything that had happened at the first slice is in the snapshot.  Of what happens later, each session shows
    what had happened at its own slice; none knows of another's, so each is as it was at some moment.

    From here on a session counts as saved: if this snapshot does not reach the file, the next one must be whole.
    """
    if retained and into.retained_changed:
        into.retained_changes = None if into.is_whole else engine.retained.take_changed()
        if into.retained_changes is None:
            engine.retained.note_changed()
            into.retained = engine.retained.all()
    books = engine.books
    changed = None if into.is_whole else books.unsaved
    books.unsaved = set()
    if changed is not None:
        into.ended = set()
        yield from _in_slices(list(changed), lambda client_id: _collect_changed(engine, client_id, into))
    else:
        sessions = list(engine.sessions.values())
        yield from _in_slices(sessions, lambda session: _collect_one(engine, session, into))


def _in_slices(items: list[Item], collect_one: Callable[[Item], int]) -> Iterator[None]:
    start = 0
    while start < len(items):
        # Nothing becomes garbage here, and to look for it among all the messages that wait would take longer than
        # this.
        collecting = gc.isenabled()
        gc.disable()
        try:
            work = 0
            while start < len(items) and work < SLICE_SESSIONS * SESSION_WORK:
                work += collect_one(items[start])
                start += 1
        finally:
            if collecting:
                gc.enable()
        yield


def _collect_changed(engine: Engine, client_id: bytes, into: Snapshot) -> int:
    session = engine.sessions.get(client_id)
    if session is not None and not session.clean:
        return _take(session, into)
    if session is not None:
        session.outbound.collected = 0
    assert into.ended is not None
    into.ended.add(client_id)
    return 1


def _collect_one(engine: Engine, session: Session, into: Snapshot) -> int:
    if session.clean or engine.sessions.get(session.client_id) is not session:
        session.outbound.collected = 0
        return 1
    if into.is_whole or session.outbound.unsaved:
        return _take(session, into)
    into.unchanged.add(session.client_id)
    return 1


def _take(session: Session, into: Snapshot) -> int:
    """Add a session to the snapshot: how much work it was."""
    session.outbound.unsaved = False
    record = _record(session, into.is_whole)
    into.sessions.append(record)
    return SESSION_WORK * (1 + len(record.queued) // MESSAGES_PER_SESSION)


SLICE_SESSIONS: Final = 400
SESSION_WORK: Final = 10
"""So many sessions that did not change take as long as one that did."""
MESSAGES_PER_SESSION: Final = 200
"""So many more messages that wait take as long as one session more."""

_NO_FILTERS: set[bytes] = set()
_NOTHING: list[Any] = []
"""Shared by all records, which nobody changes: most sessions wait for nothing."""


def _record(session: Session, is_whole: bool) -> SessionRecord:
    outbound = session.outbound
    collected = 0 if is_whole else outbound.collected
    outbound.collected = outbound.books.last_position
    inflight = outbound.inflight() if outbound.inflight_count() else _NOTHING
    inbound = session.inbound
    return SessionRecord(
        session.client_id,
        session.user_name,
        session.listener_port,
        session.mount_point,
        session.bridge,
        outbound.last_packet_id,
        outbound.ids_after,
        session.disconnected_at if session.link is None else math.inf,
        session.subscriptions.copy(),
        inflight,
        bytes([entry.state for entry in inflight]) if inflight else b"",
        outbound.queued_behind(collected) if outbound.queued_count() else _NOTHING,
        inbound.pending() if inbound is not None and inbound.count() else _NOTHING,
        session.expiry_s,
        session.will if session.will_due else None,
        session.will_due,
        _NO_FILTERS if session.replays is None else set(session.replays),
        oldest=0 if is_whole else outbound.oldest_position() or NEVER,
    )


def restore(engine: Engine, saved: Snapshot, unix_now: float) -> None:
    """Bring a fresh engine to where the snapshot was taken; what expired meanwhile is gone at once.

    Args:
        engine: new, with `now` set and nobody connected.
        unix_now: the wall clock, in seconds.
    """
    to_monotonic = saved.clock_offset_s - unix_now + engine.now
    _set_clocks(saved, to_monotonic)
    for publication in saved.retained:
        if not publication.has_expired(engine.now):
            engine.retained.put(publication)
    for record in saved.sessions:
        # A client that was here left when the broker did, or crashed: nothing after the last save is known.
        disconnected_at = min(record.disconnected_at, saved.saved_at - saved.clock_offset_s)
        # Not later than now: the wall clock may have been set back.
        _restore_session(engine, record, min(disconnected_at + to_monotonic, engine.now))
    engine.expire()


def _set_clocks(saved: Snapshot, to_monotonic: float) -> None:
    """Turn the times of messages and wills into those of this process; a message may stand in several places."""
    messages: dict[int, Message] = {id(publication): publication for publication in saved.retained}
    for record in saved.sessions:
        record.will_due += to_monotonic
        kept: list[Message] = [entry.message for entry in record.inflight]
        kept += [waiting.message for waiting in record.queued]
        kept += [message for _, message in record.inbound]
        messages.update({id(message): message for message in kept})
    for message in messages.values():
        if message.expires_at != 0.0:
            message.expires_at += to_monotonic


def _restore_session(engine: Engine, record: SessionRecord, disconnected_at: float) -> None:
    session, _ = engine.open_session(record.client_id, False, record.mount_point)
    session.disconnected_at = disconnected_at
    engine.identify(
        session, record.user_name, None, record.mount_point, record.bridge, 2, record.listener_port
    )
    engine.settle_plain(session)
    session.outbound.restore(
        record.inflight, record.queued, record.last_packet_id, record.ids_after, record.last_position
    )
    if record.inbound:
        inbound = session.expect()
        for packet_id, message in record.inbound:
            inbound.accept(packet_id, message, False)
    for topic_filter, qos in record.subscriptions.items():
        session.keep(topic_filter, qos)
        engine.subscribe(session, topic_filter, qos)
    for topic_filter in record.replays & record.subscriptions.keys():
        engine.replaying.restore(session, topic_filter)
    engine.endings.keep_for(session, record.expiry_s)
    if record.will is not None:
        engine.endings.restore_will(session, record.will, record.will_due)
    engine.endings.left(session)
    # The file has it as it is, unless it says that the client is here.
    session.outbound.unsaved = False
    if math.isinf(record.disconnected_at):
        session.outbound.mark_unsaved()
