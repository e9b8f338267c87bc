"""Where the log ends, and whether it is the one that was read: what a single server says proves neither.

A leader that was just started, or is cut off from the others, says that the log ends earlier than its readers have been
given.  So whoever would conclude something from an end lets a quorum take a message first: what the log ever had stands
before that one, and a server that has it has all of the log.

    the same stream, and at the last place that was read stands what was read    it is the same log, whoever says so
    anything else                                                                a quorum's word is waited for
    by that, too                                                                 it was made anew, or has lost its end

Invariant: a log is taken for another one only by the word of a server that has what a quorum has just taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import trio
from attrs import frozen

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.setup import first_behind, info, made_at, message_at, places, words_of
from protocol.nats import jetstream
from protocol.nats.jetstream import NANOSECONDS, ApiError

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus

ANSWER_S: Final = 3.0

READ_S: Final = 4.0
"""How long a node may take to read up to the log's end."""

LOOK_S: Final = 0.2

CLOCKS_NS: Final = 5 * NANOSECONDS
"""The clocks of two NATS servers may differ by so much: what was stored no longer before counts as not read."""


class Doubt(Unavailable):
    """It is not known whether the log is the one that was read."""


async def certain_end(link: NatsLink, names: Names) -> tuple[dict[str, Any], int]:
    """The log's `info` by a server that has all of it, and a place behind all that it had when this was called.

    Raises: Unavailable, ApiError, NatsProtocolError.
    """
    end = jetstream.pub_ack(await link.request(names.end, b"", ANSWER_S)).sequence
    found = await info(link, names.messages)
    if found is None or places(found)[1] < end:
        raise Unavailable("the NATS server that answers has yet to catch up with the log")
    return found, end


async def until_read(link: NatsLink, names: Names, status: ClusterStatus) -> None:
    """Wait until this node has read all that the log had when this was called.

    Its place does not tell: it may be one of the log before that has lost its end.  So a mark of its own is waited for.

    Raises:
        Unavailable: also if it has not by then: it never does where the log was made anew meanwhile.
        ApiError, NatsProtocolError: as above.
    """
    mark = uuid4().hex.encode()
    status.awaited.add(mark)
    try:
        jetstream.pub_ack(await link.request(names.end, mark, ANSWER_S))
        with trio.move_on_after(READ_S):
            while mark in status.awaited:  # noqa: ASYNC110 - plain data, has no event
                await trio.sleep(LOOK_S)
        if mark in status.awaited:
            raise Unavailable("this node has yet to read what the log has")
    finally:
        status.awaited.discard(mark)


@frozen
class PlaceRead:
    """The last place of the log that somebody has read.

    Attributes:
        created: when the stream was made, as NATS says it.
        sequence: of the message there; `stored_ns`: when it was stored, 0 if that is unknown.
    """

    created: str
    sequence: int
    stored_ns: int

    async def found_again(
        self, link: NatsLink, names: Names, found: dict[str, Any]
    ) -> tuple[dict[str, Any], int]:
        """The log's `info` that is to be gone by, and the place up to which the log has what was read.

        That is `sequence` if it is the same log and whole, 0 if it was made anew.

        Args:
            found: its `info` by whoever leads now.

        Raises:
            Doubt: it may be another one, and no quorum has said so.
            Unavailable, ApiError, NatsProtocolError: as well, or it is the same, and can't be asked.
        """
        if await self._is_in(link, names, found):
            return found, self.sequence
        try:
            sure, end = await certain_end(link, names)
        except (Unavailable, ApiError) as error:
            raise Doubt(self._words(found, error)) from None
        if made_at(sure) != self.created:
            return sure, 0
        if end > self.sequence and await self._is_in(link, names, sure):
            return sure, self.sequence
        return sure, await self._kept(link, names, sure, end)

    async def _is_in(self, link: NatsLink, names: Names, found: dict[str, Any]) -> bool:
        first, last = places(found)
        if made_at(found) != self.created or last < self.sequence:
            return False
        if self.sequence < first or not self.stored_ns:
            return True
        there = await message_at(link, names.messages, self.sequence)
        return there is None or there.at_ns == self.stored_ns  # somebody may have removed just that one

    async def _kept(self, link: NatsLink, names: Names, found: dict[str, Any], end: int) -> int:
        """The log has lost its end: the last place before `end` that is older than what was read last."""
        first, _ = places(found)
        kept, newer = first - 1, end
        while newer - kept > 1:
            middle = (kept + newer) // 2
            there = await first_behind(link, names.messages, middle)
            if there is None or there.sequence >= newer or there.at_ns > self.stored_ns - CLOCKS_NS:
                newer = middle
            else:
                kept = there.sequence
        return kept

    def _words(self, found: dict[str, Any], error: Exception) -> str:
        said = "is another one" if made_at(found) != self.created else f"ends at {places(found)[1]}"
        text = "it was read up to %d, and a NATS server says that it %s, which counts once it takes something: %s"
        return text % (self.sequence, said, words_of(error))
