"""Filling topic templates from a row's columns: NULLs, values unfit for a level, lengths.

Invariant: what comes out is a topic name that MQTT allows, with exactly the levels of its template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from broker.config.feeds import Route
from broker.config.templates import KIND, parse_template
from broker.feed.routing.rowtext import Columns
from broker.gateway.channels import BadChannel, topic_of
from protocol.mqtt.topics import TEXT_BYTES_MAX

CHANNEL_TOPICS_MAX: Final = 10_000
"""Topics cached per dialect route.  Channel names are few, but rows could make them up."""

# Controls, surrogates, and what Unicode says is no character: protocol.mqtt.topics.
_FORBIDDEN_CLASS = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
FORBIDDEN = re.compile(f"[{_FORBIDDEN_CLASS}]")
FORBIDDEN_OR_PERCENT = re.compile(f"[%{_FORBIDDEN_CLASS}]")
"""What MQTT allows in no text; and with the sign by which it is written."""

UNSAFE = re.compile(f"[/+#{_FORBIDDEN_CLASS}]")
UNSAFE_OR_PERCENT = re.compile(f"[%/+#{_FORBIDDEN_CLASS}]")
"""The same for a topic's level."""


class Unfit(ValueError):
    """A value that can't be in a topic.  `reason` is what it is counted under, `name` the column."""

    def __init__(self, reason: str, name: str) -> None:
        super().__init__(reason, name)
        self.reason = reason
        self.name = name


class MqttTopics:
    """The topics of one MQTT route."""

    def __init__(self, route: Route) -> None:
        self._names, self._get, self._fillings = _compile(route)
        self._on_null = route.on_null
        self._on_unsafe = route.on_unsafe
        self._unsafe = UNSAFE_OR_PERCENT if route.on_unsafe == "percent" else UNSAFE

    def fill(self, columns: Columns) -> list[tuple[bytes, str]]:
        """Each topic, and for an envelope the kind.

        Raises:
            KeyError: the row lacks a column.  Unfit: a value, or the whole topic, can't be used.
        """
        values = self._get(columns)
        try:
            if self._unsafe.search("".join(values)) or "" in values:
                values = self._fitted(values)
        except TypeError:  # something that is not text
            values = self._fitted(values)
        kind = columns[KIND]
        return [(self._checked(pattern % get(values)), kind) for pattern, get in self._fillings]

    def _checked(self, text: str) -> bytes:
        topic = text.encode()
        if topic[:1] == b"$":  # the broker's own topics; only a first level from a column gets here
            if self._on_unsafe != "percent":
                raise Unfit("unsafe_value", self._names[0])
            topic = b"%24" + topic[1:]
        if len(topic) > TEXT_BYTES_MAX:
            raise Unfit("topic_too_long", ", ".join(self._names))
        return topic

    def _fitted(self, values: Sequence[Any]) -> tuple[str, ...]:
        return tuple(self._fit(name, value) for name, value in zip(self._names, values, strict=True))

    def _fit(self, name: str, value: Any) -> str:
        text = text_of(name, value, self._on_null)
        if text and not self._unsafe.search(text):
            return text
        return replaced(name, text, self._unsafe, self._on_unsafe)


class DialectTopics:
    """The channels of one dialect route, as the topics under which they stand in the trie."""

    def __init__(self, route: Route) -> None:
        self._names, self._get, self._fillings = _compile(route)
        self._dialect = route.target
        self._on_null = route.on_null
        self._topics: dict[str, bytes] = {}

    def fill(self, columns: Columns) -> list[tuple[bytes, str]]:
        """Each topic, and the channel's own name.  Raises: as `MqttTopics.fill`."""
        values = self._get(columns)
        texts = tuple(text_of(name, v, self._on_null) for name, v in zip(self._names, values, strict=True))
        channels = [pattern % get(texts) for pattern, get in self._fillings]
        return [(self._topics.get(channel) or self.topic_of(channel), channel) for channel in channels]

    def topic_of(self, channel: str) -> bytes:
        """Raises: Unfit."""
        try:
            topic = topic_of(self._dialect, channel)
        except BadChannel:
            raise Unfit("unsafe_value", ", ".join(self._names)) from None
        if len(self._topics) >= CHANNEL_TOPICS_MAX:
            self._topics.clear()
        self._topics[channel] = topic
        return topic


Getter = Callable[[Any], tuple[Any, ...]]


def tuple_getter(keys: Sequence[Any]) -> Getter:
    """As `operator.itemgetter`, but the result is a tuple for no key and for one key, too."""
    if not keys:
        return lambda container: ()
    if len(keys) == 1:
        (key,) = keys
        return lambda container: (container[key],)
    getter: Getter = itemgetter(*keys)
    return getter


def columns_getter(names: Sequence[str]) -> Getter:
    """As `tuple_getter` for a row's columns, with members of objects: `payload.temp` is `temp` of `payload`."""
    if not any("." in name for name in names):
        return tuple_getter(names)
    return lambda columns: tuple(_member(columns, name) for name in names)


def _member(columns: Columns, name: str) -> Any:
    """Raises: KeyError, with the whole name."""
    try:
        return columns[name]  # a column may have such a name
    except KeyError:
        first, *rest = name.split(".")
        if not rest:
            raise
    value = columns[first]
    for key in rest:
        if type(value) is not dict or key not in value:
            raise KeyError(name)
        value = value[key]
    return value


def _compile(route: Route) -> tuple[tuple[str, ...], Getter, list[tuple[str, Getter]]]:
    """The names that all templates need, what gets them, each template's pattern and what fills it."""
    templates = [parse_template(topic) for topic in route.topics]
    names = tuple(dict.fromkeys(name for template in templates for name in template.names))
    fillings = [(t.pattern, tuple_getter([names.index(name) for name in t.names])) for t in templates]
    return names, columns_getter(names), fillings


def text_of(name: str, value: Any, on_null: str) -> str:
    """A column's value as text.

    Args:
        on_null: what stands for NULL, or `drop`.

    Raises:
        Unfit: NULL that is to be dropped, an array or an object.
    """
    if type(value) is str:
        return value
    if value is None:
        if on_null == "drop":
            raise Unfit("null", name)
        return on_null
    if value is True or value is False:
        return "true" if value else "false"
    raise Unfit("unsafe_value", name)  # an array or an object


def replaced(name: str, text: str, unsafe: re.Pattern[str], on_unsafe: str) -> str:
    """A value with what is not allowed in it, or an empty one, as `on_unsafe` says.

    Raises:
        Unfit: it is to be dropped, or nothing can be written in percent signs.
    """
    if on_unsafe == "drop" or (on_unsafe == "percent" and not text):
        raise Unfit("unsafe_value", name)
    return unsafe.sub(_percent, text) if on_unsafe == "percent" else on_unsafe


def _percent(match: re.Match[str]) -> str:
    """The characters found, as their bytes of UTF-8 in percent signs."""
    return "".join(f"%{byte:02X}" for byte in match.group().encode(errors="surrogatepass"))
