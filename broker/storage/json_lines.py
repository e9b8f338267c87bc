"""A snapshot as lines of JSON and back: to look at, to edit, to move.

The first line says what it is.  Then come messages, each with a number by which the later lines name it, then sessions
and retained messages.  Texts are strings; bytes that are no UTF-8 are `{"base64": "..."}`.  Times are in ISO 8601.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from broker.core.publication import Publication
from broker.storage.records import SessionRecord, Snapshot
from protocol.mqtt.message import Message
from protocol.mqtt.outbound import AWAIT_PUBACK, AWAIT_PUBCOMP, AWAIT_PUBREC, InFlight, Queued
from protocol.mqtt.v5.subscribing import options_of

FORMAT: Final = "rowcast persistence"
VERSION: Final = 1
STATES: Final = {AWAIT_PUBACK: "PUBACK", AWAIT_PUBREC: "PUBREC", AWAIT_PUBCOMP: "PUBCOMP"}


def lines(saved: Snapshot) -> Iterator[str]:
    """Every line, without its end.

    Args:
        saved: as `read` returns it, its times in Unix time.
    """
    yield _dump({"format": FORMAT, "version": VERSION, "saved_at": _time(saved.saved_at)})
    numbers: dict[int, int] = {}
    for message in _messages(saved):
        if id(message) not in numbers:
            numbers[id(message)] = len(numbers) + 1
            yield _dump({"message": numbers[id(message)], **_message(message)})
    for record in saved.sessions:
        yield _dump({"session": _text(record.client_id), **_session(record, numbers)})
    for publication in saved.retained:
        yield _dump({"retained": numbers[id(publication)]})


def _dump(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, separators=(", ", ": "))


def _messages(saved: Snapshot) -> Iterator[Message]:
    for record in saved.sessions:
        yield from (entry.message for entry in record.inflight)
        yield from (waiting.message for waiting in record.queued)
        yield from (message for _, message in record.inbound)
        if record.will is not None:
            yield record.will
    yield from saved.retained


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat()


def _message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "topic": _text(message.topic),
        "payload": _text(message.payload),
        "qos": message.qos,
        "retain": message.retain,
    }
    if isinstance(message, Publication):
        shown["client_id"] = _text(message.client_id)
        if message.user_name is not None:
            shown["user_name"] = _text(message.user_name)
        shown["listener_port"] = message.listener_port
    if message.properties:
        shown["properties"] = {"base64": base64.b64encode(message.properties).decode()}
    if message.expires_at:
        shown["expires_at"] = _time(message.expires_at)
    return shown


def _session(record: SessionRecord, numbers: dict[int, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {"listener_port": record.listener_port, "last_packet_id": record.last_packet_id}
    if record.user_name is not None:
        shown["user_name"] = _text(record.user_name)
    if record.mount_point:
        shown["mount_point"] = _text(record.mount_point)
    if record.bridge:
        shown["bridge"] = True
    if record.ids_after:
        shown["ids_after"] = record.ids_after
    # Without them: the client was here, and the session never expires by itself.
    if not math.isinf(record.disconnected_at):
        shown["disconnected_at"] = _time(record.disconnected_at)
    if not math.isinf(record.expiry_s):
        shown["expiry_s"] = record.expiry_s
    if record.will is not None:
        shown["will"] = {"message": numbers[id(record.will)], "due": _time(record.will_due)}
    shown["subscriptions"] = [
        _subscription(topic_filter, granted, topic_filter in record.replays)
        for topic_filter, granted in record.subscriptions.items()
    ]
    shown["in_flight"] = [
        {"packet_id": entry.packet_id, "awaits": STATES[state], **_owed(entry, numbers)}
        for entry, state in zip(record.inflight, record.states, strict=True)
    ]
    shown["queued"] = [
        ({"ids_before": one.ids_before} if one.ids_before else {}) | _owed(one, numbers)
        for one in record.queued
    ]
    shown["inbound"] = [
        {"packet_id": packet_id, "message": numbers[id(message)]} for packet_id, message in record.inbound
    ]
    return shown


def _subscription(topic_filter: bytes, granted: int, replays: bool) -> dict[str, Any]:
    options, subscription_id = options_of(granted)
    shown: dict[str, Any] = {"filter": _text(topic_filter), "qos": options & 3}
    if granted > 2:
        shown |= {"options": options, "subscription_id": subscription_id}
    if replays:
        shown["awaits_retained"] = True
    return shown


def _owed(one: InFlight | Queued, numbers: dict[int, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {"message": numbers[id(one.message)], "qos": one.qos, "retain": one.retain}
    if one.ids:
        shown["properties"] = {"base64": base64.b64encode(one.ids).decode()}
    return shown
