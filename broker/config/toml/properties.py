"""The properties of MQTT 5.0 that an [[mqtt.route]] names, with every mistake told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from broker.config.properties import NO_PROPERTIES, PropertyTemplates
from broker.config.templates import check_topic, parse_template
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader, whole_duration
from broker.config.toml.tables import MqttRouteTable
from protocol.mqtt.topics import TEXT_BYTES_MAX, is_valid_text
from protocol.mqtt.v5.property_table import EXPIRY_S_MAX

KEYS: Final = ("expiry", "expire", "content_type", "response_topic", "correlation_data", "user_properties")

_EXPIRY_WANTED: Final = 'a duration such as "30s" is wanted, or { column = "NAME" }'


def route_properties(reader: Reader, path: Path, table: MqttRouteTable) -> PropertyTemplates:
    """What the route's keys say; what is mistaken counts as not written."""
    name = "expiry" if table.expire is None else "expire"
    if table.expire is not None and table.expiry is not None:
        reader.wrong((*path, "expire"), "expire: it is another name of expiry, which stands there, too")
    expiry_s, expiry_column = _expiry(reader, (*path, name), getattr(table, name))
    found = PropertyTemplates(
        expiry_s,
        expiry_column,
        _template(reader, (*path, "content_type"), table.content_type),
        _response_topic(reader, (*path, "response_topic"), table.response_topic),
        _template(reader, (*path, "correlation_data"), table.correlation_data, is_text=False),
        tuple(_user_properties(reader, (*path, "user_properties"), table.user_properties)),
    )
    return NO_PROPERTIES if found == NO_PROPERTIES else found


def _expiry(reader: Reader, path: Path, value: Any) -> tuple[int | None, str]:
    if value is None:
        return None, ""
    if isinstance(value, dict):
        column = value.get("column")
        if len(value) == 1 and isinstance(column, str) and column and not column.startswith("$"):
            return None, column
        reader.wrong(path, f"expiry: {_EXPIRY_WANTED}")
        return None, ""
    try:
        seconds = whole_duration(value)
    except ValueError as error:
        reader.wrong(path, f'expiry: {error}, or {{ column = "NAME" }}')
        return None, ""
    if not 1 <= seconds <= EXPIRY_S_MAX:
        reader.wrong(path, f"expiry: 1 second to {EXPIRY_S_MAX} are wanted, not {seconds}")
        return None, ""
    return seconds, ""


def _template(reader: Reader, path: Path, text: str, is_text: bool = True) -> str:
    """A template whose constant parts a packet can carry."""
    try:
        template = parse_template(text, in_property=True)
        _check_constant("".join(template.pieces), is_text)
    except ValueError as error:
        reader.wrong(path, f"{path[-1]}: {error}")
        return ""
    return text


def _check_constant(text: str, is_text: bool) -> None:
    encoded = text.encode()
    if len(encoded) > TEXT_BYTES_MAX:
        raise ValueError(f"{TEXT_BYTES_MAX} bytes are the most, not {len(encoded)}")
    if is_text and not is_valid_text(encoded):
        raise ValueError("MQTT forbids control characters in it")


def _response_topic(reader: Reader, path: Path, text: str) -> str:
    try:
        template = parse_template(text, in_property=True)
        if text:
            check_topic(template)
    except ValueError as error:
        reader.wrong(path, f"response_topic: {error}")
        return ""
    return text


def _user_properties(reader: Reader, path: Path, value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if not isinstance(value, dict):
        what = 'user_properties: names and texts are wanted, such as { op = "{$operation}" }'
        reader.wrong(path, what)
        return
    for name, texts in value.items():
        place = (*path, name)
        several = texts if isinstance(texts, list) else [texts]
        if not name.isprintable() or not all(isinstance(text, str) for text in several):
            reader.wrong(place, f"user_properties: {name}: text in quotes is wanted, or an array of texts")
            continue
        for text in several:
            checked = _template(reader, place, text)
            if checked or not text:
                yield name, checked
