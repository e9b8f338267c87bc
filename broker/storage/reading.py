"""The tables back into a snapshot, believing nothing that the file says before it is checked."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, TypeVar

from broker.core.publication import Publication
from broker.storage.backlog import bodies, opened, place
from broker.storage.records import SessionRecord, Snapshot
from broker.storage.schema import has_types, row_checksum
from broker.storage.unfit import Unfit
from protocol.mqtt.errors import ProtocolError
from protocol.mqtt.outbound import AWAIT_PUBACK, InFlight, Queued
from protocol.mqtt.topics import is_valid_topic_filter, is_valid_topic_name
from protocol.mqtt.v5.properties import publish_properties

Item = TypeVar("Item")

TOPIC_SHOWN = 100
"""Bytes of a topic in a message about it."""


class Damaged(Exception):
    """What the file holds can't have been written by us, in words for its owner."""


def read(connection: sqlite3.Connection, unfit: Unfit) -> Snapshot:
    """Everything that was saved last; empty for a file that nothing was saved to yet.

    Args:
        unfit: is told what is left out.

    Raises:
        Damaged: rows contradict each other, or are not what their checksum says.
        sqlite3.DatabaseError: SQLite itself can't make sense of the file.
    """
    messages = _messages(connection, unfit)
    saved = Snapshot(saved_at=0.0, clock_offset_s=0.0)
    for _, saved_at in _rows(connection, "state"):
        saved.saved_at = saved_at
    sessions: dict[int, SessionRecord] = {}
    for number, *columns, will, will_due in _rows(connection, "session"):
        record = sessions[number] = _session(*columns)
        if will is not None and will not in unfit.messages:
            record.will = _at(messages, will)
            record.will_due = will_due
    _read_subscriptions(connection, sessions, unfit)
    _read_outbound(connection, sessions, messages, unfit)
    for session, packet_id, message in _rows(connection, "inbound"):
        if message not in unfit.messages:
            _at(sessions, session).inbound.append((packet_id, _at(messages, message)))
    saved.sessions = list(sessions.values())
    for position, message in _rows(connection, "retained"):
        if message not in unfit.messages:
            saved.retained.append(_at(messages, message))
            saved.retained_positions.append(position)
    return saved


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """All rows in the order of their key, each without its checksum, after it was found to be right."""
    # A table is stored in the order of its key.
    for row in connection.execute(f"SELECT * FROM {table}"):
        *columns, expected = row
        try:
            found = row_checksum(*columns)
        except (TypeError, struct.error):
            found = -1  # a text
        if found != expected:
            raise Damaged(
                f"a row of the table {table} is not what was saved: its checksum differs{_key(columns)}"
            )
        if not has_types(table, columns):
            raise Damaged(
                f"a row of the table {table} has a number where bytes belong, or bytes for one{_key(columns)}"
            )
        yield tuple(columns)


def _key(columns: list[Any]) -> str:
    return f" (it begins with {columns[0]})" if isinstance(columns[0], int) else ""


def _messages(connection: sqlite3.Connection, unfit: Unfit) -> dict[int, Publication]:
    messages: dict[int, Publication] = {}
    for row in _rows(connection, "message"):
        number, topic, payload, qos, retain, client_id, user_name, listener_port, properties, expires_at = row
        if not is_valid_topic_name(topic):
            unfit.messages[number] = f"message {number} has a topic that is none: {_start(topic)}"
            continue
        message = Publication(topic, payload, qos, bool(retain), client_id, user_name, listener_port)
        message.number = number
        message.properties = _checked(properties)
        message.expires_at = expires_at
        messages[number] = message
    return messages


def _session(
    client_id: Any,
    user_name: bytes | None,
    listener_port: int,
    mount_point: Any,
    bridge: int,
    last_packet_id: int,
    ids_after: int,
    disconnected_at: float,
    expiry_s: float,
) -> SessionRecord:
    return SessionRecord(
        client_id=client_id,
        user_name=user_name,
        listener_port=listener_port,
        mount_point=mount_point,
        bridge=bool(bridge),
        last_packet_id=last_packet_id,
        ids_after=ids_after,
        disconnected_at=disconnected_at,
        subscriptions={},
        inflight=[],
        states=b"",
        queued=[],
        inbound=[],
        expiry_s=expiry_s,
    )


def _start(topic: bytes) -> str:
    """Enough of a topic to know it by."""
    return repr(topic[:TOPIC_SHOWN])[1:] + ("..." if len(topic) > TOPIC_SHOWN else "")


def _read_subscriptions(
    connection: sqlite3.Connection, sessions: dict[int, SessionRecord], unfit: Unfit
) -> None:
    for session, topic_filter, granted, replay in _rows(connection, "subscription"):
        if not is_valid_topic_filter(topic_filter):
            client_id = _at(sessions, session).client_id
            unfit.subscriptions[session, topic_filter] = (
                f"a subscription of {_start(client_id)} has a topic filter that is none: {_start(topic_filter)}"
            )
            continue
        record = _at(sessions, session)
        record.subscriptions[topic_filter] = granted
        if replay:
            record.replays.add(topic_filter)


def _read_outbound(
    connection: sqlite3.Connection,
    sessions: dict[int, SessionRecord],
    messages: dict[int, Publication],
    unfit: Unfit,
) -> None:
    for session, _, packet_id, message, qos, retain, state, ids in _rows(connection, "inflight"):
        if (qos == 1) != (state == AWAIT_PUBACK):
            raise Damaged("a message in flight has a state that its QoS does not know")
        if message in unfit.messages:
            continue
        record = _at(sessions, session)
        record.inflight.append(InFlight(packet_id, _at(messages, message), qos, bool(retain), state, ids))
    for record in sessions.values():
        if len({entry.packet_id for entry in record.inflight}) < len(record.inflight):
            raise Damaged("two messages in flight have the same packet id")
        record.states = bytes(entry.state for entry in record.inflight)
    for session, position, message, qos, retain, ids_before, ids in _rows(connection, "queued"):
        record = _at(sessions, session)
        record.last_position = position
        if message in unfit.messages:
            continue
        record.queued.append(Queued(_at(messages, message), qos, bool(retain), ids_before, ids, position))
    _read_backlog(connection, sessions, unfit)


def _read_backlog(connection: sqlite3.Connection, sessions: dict[int, SessionRecord], unfit: Unfit) -> None:
    for session, last, first, count, messages in _rows(connection, "backlog"):
        record = _at(sessions, session)
        found = bodies(messages)
        places = [place(body) for body in found]
        if not found or len(found) != count or places[0] != (session, first) or places[-1] != (session, last):
            raise Damaged("a row of the table backlog does not hold what it says")
        record.last_position = max(record.last_position, last)
        for body in found:
            waiting = opened(body)
            if waiting is None:
                raise Damaged("a message in the table backlog says what can't be")
            message = waiting.message
            if not is_valid_topic_name(message.topic):
                unfit.waiting.setdefault((session, last), {})[waiting.position] = (
                    f"message {waiting.position} in the queue of {_start(record.client_id)} has a topic that is none:"
                    f" {_start(message.topic)}"
                )
                continue
            message.properties = _checked(message.properties)
            record.queued.append(waiting)
    for record in sessions.values():
        record.queued.sort(key=attrgetter("position"))


def _checked(properties: bytes) -> bytes:
    """Properties that the broker could have handed on."""
    try:
        forwarded, expiry_s, alias = publish_properties(properties, 0, len(properties))
    except ProtocolError as error:
        raise Damaged(f"the properties of a message can't be read: {error}") from None
    if expiry_s >= 0 or alias:
        raise Damaged("a message has properties that are not handed on")
    return forwarded


def _at(items: Mapping[int, Item], number: int) -> Item:
    item = items.get(number)
    if item is None:
        raise Damaged("a row names a session or message that is not there")
    return item
