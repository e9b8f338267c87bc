"""What a `mosquitto.db` holds, as a snapshot of ours: for clients that move with all that waits for them.

Mosquitto numbers messages when it queues them, we when we send them: the last packet id is set so that the queue
gets the numbers that it has there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count
from typing import Any, Final

from broker.core.publication import Publication
from broker.storage.records import SessionRecord, Snapshot
from protocol.mosquitto_db import (
    CLIENT,
    CLIENT_MESSAGE,
    INBOUND,
    MESSAGE,
    QUEUED,
    RETAINED,
    SUBSCRIPTION,
    chunks,
)
from protocol.mqtt.errors import ProtocolError
from protocol.mqtt.outbound import AWAIT_PUBACK, AWAIT_PUBCOMP, AWAIT_PUBREC, InFlight, Queued
from protocol.mqtt.reserved import SYS_PREFIX
from protocol.mqtt.topics import is_valid_topic_filter, is_valid_topic_name
from protocol.mqtt.v5.properties import publish_properties
from protocol.mqtt.v5.property_table import NEVER
from protocol.mqtt.v5.subscribing import NO_LOCAL, RETAIN_AS_PUBLISHED, subscription

_QOS_MAX: Final = 2

_AWAITS_PUBCOMP: Final = (6, 9)
"""States of a message at QoS 2 whose PUBREC has come."""


def read_mosquitto(
    data: bytes, saved_at: float, mount_points: Mapping[int, bytes]
) -> tuple[Snapshot, list[str]]:
    """Sessions, subscriptions, retained messages, and what is queued and in flight.

    Args:
        data: the whole file.
        saved_at: Unix time of its last change.
        mount_points: of listeners that have one, by port; sessions of the others have none.

    Returns:
        The snapshot, whose times are Unix times, and a sentence for each thing that is left out.

    Raises:
        NotReadable: see `protocol.mosquitto_db`.
    """
    reading = _Reading(saved_at, mount_points)
    waiting: list[Any] = []
    for kind, chunk in chunks(data):
        if kind == MESSAGE:
            reading.take_message(chunk)
        elif kind == CLIENT:
            reading.take_client(chunk)
        else:
            waiting.append((kind, chunk))
    for kind, chunk in waiting:
        if kind == CLIENT_MESSAGE:
            reading.take_client_message(chunk)
        elif kind == SUBSCRIPTION:
            reading.take_subscription(chunk)
        elif kind == RETAINED:
            reading.take_retained(chunk)
    return reading.finish(), reading.left_out


class _Reading:
    def __init__(self, saved_at: float, mount_points: Mapping[int, bytes]) -> None:
        self.left_out: list[str] = []
        self._snapshot = Snapshot(saved_at, 0.0)
        self._mount_points = mount_points
        self._messages: dict[int, Publication] = {}
        self._sessions: dict[bytes, SessionRecord] = {}
        self._first_queued: dict[bytes, int] = {}
        self._positions = count(1)
        self._ended: set[bytes] = set()

    def take_message(self, chunk: Any) -> None:
        if not is_valid_topic_name(chunk.topic):
            self.left_out.append(f"a message with a topic that is none: {chunk.topic!r}")
            return
        if chunk.qos > _QOS_MAX:
            self.left_out.append(f"a message to {chunk.topic!r} with a QoS that is none: {chunk.qos}")
            return
        message = Publication(
            chunk.topic,
            chunk.payload,
            chunk.qos,
            bool(chunk.retain),
            chunk.client_id,
            chunk.user_name or None,
            chunk.listener_port,
        )
        try:
            message.properties, _, _ = publish_properties(chunk.properties, 0, len(chunk.properties))
        except ProtocolError as error:
            self.left_out.append(f"the properties of a message to {chunk.topic!r}: {error}")
        message.expires_at = float(chunk.expires_at)
        self._messages[chunk.number] = message

    def take_client(self, chunk: Any) -> None:
        if chunk.session_expiry_s == 0:
            self._ended.add(chunk.client_id)
            return
        never = chunk.session_expiry_s == NEVER
        since = math.inf
        if chunk.session_expires_at > 0 and not never:
            since = float(chunk.session_expires_at - chunk.session_expiry_s)
        port = chunk.listener_port or 0
        self._sessions[chunk.client_id] = SessionRecord(
            client_id=chunk.client_id,
            user_name=chunk.user_name or None,
            listener_port=port,
            mount_point=self._mount_points.get(port, b""),
            bridge=False,
            last_packet_id=chunk.last_packet_id,
            ids_after=0,
            disconnected_at=since,
            subscriptions={},
            inflight=[],
            states=b"",
            queued=[],
            inbound=[],
            expiry_s=math.inf if never else float(chunk.session_expiry_s),
        )

    def take_client_message(self, chunk: Any) -> None:
        record = self._session(chunk.client_id, "a message")
        message = self._messages.get(chunk.message)
        if record is None:
            return
        if message is None:
            self.left_out.append(f"a message of {_name(chunk.client_id)} that is not in the file")
            return
        if chunk.qos > _QOS_MAX:
            self.left_out.append(
                f"a message of {_name(chunk.client_id)} with a QoS that is none: {chunk.qos}"
            )
            return
        is_queued = chunk.direction != INBOUND and chunk.state == QUEUED
        if chunk.qos > 0 and chunk.packet_id == 0 and not is_queued:
            self.left_out.append(f"a message of {_name(chunk.client_id)} without a packet id")
            return
        retain = chunk.flags >> 4 != 0
        if chunk.direction == INBOUND:
            if chunk.qos == 2:
                record.inbound.append((chunk.packet_id, message))
        elif is_queued or chunk.qos == 0:
            if chunk.qos > 0:
                self._first_queued.setdefault(chunk.client_id, chunk.packet_id)
            position = next(self._positions)
            record.queued.append(Queued(message, chunk.qos, retain, position=position))
        elif all(entry.packet_id != chunk.packet_id for entry in record.inflight):
            state = AWAIT_PUBACK
            if chunk.qos == 2:
                state = AWAIT_PUBCOMP if chunk.state in _AWAITS_PUBCOMP else AWAIT_PUBREC
            record.inflight.append(InFlight(chunk.packet_id, message, chunk.qos, retain, state))

    def take_subscription(self, chunk: Any) -> None:
        record = self._session(chunk.client_id, f"a subscription to {chunk.topic_filter!r}")
        if record is None:
            return
        if not is_valid_topic_filter(chunk.topic_filter):
            self.left_out.append(
                f"a subscription of {_name(chunk.client_id)} with a filter that is none: {chunk.topic_filter!r}"
            )
            return
        if chunk.qos > _QOS_MAX:
            self.left_out.append(
                f"a subscription of {_name(chunk.client_id)} to {chunk.topic_filter!r} with a QoS that is none:"
                f" {chunk.qos}"
            )
            return
        options = chunk.qos | chunk.options & (NO_LOCAL | RETAIN_AS_PUBLISHED)
        record.subscriptions[chunk.topic_filter] = subscription(options, chunk.subscription_id)

    def take_retained(self, chunk: Any) -> None:
        message = self._messages.get(chunk.message)
        if message is None:
            self.left_out.append("a retained message that is not in the file")
        elif not message.topic.startswith(SYS_PREFIX):
            self._snapshot.retained.append(message)

    def finish(self) -> Snapshot:
        for client_id, packet_id in self._first_queued.items():
            self._sessions[client_id].last_packet_id = max(0, packet_id - 1)
        for record in self._sessions.values():
            record.states = bytes(entry.state for entry in record.inflight)
        self._snapshot.sessions = list(self._sessions.values())
        return self._snapshot

    def _session(self, client_id: bytes, what: str) -> SessionRecord | None:
        record = self._sessions.get(client_id)
        if record is None and client_id not in self._ended:
            self.left_out.append(f"{what} of {_name(client_id)}, who has no session")
        return record


def _name(client_id: bytes) -> str:
    return client_id.decode(errors="replace")
