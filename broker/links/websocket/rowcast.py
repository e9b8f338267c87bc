"""One client of the `rowcast` dialect: topics of the one trie, and what it is told of gaps.

Invariant: each filter in `_read` is subscribed with the engine, and no other for this receiver.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from broker.core.outbox import Outbox, nothing
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.row_source import TooMuch
from broker.gateway.gaps import Channels
from broker.gateway.gateway import Gateway
from broker.links.barrier import barrier
from broker.links.websocket.catching_up import Subscription
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.following import CONFLATE_ABOVE_BYTES
from broker.links.websocket.readers import Readers
from broker.links.websocket.words import FRAME, RowcastWords, frame_of
from protocol.dialects.base import Command
from protocol.dialects.rowcast import Leave, Read, RowcastDialect, Say, error_text, published_text
from protocol.mqtt.topics import matches
from protocol.mqtt.v5.reasons import FAILURE, ReasonCode
from protocol.websocket import CloseCode, text_frame

CONFLATED_TOPICS_MAX: Final = 10_000
"""Topics of one connection whose newest message may wait; more are skipped."""


UNANSWERED_MAX: Final = 1000
"""Requests to publish of one connection that may wait for a table; beyond them nothing more is read from it."""


def answer_to(request: str, promise: Promise | None) -> str:
    """What a client is told of what it published."""
    code = 0 if promise is None else promise.code
    if code < FAILURE:
        return published_text(request)
    return error_text(request, "refused", _REFUSED.get(code, f"the message was refused: {code:#04x}"))


_REFUSED: Final = {
    int(ReasonCode.PAYLOAD_FORMAT_INVALID): "the table of this topic refused the message",
    int(ReasonCode.QUOTA_EXCEEDED): "too much waits for the table of this topic",
    int(ReasonCode.SERVER_BUSY): "the cluster's log takes nothing now",
    int(ReasonCode.PACKET_TOO_LARGE): "the message is too large for the cluster's log",
}


class _Skipped:
    __slots__ = ("count", "publication")

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.count = 0


class RowcastLink(DialectLink):
    """The broker's end of one connection.  Args: as for any dialect; `readers` is shared by all of this one."""

    def __init__(
        self,
        dialect: RowcastDialect,
        gateway: Gateway,
        outbox: Outbox,
        peer: str,
        message_bytes_max: int,
        ask: Callable[[DialectLink, str], None],
        readers: Readers,
    ) -> None:
        super().__init__(dialect, gateway, outbox, peer, message_bytes_max, ask, readers)
        self._topics = dialect
        self._waiting: dict[bytes, _Skipped] = {}
        """The newest message of each topic of which there were too many."""
        self._unanswered: dict[Promise, str] = {}
        """Ids of requests to publish, by what their answer waits for."""
        self._sends_frames = True
        """False where `push` makes something else of a frame."""

    # --- what the shell and the gateway call -----------------------------------------------------------------

    def open(self) -> None:
        self._readers.add(self)
        super().open()

    def ended(self) -> None:
        self._readers.remove(self)
        for promise in self._unanswered:
            promise.on_kept = nothing  # they may be written, and nobody is told
        self._unanswered.clear()
        self._waiting.clear()
        for topic_filter in list(self._read):
            self._leave(topic_filter)
        super().ended()

    # --- what the engine calls -----------------------------------------------------------------------------

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if self.closing:
            return
        frame = publication.frame(FRAME)
        if frame is None:
            frame = frame_of(publication, self._history)
        outbox = self.outbox
        if not self._behind and not self._waiting and outbox.pending_bytes + len(frame) <= outbox.limit_bytes:
            if self._sends_frames:
                outbox.push(frame)  # without a call in between: this is what a fan-out costs
            else:
                self.push(frame)
            if outbox.pending_bytes >= CONFLATE_ABOVE_BYTES:
                outbox.round.strain(outbox)
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            self._deliver_slowly(publication, frame)

    def deliver_run(self, run: list[Publication], granted: int) -> None:
        """Each by itself: its frames are others than those of the documents' dialects."""
        Receiver.deliver_run(self, run, granted)

    def _deliver_slowly(self, publication: Publication, frame: bytes) -> None:
        self.outbox.round.strain(self.outbox)
        live: list[Subscription] = []
        for one in self._read.values():
            if not matches(one.topic_filter, publication.topic):
                continue
            if not one.catching_up:
                live.append(one)
            elif not one.hold(publication):
                self.too_slow()
                return
        if not live:
            return
        if all(one.read.conflate for one in live) and (
            self._waiting or self.outbox.pending_bytes + len(frame) > CONFLATE_ABOVE_BYTES
        ):
            self._conflate(publication)
        elif self.outbox.finds_room(len(frame)):
            self.push(frame)
        elif all(one.ring_backed for one in live):
            for one in live:
                self._fall_behind(one, publication)
        else:
            self.too_slow()

    def too_slow(self) -> None:
        self._close_as_slow(CloseCode.TRY_AGAIN_LATER)

    def _conflate(self, publication: Publication) -> None:
        waiting = self._waiting.get(publication.topic)
        self.outbox.more_waits = True
        if waiting is not None:
            waiting.publication = publication
            waiting.count += 1
            self.engine.counters.dropped_outbox_full += 1
        elif len(self._waiting) < CONFLATED_TOPICS_MAX:
            self._waiting[publication.topic] = _Skipped(publication)
        else:
            self.too_slow()

    # --- room again -----------------------------------------------------------------------------------------

    def _sent_all(self) -> None:
        """The kernel takes more."""
        if self.closing:
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            self._send_waiting()
            if self._behind:
                self._get_in_line()

    def _send_waiting(self) -> None:
        while self._waiting and self.outbox.pending_bytes < CONFLATE_ABOVE_BYTES:
            topic = next(iter(self._waiting))
            waiting = self._waiting.pop(topic)
            if waiting.count:
                told = {"skipped": waiting.count, "topic": topic.decode()}
                self.push(text_frame(json.dumps(told, ensure_ascii=False).encode()))
            self.push(frame_of(waiting.publication, self._history))
        if self._waiting:
            self.outbox.more_waits = True

    # --- commands ------------------------------------------------------------------------------------------

    def _send(self, text: str) -> None:
        frame = text_frame(text.encode())
        if self.outbox.has_room(len(frame)):
            self.push(frame)
        else:
            self.too_slow()

    def _do(self, command: Command) -> None:
        if isinstance(command, Read):
            self._subscribe_to(command)
        elif isinstance(command, Leave):
            self._leave(command.topic_filter)
        elif isinstance(command, Say):
            self._publish(command)
        else:
            super()._do(command)

    def _publish(self, say: Say) -> None:
        """Answer when what was promised of the message is kept: its row is committed, where a table takes it."""
        said = Publication(say.topic, say.payload, say.qos, say.retain)
        said.request()
        self.engine.publish(said)
        promise = said.promise
        if promise is None or promise.is_kept:
            self._send(answer_to(say.request, promise))
            return
        self._unanswered[promise] = say.request
        promise.on_kept = lambda: self._kept(promise)
        if len(self._unanswered) == UNANSWERED_MAX:
            self.outbox.pause(True)

    def _kept(self, promise: Promise) -> None:
        if len(self._unanswered) == UNANSWERED_MAX:
            self.outbox.pause(False)
        request = self._unanswered.pop(promise)
        if self.closing:
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            self._send(answer_to(request, promise))

    def _subscribe_to(self, read: Read) -> None:
        """From here on nothing is missed: subscribe and look at history and retained values in one step."""
        topic_filter = read.topic_filter
        self._leave(topic_filter)
        words = RowcastWords(read, self._history)
        missed = self._history.missed(topic_filter, "now" if read.since is None else read.since)
        state = None
        is_lost = not missed.recovered and missed.beyond is None
        if read.since is None or is_lost or (read.state and read.since == "now"):
            state = self._state_of(words)
        one = self._follow(words, missed, state)
        self.engine.subscribe(self, topic_filter, 0)
        self._begin(one)

    def too_much(self, one: Subscription, error: TooMuch) -> None:
        self._leave(one.topic_filter)
        self._topics.forget(one.topic_filter)
        shown = f',"subscribe":{json.dumps(one.topic_filter.decode(), ensure_ascii=False)}'
        self._send(error_text(one.read.request, "too_many", str(error), shown))

    def _leave(self, topic_filter: bytes) -> None:
        if self._forget(topic_filter):
            self.engine.unsubscribe(self, topic_filter)
            # What waits may be what another token does not allow any more.
            for topic in [topic for topic in self._waiting if matches(topic_filter, topic)]:
                if not any(matches(other, topic) for other in self._read):
                    del self._waiting[topic]

    def rows_missing(self, channels: Channels) -> None:
        """`Readers` tells it, with its place."""

    def tell_gap(self, before: str, behind: str, reason: str) -> None:
        """Rows may be missing between two positions, says a feed."""
        if self.closing:
            return
        for topic_filter in self._read:
            told = {"gap": topic_filter.decode(), "from": before, "to": behind, "reason": reason}
            self.push(text_frame(json.dumps(told, ensure_ascii=False).encode()))
