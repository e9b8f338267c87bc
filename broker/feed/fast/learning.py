"""From one row, read with all care, to how the next ones are recognised.  Pure.

What is learned is a text with holes for the row's values.  JSON with one value in the place of another is JSON
with the same names, so a text that fills the holes with values has its columns where the first one had them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

from broker.config.feeds import Fetch
from broker.config.templates import KIND, parse_template
from broker.feed.fast import shape
from broker.feed.fast.notified import FRAMED, ROW, WHOLE, FastRoute, FastRow, FastRows, FastTemplate, Highest
from broker.feed.fast.shape import BOTH, LEVEL, TEXT, UNUSED, Shape
from broker.feed.listen.mark import Mark
from broker.feed.routing.routes import CompiledRoute, Row
from broker.feed.routing.rowtext import value_spans
from broker.feed.routing.templates import DialectTopics, Unfit


class FastPath:
    """Whether rows are recognised by those before them; feeds ask when they begin.

    Attributes:
        is_on: where compiled.  Interpreted, a walk over a text takes longer than the JSON parser, which is in C.
            ROWCAST_FAST_PATH=0 or 1 in the environment says otherwise, for tests and to look for a fault.
    """

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on


FAST_PATH: Final = FastPath(
    os.environ.get("ROWCAST_FAST_PATH", "0" if str(shape.__file__).endswith(".py") else "1") == "1"
)

ROWS_MAX: Final = 32
"""Shapes per channel: one per table, and one more for each time that its columns change."""

LESSONS_MAX: Final = 200
"""Rows looked at per channel, so that a channel of ever new texts does not cost for ever."""

_BODIES: Final = {"row": ROW, "raw": WHOLE, "envelope": FRAMED}


class Learner:
    """Adds to `rows` what it learns.

    Args:
        fetches: say what a row has to look like in order to be one.
    """

    def __init__(self, rows: FastRows, fetches: Iterable[Fetch] = ()) -> None:
        self._rows = rows
        self._markers = {pair: fetch.when for fetch in fetches for pair in fetch.kinds}
        self._lessons: dict[bytes, int] = {}

    def learn(self, channel: bytes, row: Row, mark: Mark | None) -> None:
        """Look at a row that was not recognised; `mark` has to know of the rows of its kind."""
        lessons = self._lessons[channel] = self._lessons.get(channel, 0) + 1
        known = self._rows.known(channel)
        if lessons > LESSONS_MAX or len(known) >= ROWS_MAX:
            return
        learned = fast_row(row, mark, self._markers.get((row.source.config.name, row.kind), ()))
        if learned is not None and all(learned.shape.gaps != other.shape.gaps for other in known):
            self._rows.add(channel, learned)


def fast_row(row: Row, mark: Mark | None, marker: tuple[str, ...] = ()) -> FastRow | None:
    """How rows like this one are recognised; None if they can't be, or have no route.

    Args:
        marker: JSON path of a member that has to be as it is here.
    """
    source = row.source.config
    routes = row.source.routes_of(row.kind)
    try:
        spans, start, end = value_spans(row.raw, source.row_path)
    except UnicodeError:
        return None
    for path in (source.kind_path, marker):  # what says the kind is the same in all of them, too
        if path[: len(source.row_path)] == source.row_path and path:
            spans.pop(path[len(source.row_path)], None)
    gaps = _gaps(row.raw, sorted(spans.values()))
    uses = uses_of(routes, mark)
    if not routes or uses.keys() - spans.keys() or any(b"\\" in gap for gap in gaps):
        return None
    names = sorted(spans, key=spans.__getitem__)
    made = Shape(gaps, [uses.get(name, UNUSED) for name in names])
    places = {name: place for place, name in enumerate(name for name in names if name in uses)}
    fast_routes = [fast_route(route, row.kind, places) for route in routes]
    if any(route is None for route in fast_routes):
        return None
    return FastRow(
        made,
        [route for route in fast_routes if route is not None],
        start if source.row_path else 0,
        len(row.raw) - end if source.row_path else 0,
        Highest(mark, [places[name] for name in mark.recovery.key]) if mark is not None else None,
    )


def _gaps(text: bytes, spans: list[tuple[int, int]]) -> list[bytes]:
    starts = [start for start, _ in spans] + [len(text)]
    ends = [0] + [end for _, end in spans]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def uses_of(routes: Iterable[CompiledRoute], mark: Mark | None) -> dict[str, int]:
    """What each column is wanted for."""
    uses = dict.fromkeys(mark.recovery.key if mark is not None else (), TEXT)
    for route in routes:
        named = [
            name for topic in route.config.topics for name in parse_template(topic).names if name != KIND
        ]
        use = LEVEL if route.config.target == "mqtt" else TEXT
        for name, wanted in [
            *((name, use) for name in named),
            *((name, TEXT) for name in route.config.once_per),
        ]:
            uses[name] = wanted if uses.get(name, wanted) == wanted else BOTH
    uses.pop(KIND, None)
    return uses


def fast_route(route: CompiledRoute, kind: str, places: dict[str, int]) -> FastRoute | None:
    """The route for the fast path, or None where the careful path has to take its rows."""
    config = route.config
    if not route.is_fast:
        return None
    if config.target == "mqtt" and any(KIND in parse_template(topic).names for topic in config.topics):
        quoted = b'"' + kind.encode() + b'"'
        if shape.plain_end(quoted, 0, len(quoted)) < 0:
            return None
    if KIND in config.once_per:
        return None
    templates = [_fast_template(route, topic, kind, places) for topic in config.topics]
    return FastRoute(
        templates, config.qos, config.retain, route.once, [places[name] for name in config.once_per]
    )


def _fast_template(route: CompiledRoute, topic: str, kind: str, places: dict[str, int]) -> FastTemplate:
    template = parse_template(topic)
    pieces = [template.pieces[0]]
    named = []
    for name, piece in zip(template.names, template.pieces[1:], strict=True):
        if name == KIND:
            pieces[-1] += kind + piece
        else:
            pieces.append(piece)
            named.append(places[name])
    body = _BODIES[route.config.body]
    frame = route.framed(kind, b"")[:-1] if body == FRAMED else b""
    return FastTemplate([piece.encode() for piece in pieces], named, body, frame, _channels(route))


def _channels(route: CompiledRoute) -> Callable[[bytes], tuple[bytes, bytes] | None] | None:
    topics = route.topics
    if not isinstance(topics, DialectTopics):
        return None

    def channel(name: bytes) -> tuple[bytes, bytes] | None:
        text = name.decode()
        try:
            return topics.topic_of(text), route.framed(text, b"")[:-1]
        except Unfit:
            return None

    return channel
