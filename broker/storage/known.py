"""What the file has of the sessions that were written last, so that a save need not ask it.

A session whose messages come one at a time is written again and again, and nearly all of it is as it was: without this
a save of one message has ten statements, and with it one.

Hot: compiled.

Invariant: what is known was written by transactions that reached the file; after one that did not, nothing is known.
"""

from __future__ import annotations

from typing import Final

from broker.storage.records import NEVER, SessionRecord

SESSIONS_MAX: Final = 1000
SUBSCRIPTIONS_MAX: Final = 16
"""Of a session with more of them nothing is kept here."""

CLOCK_S: Final = 1.0
"""A time in the file may be so far from what the wall clock would say of it by now."""

Fields = tuple[object, ...]


class Known:
    """What the file has of one session.

    Attributes:
        number: of the session there.
        will: the number of its will there, if it has one.
        first: no message that waits there has a position before this one.
        last: nor one behind this one.
    """

    def __init__(self, number: int, will: int | None, record: SessionRecord, clock_offset_s: float) -> None:
        self.number = number
        self.will = will
        self.clock_offset_s = clock_offset_s
        self.fields = fields_of(record)
        self.subscriptions = record.subscriptions
        self.replays = record.replays
        self.has_inflight = len(record.inflight) > 0
        self.has_inbound = len(record.inbound) > 0
        queue = record.queued
        self.first = record.oldest or (queue[0].position if queue else NEVER)
        self.last = 0

    def is_session(self, record: SessionRecord, clock_offset_s: float) -> bool:
        """Whether the row of the session is right."""
        return self.fields == fields_of(record) and abs(self.clock_offset_s - clock_offset_s) < CLOCK_S

    def is_subscriptions(self, record: SessionRecord) -> bool:
        """Whether the rows of its subscriptions are."""
        return self.subscriptions == record.subscriptions and self.replays == record.replays


class KnownSessions:
    """By client id, some of those that were written last."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def get(self, client_id: bytes) -> Known | None:
        """What is known of a session."""
        return self._known.get(client_id)

    def note(self, record: SessionRecord, known: Known) -> None:
        """This is what the file has by now."""
        if len(record.subscriptions) > SUBSCRIPTIONS_MAX:
            self.forget(record.client_id)
            return
        if len(self._known) >= SESSIONS_MAX:
            self._known.clear()
        self._known[record.client_id] = known

    def forget(self, client_id: bytes) -> None:
        """The session has ended, or is no longer looked after here."""
        self._known.pop(client_id, None)

    def forget_all(self) -> None:
        """The file may be different."""
        self._known.clear()


def fields_of(record: SessionRecord) -> Fields:
    """What the row of a session is made of."""
    will = record.will
    return (
        record.user_name,
        record.listener_port,
        record.mount_point,
        record.bridge,
        record.last_packet_id,
        record.ids_after,
        record.disconnected_at,
        record.expiry_s,
        None if will is None else will.number,
        record.will_due,
    )
