"""Rows in a form that was seen before, routed by walking once over their text.  Pure; compiled where possible.

A table's rows differ only in their values: what stands between these (names, colons, the envelope) is the same in
every text.  So one row, read with all care, tells how to recognise the next, and which of its values stand where.
What is not recognised, or has no answer here (NULL in a topic, an escape in a key) is left to `routes`, which
gives the same answer at ten times the cost; `learning` makes what stands here.

Invariant: for every text that a `FastRow` takes it gives what `Router` would give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from broker.feed.fast.shape import Shape
from broker.feed.routing.once import Key, Once, key_of_texts
from protocol.json_scan import digits_end
from protocol.notifications import Notification

Outgoing = tuple[bytes, bytes, int, bool]
"""Topic, body, QoS, retain: the arguments of `FeedOutlet.publish`."""

Publish = Callable[[bytes, bytes, int, bool], None]
"""`FeedOutlet.publish`."""

PublishRun = Callable[[bytes, list[bytes], int], None]
"""`TakesRuns.publish_run`."""

ROW: Final = 0
WHOLE: Final = 1
FRAMED: Final = 2
"""What a body is: the row, the whole text, the row in a frame."""

RUN_BYTES_MAX: Final = 64 * 1024
"""Bodies that are handed on in one go: no more than a client's packets in one receive."""

TOPIC_BYTES_MAX: Final = 65535
CHANNELS_MAX: Final = 10_000
"""Channel names kept per template.  They are few, but rows could make them up."""


class Rising(Protocol):
    """What has to know how far a table's rows have come: `broker.feed.listen.mark.Mark`."""

    is_numeric: bool
    """Whether all columns of the key are numbers."""

    def advance_to(self, texts: tuple[str, ...]) -> bool:
        """Take note of a row by its key; False if that is none."""


class Highest:
    """The highest key of a batch of rows, so that a mark need not be told of each.

    Args:
        mark: is told.
        places: which values of a row make up the key.
    """

    def __init__(self, mark: Rising, places: list[int]) -> None:
        self._mark = mark
        self._places = places
        self._is_numeric = mark.is_numeric
        self._highest: list[bytes] | None = None

    def note(self, values: list[bytes]) -> bool:
        """A row's values; False if its key is none."""
        key = [values[place] for place in self._places]
        if not self._is_numeric or not _are_counts(key):
            return self._mark.advance_to(_texts(key))
        if self._highest is None or _is_higher(key, self._highest):
            self._highest = key
        return True

    def settle(self) -> None:
        """The batch is over: tell the mark."""
        if self._highest is not None:
            self._mark.advance_to(_texts(self._highest))
            self._highest = None


def _are_counts(key: list[bytes]) -> bool:
    for number in key:  # noqa: SIM110 - a generator would not be compiled to a loop
        if not number or digits_end(number, 0, len(number)) != len(number):
            return False
    return True


def _is_higher(key: list[bytes], other: list[bytes]) -> bool:
    """Whether digits without leading zeros mean more: there are more of them, or the first that differs is higher."""
    for number, against in zip(key, other, strict=True):
        if len(number) != len(against):
            return len(number) > len(against)
        if number != against:
            return number > against
    return False


class FastTemplate:
    """One template of one route, for rows of one shape.

    Args:
        pieces: what is constant in the topic, or in the channel's name.
        places: which of the shape's values stand between the pieces.
        body: ROW, WHOLE or FRAMED.
        frame: for FRAMED in MQTT, what stands before the row; behind it stands one brace.
        channel: for a dialect, from a channel's name to its topic and its frame; None if it can't be a channel.
    """

    def __init__(
        self,
        pieces: list[bytes],
        places: list[int],
        body: int,
        frame: bytes,
        channel: Callable[[bytes], tuple[bytes, bytes] | None] | None,
    ) -> None:
        assert len(pieces) == len(places) + 1
        self._parts = [b""] * (2 * len(places) + 1)
        self._parts[::2] = pieces
        self._places = places
        self.body = body
        self._frame = frame
        self._channel = channel
        self._known: dict[bytes, tuple[bytes, bytes]] = {}
        self._last: tuple[bytes, bytes] | None = None  # rows that come together often go to one topic

    def address(self, values: list[bytes]) -> tuple[bytes, bytes] | None:
        """The topic and, if one is needed, the frame; None if it is no topic."""
        is_last = self._last is not None
        number = 1
        for place in self._places:
            value = values[place]
            if value is not self._parts[number] and value != self._parts[number]:
                self._parts[number] = value
                is_last = False
            number += 2
        if not is_last:
            self._last = self._address(b"".join(self._parts))
        return self._last

    def _address(self, name: bytes) -> tuple[bytes, bytes] | None:
        if self._channel is None:
            return (name, self._frame) if len(name) <= TOPIC_BYTES_MAX else None
        known = self._known.get(name)
        if known is None:
            known = self._channel(name)
            if known is not None:
                if len(self._known) >= CHANNELS_MAX:
                    self._known.clear()
                self._known[name] = known
        return known


class Runs:
    """What is published, in its order: neighbours that go to one topic, not retained, in one go.

    Args:
        publish: as `FeedOutlet.publish`.
        publish_run: as `TakesRuns.publish_run`; None if everything is to be published by itself.

    Invariant: what is kept here goes before anything else that is published; `end` lets it go.
    """

    def __init__(self, publish: Publish, publish_run: PublishRun | None) -> None:
        self._publish = publish
        self._publish_run = publish_run
        self._topic = b""
        self._qos = 0
        self._bodies: list[bytes] = []
        self._bytes = 0

    def add(self, topic: bytes, body: bytes, qos: int, retain: bool) -> None:
        """One more publication."""
        if self._publish_run is None or retain:
            self.end()
            self._publish(topic, body, qos, retain)
            return
        if topic is not self._topic or qos != self._qos or self._bytes >= RUN_BYTES_MAX:
            self.end()
            self._topic = topic
            self._qos = qos
        self._bodies.append(body)
        self._bytes += len(body)

    def end(self) -> None:
        """Publish what is kept."""
        bodies = self._bodies
        if not bodies:
            return
        self._bodies = []
        self._bytes = 0
        publish_run = self._publish_run
        if publish_run is None or len(bodies) == 1:
            self._publish(self._topic, bodies[0], self._qos, False)
        else:
            publish_run(self._topic, bodies, self._qos)


class FastRoute:
    """One route, for rows of one shape.  `once_places` says which of the values make up the key of `once`."""

    def __init__(
        self, templates: list[FastTemplate], qos: int, retain: bool, once: Once | None, once_places: list[int]
    ) -> None:
        self.templates = templates
        self.qos = qos
        self.retain = retain
        self.once = once
        self.once_places = once_places


class FastRow:
    """Rows of one shape, kind and source.

    Args:
        start, tail: bytes before the row in its text, and behind it.
        highest: is told of each row; None where no mark has to be.
    """

    def __init__(
        self,
        shape: Shape,
        routes: list[FastRoute],
        start: int,
        tail: int,
        highest: Highest | None,
    ) -> None:
        self.shape = shape
        self._routes = routes
        only = routes[0] if len(routes) == 1 and len(routes[0].templates) == 1 else None
        self.only = only if only is not None and only.once is None else None
        """The route, where there is only one, with one template, that publishes every row."""
        self._start = start
        self._tail = tail
        self.highest = highest
        self.repeated = 0
        """Rows times routes left out because of `once_per` in this batch."""
        self.is_touched = False
        """Whether this batch had one."""

    def publications(self, text: bytes, now: float) -> list[Outgoing] | None:
        """What the row becomes; None, and nothing has been done, if it is not one of these."""
        values = self.shape.values(text)
        if values is None:
            return None
        if self.highest is not None and not self.highest.note(values):
            return None
        row = self._row(text)
        outgoing: list[Outgoing] = []
        fresh: list[tuple[Once, Key]] | None = None
        repeated = 0
        for route in self._routes:
            once = route.once
            if once is not None:
                key = key_of_texts([values[place] for place in route.once_places])
                if once.is_repeated(key, now):
                    repeated += 1
                    continue
                if fresh is None:
                    fresh = []
                fresh.append((once, key))
            for template in route.templates:
                address = template.address(values)
                if address is None:
                    return None
                outgoing.append(
                    (address[0], _payload(template, address[1], row, text), route.qos, route.retain)
                )
        self.repeated += repeated
        if fresh is not None:
            for once, key in fresh:
                once.remember(key, now)
        return outgoing

    def publish(self, text: bytes, only: FastRoute, runs: Runs) -> bool:
        """Publish what the row becomes on its `only` route; False, and nothing has been done, as `publications`."""
        values = self.shape.values(text)
        if values is None or (self.highest is not None and not self.highest.note(values)):
            return False
        template = only.templates[0]
        address = template.address(values)
        if address is None:
            return False
        runs.add(address[0], _payload(template, address[1], self._row(text), text), only.qos, only.retain)
        return True

    def _row(self, text: bytes) -> bytes:
        return text[self._start : len(text) - self._tail] if self._start or self._tail else text


def _payload(template: FastTemplate, frame: bytes, row: bytes, text: bytes) -> bytes:
    body = template.body
    return row if body == ROW else text if body == WHOLE else frame + row + b"}"


def _texts(values: list[bytes]) -> tuple[str, ...]:
    return tuple([value.decode() for value in values])


class FastRows:
    """All that is known of a feed's rows, by channel.

    Args:
        publish: as `FeedOutlet.publish`.
        unusual: takes a notification that nothing here recognises, by its channel and text.  False if it can't be
            published now, and so what comes after it can't either.
        publish_run: see `Runs`.
    """

    def __init__(
        self,
        publish: Publish,
        unusual: Callable[[bytes, bytes, float], bool],
        publish_run: PublishRun | None = None,
    ) -> None:
        self._runs = Runs(publish, publish_run)
        self._unusual = unusual
        self._rows: dict[bytes, list[FastRow]] = {}
        self.at = 0
        """Where `deliver` is, for those who have to go on behind one that it failed at."""

    def add(self, channel: bytes, row: FastRow) -> None:
        """Rows of this look on the channel can be taken by the fast path."""
        self._rows.setdefault(channel, []).append(row)

    def known(self, channel: bytes) -> list[FastRow]:
        """The looks that are known of the channel."""
        return self._rows.get(channel, [])

    def deliver(self, notifications: list[Notification], now: float) -> tuple[int, int, int]:
        """Publish notifications in their order, all of them or those before one that can't be published now.

        Returns:
            Notifications taken; publications, and rows left out because of `once_per` (once for each route), of
            unusual rows neither.
        """
        taken = 0
        published = 0
        touched: list[FastRow] = []
        try:
            for channel, text in notifications:
                self.at = taken
                made = -1
                for row in self._rows.get(channel, _NONE):
                    made = self._published(row, text, now)
                    if made >= 0:
                        if not row.is_touched:
                            row.is_touched = True
                            touched.append(row)
                        break
                if made >= 0:
                    published += made
                else:
                    self._runs.end()
                    if not self._unusual(channel, text, now):
                        break
                taken += 1
        finally:
            self._runs.end()
            repeated = _settled(touched)
        return taken, published, repeated

    def _published(self, row: FastRow, text: bytes, now: float) -> int:
        """How many publications a notification became; -1, and nothing has been done, if it isn't such a row."""
        only = row.only
        if only is not None:
            return 1 if row.publish(text, only, self._runs) else -1
        outgoing = row.publications(text, now)
        if outgoing is None:
            return -1
        for topic, payload, qos, retain in outgoing:
            self._runs.add(topic, payload, qos, retain)
        return len(outgoing)


_NONE: Final[list[FastRow]] = []


def _settled(touched: list[FastRow]) -> int:
    repeated = 0
    for row in touched:
        repeated += row.repeated
        row.repeated = 0
        row.is_touched = False
        if row.highest is not None:
            row.highest.settle()
    return repeated
