"""What a client is told of a subscription that follows from a position: in the `rowcast` dialect's words, or in those
of a dialect whose document has no positions, with `at` in what each channel brings.
"""

from __future__ import annotations

import json
from typing import Final

from broker.core.history import History, Missed
from broker.core.publication import Publication
from protocol.dialects.base import Subscribe
from protocol.dialects.positioned import place_members, with_position
from protocol.dialects.rowcast import Read, message_text, subscribed_head
from protocol.websocket import text_frame

FRAME: Final = "rowcast"
"""The key of a publication's frame."""

POSITIONED: Final = "positioned"
"""The key of its frame with `at` for the other dialects, which all send a publication's payload as it is."""

STATE_FIRST: Final = "this channel tells its state to whoever subscribes"
"""Why nothing of a channel is recovered: the state stands for all of it."""


def frame_of(publication: Publication, history: History) -> bytes:
    """A publication's frame, the same bytes for every reader of `rowcast`."""
    frame = publication.frame(FRAME)
    if frame is None:
        at = history.positions.stamp(publication)
        frame = text_frame(message_text(publication.topic, publication.payload, at))
        publication.keep_frame(FRAME, frame)
    return frame


def text_in(frame: bytes) -> bytes:
    """The text in a frame of ours."""
    short = frame[1]
    return frame[2 if short < 126 else 4 if short == 126 else 10 :]


class Words:
    """How one subscription is told of.

    Args:
        read: what was asked.
        history: knows where the reader is.
        separator: stands between two messages.
    """

    def __init__(self, read: Read, history: History, separator: bytes) -> None:
        self.read = read
        self.history = history
        self.separator = separator

    def message(self, publication: Publication) -> bytes:
        """One of those that were missed."""
        raise NotImplementedError

    def value(self, topic: bytes, payload: bytes, retained: bool) -> bytes:
        """Part of a state: what is retained, or a row that was read."""
        raise NotImplementedError

    def first(
        self, missed: Missed, start: str, lists: bytes, messages: bytes, fresh: bool, more: bool
    ) -> bytes:
        """The answer to the request.

        Args:
            start: where the first message stands behind.
            lists: what `messages` are, `state` or `missed`; b"" if there are none to be told of.
            fresh: they were published after the subscription began.
            more: others follow; the reader is live if not.
        """
        raise NotImplementedError

    def next(self, lists: bytes, messages: bytes, fresh: bool, more: bool) -> bytes:
        """What follows the answer; may be b"", where there is nothing to say."""
        raise NotImplementedError


class RowcastWords(Words):
    """Lists of messages, in frames that say whether more of them follow."""

    def __init__(self, read: Read, history: History) -> None:
        super().__init__(read, history, b",")

    def message(self, publication: Publication) -> bytes:
        return text_in(frame_of(publication, self.history))

    def value(self, topic: bytes, payload: bytes, retained: bool) -> bytes:
        return message_text(topic, payload, b"", retained)

    def first(
        self, missed: Missed, start: str, lists: bytes, messages: bytes, fresh: bool, more: bool
    ) -> bytes:
        at = "" if more else self.history.positions.here()
        head = subscribed_head(self.read, at, missed.recovered, missed.reason).encode()
        return text_frame(head + self._members(lists, messages, fresh) + (b',"more":true}' if more else b"}"))

    def next(self, lists: bytes, messages: bytes, fresh: bool, more: bool) -> bytes:
        head = b'{"subscribed":' + json.dumps(self.read.topic_filter.decode(), ensure_ascii=False).encode()
        members = self._members(lists, messages, fresh)
        if more:
            return text_frame(head + members + b',"more":true}')
        return text_frame(head + b',"at":"' + self.history.positions.here().encode() + b'"' + members + b"}")

    def _members(self, lists: bytes, messages: bytes, fresh: bool) -> bytes:
        if not lists:
            return b""
        return b',"%b":[%b]%b' % (lists, messages, b',"fresh":true' if fresh else b"")


class ChannelWords(Words):
    """The document's answer with a place in it; then each message by itself, as if it came only now.

    Args:
        wanted: what was asked for, and the answer.
    """

    def __init__(self, read: Read, history: History, wanted: Subscribe) -> None:
        super().__init__(read, history, b"")
        self._answer = wanted.answer
        self._subscription = wanted.subscription

    def message(self, publication: Publication) -> bytes:
        """Its frame, the same for every reader of the channel who has given `since`."""
        frame = publication.frame(POSITIONED)
        if frame is None:
            at = self.history.positions.stamp(publication)
            frame = text_frame(with_position(publication.payload, at, self._subscription))
            publication.keep_frame(POSITIONED, frame)
        return frame

    def value(self, topic: bytes, payload: bytes, retained: bool) -> bytes:
        return text_frame(payload)

    def first(
        self, missed: Missed, start: str, lists: bytes, messages: bytes, fresh: bool, more: bool
    ) -> bytes:
        return self._answered(start, missed.recovered, missed.reason) + messages

    def refusal(self, reason: str) -> bytes:
        """The answer where nothing can be followed: messages have no place."""
        return self._answered("", False, reason)

    def _answered(self, at: str, recovered: bool, reason: str) -> bytes:
        return text_frame(f"{self._answer}{place_members(at, recovered, reason)}}}".encode())

    def next(self, lists: bytes, messages: bytes, fresh: bool, more: bool) -> bytes:
        return messages
