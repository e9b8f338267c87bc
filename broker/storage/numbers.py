"""The table of messages: each stands there once, with a number, while some row of another table names it.

Invariant, between two saves: the file has exactly the messages that are named; `_more` knows those named more than
once.  A number is never given twice while the broker runs, so one that is not in the file is an old one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from broker.core.publication import Publication
from broker.storage.batches import Batches
from broker.storage.records import Snapshot
from broker.storage.schema import Row, checked
from protocol.mqtt.message import Message

_INSERT = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Numbers:
    """Which messages the file has, and how often they are named there.

    Args:
        saved: what the file holds, as `read` returned it.
    """

    def __init__(self, saved: Snapshot) -> None:
        self._more: dict[int, int] = {}
        """Of a message that is named more than once: how many times more."""
        self._released: list[int] = []
        self._met: dict[int, Publication] = {}
        """Those of this save that are known to be in the file by their number."""
        self._last = 0
        self._clock_offset_s = 0.0
        seen: set[int] = set()
        for message in map(as_publication, _named(saved)):
            if message.number == 0:
                continue  # it stands in the backlog
            if message.number in seen:
                self._more[message.number] = self._more.get(message.number, 0) + 1
            seen.add(message.number)
            self._last = max(self._last, message.number)

    def forget(self) -> None:
        """The file has no message any more."""
        self._more = {}

    def begin(self, clock_offset_s: float = 0.0) -> None:
        """A save begins: no message has been met in it yet."""
        self._clock_offset_s = clock_offset_s
        self._released = []
        self._met = {}

    def name(self, named: Message, batches: Batches) -> int:
        """One row more names this message: its number, under which it is written when it is not there yet."""
        message = as_publication(named)
        number = message.number
        if number > 0 and (self._met.get(number) is message or self._is_kept(message, batches)):
            self._more[number] = self._more.get(number, 0) + 1
            return number
        self._last += 1
        number = message.number = self._last
        self._met[number] = message
        batches.later(_INSERT, _row(message, self._clock_offset_s))
        return number

    def release(self, numbers: Iterable[int]) -> None:
        """A row less names each of these."""
        self._released.extend(numbers)

    def end(self, batches: Batches) -> Generator[None]:
        """Take out what nothing names any more: only now, since it may have been named anew."""
        for number in self._released:
            more = self._more.get(number, 0)
            if more == 0:
                batches.later("DELETE FROM message WHERE number = ?", (number,))
            elif more == 1:
                del self._more[number]
            else:
                self._more[number] = more - 1
            yield from batches.pause()
        self.begin()

    def _is_kept(self, message: Publication, batches: Batches) -> bool:
        """Whether the file still has it: it may have gone from every queue there, and then come into another."""
        found = batches.one("SELECT topic = ? FROM message WHERE number = ?", (message.topic, message.number))
        if found is None or not found[0]:
            return False
        self._met[message.number] = message
        return True


def _named(saved: Snapshot) -> Iterator[Message]:
    yield from saved.retained
    for record in saved.sessions:
        for entry in record.inflight:
            yield entry.message
        for waiting in record.queued:
            yield waiting.message
        for _, message in record.inbound:
            yield message
        if record.will is not None:
            yield record.will


def as_publication(message: Message) -> Publication:
    """What a queue or a window holds, as what it is: whatever a broker keeps was published in it."""
    assert isinstance(message, Publication)
    return message


def _row(message: Publication, clock_offset_s: float) -> Row:
    return checked(
        message.number,
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.client_id,
        message.user_name,
        message.listener_port,
        message.properties,
        0.0 if message.expires_at == 0.0 else message.expires_at + clock_offset_s,
    )
