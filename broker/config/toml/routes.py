"""[[mqtt.route]] and [[websocket.route]] of a TOML configuration to Routes."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from broker.config.conditions import parse_condition
from broker.config.dialects.gateway import DIALECT_KINDS
from broker.config.dialects.kind import DialectKind
from broker.config.feeds import OPERATIONS, Route, Source
from broker.config.templates import check_topic, parse_template
from broker.config.toml.checks import check_choice, check_replacement
from broker.config.toml.lines import Path
from broker.config.toml.properties import KEYS, route_properties
from broker.config.toml.reader import Reader, label
from broker.config.toml.tables import MqttRouteTable, MqttTable, WebsocketRouteTable, WebsocketTable

BODIES = ("row", "raw", "envelope")
QOS_MAX = 2


def check_inherited(reader: Reader, mqtt: MqttTable, websocket: WebsocketTable) -> None:
    """What [mqtt] and [websocket] say for all their routes."""
    _check_qos(reader, ("mqtt", "qos"), mqtt.qos)
    for name, table in (("mqtt", mqtt), ("websocket", websocket)):
        check_choice(reader, (name, "body"), table.body, BODIES)
        check_replacement(reader, (name, "on_null"), table.on_null, ("drop",))
    check_replacement(reader, ("mqtt", "on_unsafe"), mqtt.on_unsafe, ("drop", "percent"))


def mqtt_route(reader: Reader, path: Path, table: MqttRouteTable, inherited: MqttTable) -> Route:
    """A route to MQTT topics; what it doesn't say is inherited."""
    _check_common(reader, path, table)
    _check_qos(reader, (*path, "qos"), table.qos)
    check_replacement(reader, (*path, "on_unsafe"), table.on_unsafe, ("drop", "percent"))
    _check_texts(reader, (*path, "topics"), table.topics, is_mqtt=True)
    written = _written(table)
    for name in KEYS:
        written.pop(name, None)
    properties = route_properties(reader, path, table)
    return Route(**{**asdict(inherited), **written, "properties": properties, "where": reader.where(path)})


def websocket_route(
    reader: Reader, path: Path, table: WebsocketRouteTable, inherited: WebsocketTable, source: Source | None
) -> Route:
    """A route to channels of its dialect.

    The body is by default what the dialect's clients want.
    """
    _check_common(reader, path, table)
    _check_texts(reader, (*path, "channel"), table.channel, is_mqtt=False)
    check_choice(reader, (*path, "dialect"), table.dialect, tuple(DIALECT_KINDS))
    kind = DIALECT_KINDS.get(table.dialect, DialectKind)
    if not kind.has_channels:
        what = f"dialect: {kind.name}'s clients read MQTT topics: make this an [[mqtt.route]] with `topics`"
        reader.wrong((*path, "dialect"), what)
    comes_as_one = kind.relays_envelopes and source is not None and source.row_path
    fallback = "raw" if comes_as_one else kind.default_body
    defaults = {"on_null": inherited.on_null, "retain": inherited.retain, "body": inherited.body or fallback}
    written = _written(table)
    targets = {"topics": written.pop("channel"), "target": written.pop("dialect")}
    return Route(**{**defaults, "qos": 0, **written, **targets, "where": reader.where(path)})


def _written(table: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(table, recurse=False).items() if value is not None}


def _check_common(reader: Reader, path: Path, table: MqttRouteTable | WebsocketRouteTable) -> None:
    check_choice(reader, (*path, "body"), table.body, BODIES)
    check_replacement(reader, (*path, "on_null"), table.on_null, ("drop",))
    if table.once_for_s is not None and not table.once_per:
        reader.wrong((*path, "once_for"), "once_for without once_per: add `once_per = [COLUMNS]`")
    if table.operations is not None:
        for index, operation in enumerate(table.operations):
            check_choice(reader, (*path, "operations", index), operation, OPERATIONS)
        if not table.operations:
            reader.wrong((*path, "operations"), "operations: name at least one, or leave it out")
    for index, name in enumerate(table.columns):
        if not name or name.startswith("$"):
            reader.wrong((*path, "columns", index), f"columns: {name or 'an empty text'} is no column's name")
    if table.condition:
        try:
            parse_condition(table.condition)
        except ValueError as error:
            reader.wrong((*path, "where"), f"where: {error}")


def _check_qos(reader: Reader, path: Path, qos: int | None) -> None:
    if qos is not None and not 0 <= qos <= QOS_MAX:
        reader.wrong(path, f"qos: 0, 1 or 2 is wanted, not {qos}")


def _check_texts(reader: Reader, path: Path, texts: tuple[str, ...], is_mqtt: bool) -> None:
    if not texts:
        reader.wrong(path, f"{label(path)}: at least one is wanted")
    for index, text in enumerate(texts):
        try:
            template = parse_template(text)
            if is_mqtt:
                check_topic(template)
            elif not text:
                raise ValueError("an empty channel: write its name")
        except ValueError as error:
            reader.wrong((*path, index), f"{label(path)}: {error}")
