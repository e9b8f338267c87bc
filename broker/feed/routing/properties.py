"""A row's values as properties of MQTT 5.0.  Pure.

Invariant: what comes out is what a packet can carry.  A property whose column is NULL, or not in the row (as of a
deleted one), is left out; one whose value no packet can carry keeps the row from this route, as in a topic.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from broker.config.feeds import Route
from broker.config.templates import parse_template
from broker.core.added import Added
from broker.feed.routing.rowtext import Columns
from broker.feed.routing.templates import (
    FORBIDDEN,
    FORBIDDEN_OR_PERCENT,
    UNSAFE,
    UNSAFE_OR_PERCENT,
    Unfit,
    columns_getter,
    replaced,
    text_of,
)
from protocol.mqtt.topics import TEXT_BYTES_MAX, is_valid_topic_name
from protocol.mqtt.v5.properties import encode_text, encode_user_property
from protocol.mqtt.v5.property_table import CONTENT_TYPE, CORRELATION_DATA, EXPIRY_S_MAX, RESPONSE_TOPIC

_HEX: Final = re.compile(r"\\x(?:[0-9a-fA-F]{2})*")
_SECONDS: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,9})?")
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?) *(ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.+-]+)?")
_INTERVAL: Final = re.compile(
    r"(?:([+-]?\d{1,6}) years? ?)?(?:([+-]?\d{1,6}) mons? ?)?(?:([+-]?\d{1,9}) days? ?)?"
    r"(?:([+-]?)(\d{1,9}):(\d\d):(\d\d(?:\.\d{1,6})?))?"
)


class _Text:
    """One property whose value is a template."""

    def __init__(
        self, route: Route, text: str, encode: Callable[[bytes], bytes], is_topic: bool = False
    ) -> None:
        template = parse_template(text, in_property=True)
        self.names = template.names
        self._pattern = template.pattern
        self._get = columns_getter(template.names)
        self._encode = encode
        self._on_null = route.on_null
        self._on_unsafe = route.on_unsafe
        self._is_topic = is_topic
        percent_too = UNSAFE_OR_PERCENT if is_topic else FORBIDDEN_OR_PERCENT
        plain = UNSAFE if is_topic else FORBIDDEN
        self._unsafe = percent_too if route.on_unsafe == "percent" else plain

    def bytes(self, columns: Columns) -> bytes:
        """b"" where it is left out."""
        try:
            values = self._get(columns)
        except KeyError:
            return b""  # a deleted row's column, or the position of a row that has none
        texts = []
        for name, value in zip(self.names, values, strict=True):
            if value is None and self._on_null == "drop":
                return b""
            texts.append(self._fitted(name, text_of(name, value, self._on_null)))
        encoded = (self._pattern % tuple(texts)).encode()
        if len(encoded) > TEXT_BYTES_MAX:
            raise Unfit("property_too_long", ", ".join(self.names))
        if self._is_topic and (encoded[:1] == b"$" or not is_valid_topic_name(encoded)):
            raise Unfit("unsafe_value", ", ".join(self.names))
        return self._encode(encoded)

    def _fitted(self, name: str, text: str) -> str:
        if not self._unsafe.search(text) and (text or not self._is_topic):
            return text
        return replaced(name, text, self._unsafe, self._on_unsafe)


class _Data(_Text):
    """Correlation data: any characters, or bytes as a bytea is written."""

    def _fitted(self, name: str, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate
            raise Unfit("unsafe_value", name) from None
        return text


class RouteProperties:
    """The properties of one route's messages."""

    def __init__(self, route: Route) -> None:
        wanted = route.properties
        self._expiry_s = None if wanted.expiry_s is None else float(wanted.expiry_s)
        self._expiry_column = wanted.expiry_column
        self._get_expiry = columns_getter((wanted.expiry_column,))
        self._texts: list[_Text] = []
        if wanted.content_type:
            self._texts.append(
                _Text(route, wanted.content_type, lambda text: encode_text(CONTENT_TYPE, text))
            )
        if wanted.response_topic:
            encode = lambda text: encode_text(RESPONSE_TOPIC, text)  # noqa: E731
            self._texts.append(_Text(route, wanted.response_topic, encode, is_topic=True))
        if wanted.correlation_data:
            self._texts.append(_Data(route, wanted.correlation_data, _correlation_data))
        for name, text in wanted.user_properties:
            self._texts.append(_Text(route, text, partial(encode_user_property, name.encode())))
        self._constant: Added | None = None
        if not self._expiry_column and not any(text.names for text in self._texts):
            self._constant = Added(self._bytes({}), self._expiry_s)

    def fill(self, columns: Columns) -> Added:
        """What a row's messages get.

        Raises:
            Unfit: a value that no packet can carry.
        """
        if self._constant is not None:
            return self._constant
        expiry_s, moment = self._expiry_s, None
        if self._expiry_column:
            try:
                (value,) = self._get_expiry(columns)
            except KeyError:
                value = None
            if value is not None:
                expiry_s, moment = expiry_of(self._expiry_column, value)
        return Added(self._bytes(columns), expiry_s, moment)

    def _bytes(self, columns: Columns) -> bytes:
        return b"".join([text.bytes(columns) for text in self._texts])


def _correlation_data(text: bytes) -> bytes:
    return encode_text(CORRELATION_DATA, correlation_bytes(text.decode()))


def correlation_bytes(text: str) -> bytes:
    """The bytes that a text stands for: its own, or those that `\\x` and hexadecimal digits name, as of a bytea."""
    return bytes.fromhex(text[2:]) if _HEX.fullmatch(text) else text.encode()


def expiry_of(name: str, value: Any) -> tuple[float | None, float | None]:
    """What a column says of a message's expiry.

    Args:
        name: the column, for the error.
        value: seconds; `30s`; an interval as Postgres writes it; or a moment, as timestamptz is written in JSON
            (one without a zone is UTC).

    Returns:
        (expiry_s, expires_unix_s), one of them None.  What is negative or has passed has expired.

    Raises:
        Unfit: something else.
    """
    if type(value) is str:
        if _SECONDS.fullmatch(value):
            return _limited(float(value)), None
        duration = _DURATION.fullmatch(value)
        if duration:
            return _limited(float(duration[1]) * _UNITS[duration[2]]), None
        interval = _INTERVAL.fullmatch(value)
        if interval and value:
            return _limited(_seconds(interval)), None
        if value in ("infinity", "-infinity"):
            return (None, None) if value == "infinity" else (-1.0, None)
        try:
            if not _MOMENT.fullmatch(value):
                raise ValueError("no moment")
            moment = datetime.fromisoformat(value)
            unix_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
        else:
            return None, unix_s
    raise Unfit("unfit_expiry", name)


def _limited(seconds: float) -> float:
    return min(float(math.ceil(seconds)), float(EXPIRY_S_MAX))


def _seconds(interval: re.Match[str]) -> float:
    """A year has 365.25 days here and a month 30, as Postgres' extract(epoch) has it."""
    years, months, days, sign, hours, minutes, seconds = interval.groups(default="0")
    whole = timedelta(days=int(days) + 30 * int(months)).total_seconds() + int(years) * 365.25 * 86400
    part = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return whole + (-part if sign == "-" else part)
