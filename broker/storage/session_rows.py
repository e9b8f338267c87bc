"""The rows of one session, brought to what its record says.

What the file holds of it is read from the file itself, and only what differs is written.  What is queued has its
position there, too, which no other message has ever had: what is behind the last one in the file is new.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator
from operator import attrgetter
from typing import Final

from broker.core.publication import Publication
from broker.storage.backlog import ROW_BYTES, belongs, bodies, entry, place, row_of
from broker.storage.batches import Batches
from broker.storage.known import Known
from broker.storage.numbers import Numbers, as_publication
from broker.storage.records import NEVER, SessionRecord
from broker.storage.schema import Row, Value, checked
from protocol.mqtt.outbound import InFlight, Queued

_SESSION: Final = "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SUBSCRIPTION: Final = "INSERT OR REPLACE INTO subscription VALUES (?, ?, ?, ?, ?)"
_INFLIGHT: Final = "INSERT OR REPLACE INTO inflight VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_QUEUED: Final = "INSERT INTO queued VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INBOUND: Final = "INSERT INTO inbound VALUES (?, ?, ?, ?)"
_BACKLOG: Final = "INSERT OR REPLACE INTO backlog VALUES (?, ?, ?, ?, ?, ?)"
_LAST: Final = """
SELECT max(coalesce((SELECT max(position) FROM queued WHERE session = ?1), 0),
    coalesce((SELECT max(last) FROM backlog WHERE session = ?1), 0))
"""
_FIRST: Final = "SELECT first, last FROM backlog WHERE session = ? ORDER BY last LIMIT 1"


class SessionRows:
    """One session in the file.

    Args:
        number: of the session.
        is_new: the file has no row of it.
        will: the number of the will that it has there, if any.
        known: what else it has there; without that it is asked.

    Attributes:
        now_known: what it has after `write`.
    """

    def __init__(
        self,
        number: int,
        is_new: bool,
        numbers: Numbers,
        batches: Batches,
        will: int | None = None,
        known: Known | None = None,
    ) -> None:
        self._number = number
        self._is_new = is_new
        self._kept_will = will
        self._numbers = numbers
        self._batches = batches
        self._known = known
        self.now_known: Known | None = None

    def write(self, record: SessionRecord, clock_offset_s: float) -> Generator[None]:
        """Write the session with its subscriptions and what it is owed, in steps that others come between."""
        known = self._known
        if known is not None and known.is_session(record, clock_offset_s):
            now_known = Known(self._number, known.will, record, known.clock_offset_s)
        else:
            will = self._write_session(record, clock_offset_s)
            now_known = Known(self._number, will, record, clock_offset_s)
        if known is None or not known.is_subscriptions(record):
            yield from self._write_subscriptions(record)
        if known is None or known.has_inflight or record.inflight:
            yield from self._write_inflight(record)
        now_known.last = yield from self._write_queued(record, clock_offset_s)
        if known is None or known.has_inbound or record.inbound:
            yield from self._write_inbound(record)
        yield from self._batches.pause()
        self.now_known = now_known

    def _write_session(self, record: SessionRecord, clock_offset_s: float) -> int | None:
        """The session's own row; the number of its will."""
        will = self._will(record)
        self._batches.later(
            _SESSION,
            checked(
                self._number,
                record.client_id,
                record.user_name,
                record.listener_port,
                record.mount_point,
                record.bridge,
                record.last_packet_id,
                record.ids_after,
                record.disconnected_at + clock_offset_s,
                record.expiry_s,
                will,
                0.0 if will is None else record.will_due + clock_offset_s,
            ),
        )
        return will

    def _will(self, record: SessionRecord) -> int | None:
        """The number of the will that waits for its delay, which is written if it is not there yet."""
        found = self._kept_will
        will = record.will
        if will is not None and found is not None and found == will.number:
            return will.number
        if found is not None:
            self._numbers.release((found,))
        return None if will is None else self._numbers.name(will, self._batches)

    def remove(self) -> Generator[None]:
        """The session has ended."""
        yield from self._release(
            "SELECT will FROM session WHERE number = ? AND will IS NOT NULL", self._number
        )
        for table in ("inflight", "queued", "inbound"):
            yield from self._release(f"SELECT message FROM {table} WHERE session = ?", self._number)
        for table in ("subscription", "inflight", "queued", "inbound", "backlog"):
            self._batches.execute(f"DELETE FROM {table} WHERE session = ?", (self._number,))
        self._batches.execute("DELETE FROM session WHERE number = ?", (self._number,))

    def _write_subscriptions(self, record: SessionRecord) -> Generator[None]:
        wanted = record.subscriptions
        kept = yield from self._kept(
            "SELECT topic_filter, granted, replay FROM subscription WHERE session = ?"
        )
        for gone in kept.keys() - wanted.keys():
            self._batches.execute(
                "DELETE FROM subscription WHERE session = ? AND topic_filter = ?", (self._number, gone)
            )
        for topic_filter, qos in wanted.items():
            replay = 1 if topic_filter in record.replays else 0
            if kept.get(topic_filter) != (qos, replay):
                self._batches.later(_SUBSCRIPTION, checked(self._number, topic_filter, qos, replay))
                yield from self._batches.pause()

    def _write_inflight(self, record: SessionRecord) -> Generator[None]:
        """Entries leave anywhere and come at the end, so those that stay are the first ones, in the same order."""
        wanted = list(zip(record.inflight, record.states, strict=True))
        stay = 0
        last = 0
        kept = yield from self._kept(
            "SELECT position, packet_id, message, qos, retain, state FROM inflight WHERE session = ?"
        )
        for position, (packet_id, message, qos, retain, state) in kept.items():
            assert isinstance(position, int)
            last = position
            if stay < len(wanted):
                entry, now = wanted[stay]
                is_same = (packet_id, qos, retain) == (entry.packet_id, entry.qos, entry.retain)
                if is_same and message == as_publication(entry.message).number:
                    stay += 1
                    if state != now:
                        self._batches.later(
                            _INFLIGHT,
                            self._inflight_row(position, entry, as_publication(entry.message).number, now),
                        )
                    continue
            self._batches.execute(
                "DELETE FROM inflight WHERE session = ? AND position = ?", (self._number, position)
            )
            assert isinstance(message, int)
            self._numbers.release((message,))
        for position, (entry, state) in enumerate(wanted[stay:], last + 1):
            number = self._numbers.name(entry.message, self._batches)
            self._batches.later(_INFLIGHT, self._inflight_row(position, entry, number, state))
            yield from self._batches.pause()

    def _inflight_row(self, position: int, entry: InFlight, number: int, state: int) -> Row:
        return checked(
            self._number, position, entry.packet_id, number, entry.qos, entry.retain, state, entry.ids
        )

    def _write_queued(self, record: SessionRecord, clock_offset_s: float) -> Generator[None, None, int]:
        """What waits; the position of the last message that the file has had."""
        queue = record.queued
        known = self._known
        last = 0
        if not self._is_new:
            last = self._batches.integer(_LAST, (self._number,)) if known is None else known.last
            oldest = record.oldest or (queue[0].position if queue else NEVER)
            if known is None or known.first < oldest:
                yield from self._forget_before(oldest)
        yield from self._write_behind(queue, bisect_right(queue, last, key=_position), clock_offset_s)
        return max(last, queue[-1].position) if queue else last

    def _write_behind(self, queue: list[Queued], stay: int, clock_offset_s: float) -> Generator[None]:
        """All but the first so many of these."""
        entries: list[bytes] = []
        size = 0
        for at in range(stay, len(queue)):
            waiting = queue[at]
            message = as_publication(waiting.message)
            if not belongs(message):
                self._write_waiting(waiting, message)
                yield from self._batches.pause()
                continue
            written = entry(self._number, waiting, message, clock_offset_s)
            entries.append(written)
            size += len(written)
            if size >= ROW_BYTES:
                self._write_backlog(entries)
                entries = []
                size = 0
                yield from self._batches.pause()
        if entries:
            self._write_backlog(entries)

    def _forget_before(self, oldest: int) -> Generator[None]:
        """What waited before this position waits no more."""
        gone = "FROM queued WHERE session = ? AND position < ?"
        if (yield from self._release(f"SELECT message {gone}", self._number, oldest)):
            self._batches.execute(f"DELETE {gone}", (self._number, oldest))
        first, last = self._first_in_backlog()
        if last < oldest:
            self._batches.execute(
                "DELETE FROM backlog WHERE session = ? AND last < ?", (self._number, oldest)
            )
            first, last = self._first_in_backlog()
        if first < oldest:
            self._cut(last, oldest)

    def _first_in_backlog(self) -> tuple[int, int]:
        """The positions of the first and the last message of this session's first row there; `NEVER` if it has none."""
        row = self._batches.one(_FIRST, (self._number,))
        if row is None:
            return NEVER, NEVER
        first, last = row
        assert isinstance(first, int)
        assert isinstance(last, int)
        return first, last

    def _cut(self, last: int, oldest: int) -> None:
        """Write a row again without its first messages."""
        row = self._batches.one(
            "SELECT messages FROM backlog WHERE session = ? AND last = ?", (self._number, last)
        )
        assert row is not None
        assert isinstance(row[0], bytes)
        stay = [body for body in bodies(row[0]) if place(body)[1] >= oldest]
        if stay and place(stay[-1])[1] == last:
            self._write_backlog(stay)

    def _write_backlog(self, entries: list[bytes]) -> None:
        self._batches.later(_BACKLOG, row_of(self._number, entries))
        self._batches.worked(len(entries) // _ENTRIES_PER_ROW)

    def _write_waiting(self, waiting: Queued, message: Publication) -> None:
        number = self._numbers.name(message, self._batches)
        self._batches.later(
            _QUEUED,
            checked(
                self._number,
                waiting.position,
                number,
                waiting.qos,
                waiting.retain,
                waiting.ids_before,
                waiting.ids,
            ),
        )

    def _write_inbound(self, record: SessionRecord) -> Generator[None]:
        kept = yield from self._kept("SELECT packet_id, message FROM inbound WHERE session = ?")
        stay = {packet_id: (as_publication(message).number,) for packet_id, message in record.inbound}
        for gone, found in kept.items() - stay.items():
            self._batches.execute(
                "DELETE FROM inbound WHERE session = ? AND packet_id = ?", (self._number, gone)
            )
            self._numbers.release(found)  # type: ignore[arg-type]
        for packet_id, message in record.inbound:
            if kept.get(packet_id) != stay[packet_id]:
                number = self._numbers.name(message, self._batches)
                self._batches.later(_INBOUND, checked(self._number, packet_id, number))
                yield from self._batches.pause()

    def _kept(self, query: str) -> Generator[None, None, dict[Value, tuple[Value, ...]]]:
        """What the file has of this session: the first column to the others, in order of the key."""
        kept: dict[Value, tuple[Value, ...]] = {}
        if not self._is_new:
            for row in self._batches.rows(query, (self._number,)):
                kept[row[0]] = row[1:]
                yield from self._batches.pause()
        return kept

    def _release(self, query: str, *values: Value) -> Generator[None, None, bool]:
        """The messages that these rows name are named by a row less; whether there are any."""
        numbers: list[int] = []
        for row in self._batches.rows(query, values):
            assert isinstance(row[0], int)
            numbers.append(row[0])
            yield from self._batches.pause()
        self._numbers.release(numbers)
        return bool(numbers)


_position = attrgetter("position")
_ENTRIES_PER_ROW: Final = 4
"""So many entries of a row in the backlog take as long as a row of their own."""
