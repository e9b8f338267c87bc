"""One sink: what waits for its table, within limits, and what became of it.  Sans-IO.

Invariant: messages leave in the order in which they came; `waiting_bytes` is the size of what is in `waiting`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from broker.config.ingest import SinkConfig
from broker.core.engine import Engine
from broker.core.histogram import Histogram
from broker.core.outbox import nothing
from broker.core.paused import Paused
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.ingest.message_ids import MessageIds
from protocol.mqtt.v5.reasons import ReasonCode

logger = logging.getLogger("broker.ingest")

CAPTURES_MAX: Final = 100_000
"""Topics whose levels are remembered."""
MESSAGE_OVERHEAD_BYTES: Final = 600
"""What a waiting message takes beside its topic and payload."""
SAME_NS: Final = 1_000_000
"""Messages that came so close together count as having taken equally long."""
MESSAGES_BEYOND: Final = 1000
BYTES_BEYOND: Final = 1024 * 1024
"""So much may come above the limits in any case, from publishers who are stopped; else as much again as the limits."""
SAY_AGAIN_S: Final = 60.0

Levels = tuple[str, ...]


class Waiting:
    """A message on its way into the table."""

    __slots__ = (
        "is_settled",
        "levels",
        "message_id",
        "payload",
        "promise",
        "publication",
        "received_ns",
        "size",
    )

    def __init__(self, publication: Publication, levels: Levels, received_ns: int, message_id: str) -> None:
        self.publication = publication
        self.payload = publication.payload
        self.levels = levels
        self.received_ns = received_ns
        self.message_id = message_id
        self.promise: Promise | None = None
        self.is_settled = False
        self.size = len(self.payload) + len(publication.topic) + MESSAGE_OVERHEAD_BYTES
        """Bytes that it counts for while it waits."""


class Sink(Receiver):
    """Takes messages for one table.

    Args:
        config: what becomes of them.
        engine: whose messages they are.
        ids: makes their ids, where a column wants one.

    Attributes:
        state: `connecting`, `live`, `waiting` (to try again); problem: why.
        written, refused, dropped, retried: rows committed, rows that the table did not take, messages without room
            that are not sent again, batches that were tried again; they only grow.
    """

    def __init__(self, config: SinkConfig, engine: Engine, ids: MessageIds) -> None:
        super().__init__(plain=False)
        self.config = config
        self.engine = engine
        self.ids = ids
        self.state = "connecting"
        self.problem = ""
        self.waiting: deque[Waiting] = deque()
        self.waiting_bytes = 0
        self.unsettled = 0
        """Of those that were taken off, how many are not settled yet."""
        self.settled = 0
        self.written = 0
        self.refused = 0
        self.dead_letters = 0
        self.dropped = 0
        self.paused_count = 0
        self.retried = 0
        self.batches = 0
        self.latency = Histogram()
        self.clock_ns: Callable[[], int] = time.time_ns
        self.on_waiting: Callable[[], None] = nothing
        """Called when there is something to write, or enough for a whole batch."""
        self._levels: dict[bytes, Levels | None] = {}
        self._paused = Paused(engine)
        self._wants_ids = any("$message_id" in one.names for _, one in config.columns)
        self._promises = config.acknowledge == "committed"
        self._last: Publication | None = None
        self._said: dict[str, float] = {}

    # --- messages come -------------------------------------------------------------------------------------

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        """Take a message that somebody published; what a feed brings never becomes a row again."""
        if publication.is_requested and not publication.is_ingested:
            self.take(publication)

    def take(self, publication: Publication) -> None:
        """Let a message wait for the table, if it is for this one; where that is full, QoS 0 is dropped."""
        levels = self._levels_of(publication.topic)
        if levels is None or publication is self._last:
            return
        if self.is_full():
            if publication.qos == 0:
                self.dropped += 1
                self.say(
                    "full", "messages at QoS 0 are dropped: what waits for the table has reached its limit"
                )
                return
            # It may send what it has, and gets no acknowledgement.
            if self._paused.pause(publication.client_id):
                self.paused_count += 1
            if self._is_beyond():
                self._leave_out(publication)
                return
        now_ns = self.clock_ns()
        message_id = self.ids.of(publication, now_ns) if self._wants_ids else ""
        one = Waiting(publication, levels, now_ns, message_id)
        if publication.qos > 0 and self._promises:
            one.promise = publication.join_promise()
        self._last = publication
        self.waiting.append(one)
        self.waiting_bytes += one.size
        count = len(self.waiting)
        if count == 1 or count == self.config.batch.rows:
            self.on_waiting()

    def _leave_out(self, publication: Publication) -> None:
        """There is not even room for what was on its way when its publisher was stopped.

        It comes from one that can't be stopped, or comes back with it again and again.
        """
        publication.is_ingested = False
        if publication.packet_id and self._paused.send_away(publication.client_id):
            publication.join_promise()  # which nobody keeps: it is sent again
            return
        self._last = publication
        self.dropped += 1
        self.say("beyond", "messages are refused: more than twice the limit waits for the table")
        publication.join_promise().keep(ReasonCode.QUOTA_EXCEEDED)

    def inherit(self, former: Sink, taken: list[Waiting]) -> None:
        """Put what another sink has not written before what came since; topics that are no longer ours end.

        Who waits for room there waits for room here.

        Args:
            former: writes nothing any more.
            taken: what is off it and not settled; what waits in it comes behind that.
        """
        self._paused.take_over(former._paused)
        kept: list[Waiting] = []
        gone: list[Waiting] = []
        for one in [*taken, *former.take_all()]:
            levels = self._levels_of(one.publication.topic)
            if levels is None:
                gone.append(one)
                continue
            one.levels = levels
            if self._wants_ids and not one.message_id:
                one.message_id = self.ids.of(one.publication, one.received_ns)
            kept.append(one)
            self.waiting_bytes += one.size
        self.waiting.extendleft(reversed(kept))
        if gone:
            self.refused += len(gone)
            self.say(
                "gone", f"{len(gone)} messages were never written: no topic of this sink matches any more"
            )
            self.unsettled += len(gone)
            self.settle(gone, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)

    def is_full(self) -> bool:
        """Whether as much waits as the configuration allows."""
        config = self.config
        held = len(self.waiting) + self.unsettled
        return held >= config.max_messages or self.waiting_bytes >= config.max_bytes

    def _is_beyond(self) -> bool:
        """Whether so much more waits that nothing is taken, whoever sends it."""
        config = self.config
        held = len(self.waiting) + self.unsettled
        return held >= config.max_messages + max(
            config.max_messages, MESSAGES_BEYOND
        ) or self.waiting_bytes >= config.max_bytes + max(config.max_bytes, BYTES_BEYOND)

    def _levels_of(self, topic: bytes) -> Levels | None:
        """The values of the named levels, in the order of the first pattern's names; None if no pattern matches."""
        cached = self._levels.get(topic, ())
        if cached != ():
            return cached
        text = topic.decode()
        found: Levels | None = None
        for pattern in self.config.topics:
            match = pattern.regex.fullmatch(text)
            if match is not None:
                groups = dict(zip(pattern.names, match.groups(""), strict=True))
                # Never empty, so that a cached one can be told from none.
                found = (*(groups[name] for name in self.config.topics[0].names), text)
                break
        if len(self._levels) >= CAPTURES_MAX:
            self._levels.clear()
        self._levels[topic] = found
        return found

    # --- messages go ---------------------------------------------------------------------------------------

    def next_batch(self) -> list[Waiting]:
        """Take off what is to be written next; each has to be settled."""
        waiting = self.waiting
        count = min(len(waiting), self.config.batch.rows)
        batch = [waiting.popleft() for _ in range(count)]
        self.waiting_bytes -= sum([one.size for one in batch])
        self.unsettled += count
        return batch

    def take_all(self) -> list[Waiting]:
        """Take off everything; each has to be settled."""
        batch = list(self.waiting)
        self.waiting.clear()
        self.waiting_bytes = 0
        self.unsettled += len(batch)
        return batch

    def settle(self, batch: list[Waiting], code: int = 0) -> None:
        """These are committed, or refused for good: their publishers are told at the end of the turn.

        Args:
            code: what clients of 5.0 are told.
        """
        self.unsettled -= len(batch)
        self.settled += len(batch)
        now_ns = self.clock_ns()
        self._observe(batch, now_ns)
        for one in batch:
            one.is_settled = True
            promise = one.promise
            if promise is not None:
                promise.keep(code)
        if not self._paused.is_empty() and not self.is_half_full():
            self._paused.go_on()

    def _observe(self, batch: list[Waiting], now_ns: int) -> None:
        """Count how long each took: in one go those that came within a millisecond."""
        count = 0
        first_ns = 0
        for one in batch:
            if count and 0 <= one.received_ns - first_ns < SAME_NS:
                count += 1
                continue
            if count:
                self.latency.observe((now_ns - first_ns) / 1e9, count)
            first_ns = one.received_ns
            count = 1
        if count:
            self.latency.observe((now_ns - first_ns) / 1e9, count)

    def is_half_full(self) -> bool:
        """Whether half of the messages or bytes that may wait do."""
        config = self.config
        return len(self.waiting) * 2 >= config.max_messages or self.waiting_bytes * 2 >= config.max_bytes

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is on its way."""
        return not self.waiting and not self.unsettled

    # --- how it is -----------------------------------------------------------------------------------------

    def enter(self, state: str, problem: str = "") -> None:
        """Say what it is doing now, and what is wrong, if something is."""
        self.state = state
        self.problem = problem

    def say(self, reason: str, text: str) -> None:
        """A warning, each reason at most once a minute."""
        now = self.engine.now
        if now - self._said.get(reason, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said[reason] = now
            logger.warning("sink %s: %s", self.config.name, text)
