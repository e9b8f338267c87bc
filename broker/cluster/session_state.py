"""What the nodes know of one client id: who has it, and a persistent session as a cursor in the log.  Pure.

One JSON object a record.  A node ignores keys that it does not know, and refuses none that is missing, so that nodes of
two versions can share records.

    o  node that has the client ("": none)     c  the state ends with the connection
    g  which log it is, should it be made anew
    p  cursor: what the log has behind it is still to come; the rest is in f
    d  place up to which the node had read the log, and when what stands there was stored, in nanoseconds
    s  filters and what was granted            f  sent and not acknowledged, or queued apart from the log
    i  QoS 2 that waits for its PUBREL         l  the last packet id used
    w  ids of QoS 2 that the log may not have yet, so that it knows them when they come again
    n  place in the log that nothing of QoS 2 stands before that may come again; while a node has the client
    e  seconds that it outlives its connection m, u, t, b  mount point, user, port, bridge
    r  filters with retained messages to come
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Set
from typing import Any, Final

from broker.cluster.said import UNREADABLE
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.session import Session
from protocol.mqtt.message import Message
from protocol.mqtt.outbound import InFlight, Queued
from protocol.nats.errors import NatsProtocolError

OWED_BYTES_MAX: Final = 256 * 1024
"""Of messages that stand in a record; the others are read from the log again."""

QUEUED: Final = 0
"""In place of a packet id: not sent yet."""


class SessionState:
    """One record.

    Attributes:
        owner: the mark of the node that has it; b"" where the client is away.
        clean: nothing is kept when the connection ends.
        cursor: everything of the log behind it is still to come; `epoch` tells which log.
        read: the place in the log up to which its node had read, and when the message there was stored, in Unix
            nanoseconds, 0 if that is unknown; (0, 0) of an older version of Rowcast.
        lost_from: up to there the session, or its node, had of the log what it has lost since; 0 if nothing.
        owed: (packet id, QoS, retain, state, subscription ids, publication), in the order of sending.
        inbound: messages of QoS 2 that have been acknowledged by PUBREC.
        under_way: (packet id, id in the log) of those that have not.
        unsettled_from: behind this place in the log is everything of QoS 2 that the client may send again, if the
            owner crashes; None of a record that is exact, or of an older version of Rowcast.
    """

    def __init__(self, owner: bytes, clean: bool = True) -> None:
        self.owner = owner
        self.clean = clean
        self.cursor = 0
        self.epoch = ""
        self.read = (0, 0)
        self.lost_from = 0
        self.subscriptions: dict[bytes, int] = {}
        self.owed: list[tuple[int, int, bool, int, bytes, Publication]] = []
        self.inbound: list[tuple[int, Publication]] = []
        self.under_way: list[tuple[int, bytes]] = []
        self.unsettled_from: int | None = None
        self.last_packet_id = 0
        self.expiry_s = math.inf
        self.mount_point = b""
        self.user_name: bytes | None = None
        self.listener_port = 0
        self.bridge = False
        self.replays: list[bytes] = []


def state_of(
    session: Session, owner: bytes, read_up_to: int, without: Set[int] = frozenset()
) -> SessionState:
    """A session as it is now.

    Args:
        read_up_to: the place in the log up to which it was handed everything.
        without: places in the log of what others of a group get instead.
    """
    state = SessionState(owner, session.clean)
    if session.clean:
        return state
    outbound = session.outbound
    state.cursor = read_up_to
    state.subscriptions = dict(session.subscriptions)
    size = 0
    for entry in outbound.inflight():
        message = _publication(entry.message)
        if message.sequence in without:
            continue
        size += _size(message)
        if size > OWED_BYTES_MAX and message.sequence > 0 and not entry.retain:
            state.cursor = min(state.cursor, message.sequence - 1)
            break
        state.owed.append((entry.packet_id, entry.qos, entry.retain, entry.state, entry.ids, message))
    for waiting in outbound.queued():
        message = _publication(waiting.message)
        if message.sequence in without:
            continue
        if message.sequence > 0 and not waiting.retain:
            state.cursor = min(state.cursor, message.sequence - 1)
        elif size < OWED_BYTES_MAX:
            size += _size(message)
            state.owed.append((QUEUED, waiting.qos, waiting.retain, 0, waiting.ids, message))
    if session.inbound is not None:
        pending = [(packet_id, _publication(one)) for packet_id, one in session.inbound.pending()]
        state.inbound = [one for one in pending if is_promised(one[1])]
        state.under_way = [
            (packet_id, message.message_id)
            for packet_id, message in pending
            if message.message_id and not is_promised(message)
        ]
    state.last_packet_id = outbound.last_packet_id
    state.expiry_s = session.expiry_s
    state.mount_point = session.mount_point
    state.user_name = session.user_name
    state.listener_port = session.listener_port
    state.bridge = session.bridge
    state.replays = [] if session.replays is None else list(session.replays)
    return state


def is_promised(publication: Publication) -> bool:
    """Whether a message of QoS 2 may have had its PUBREC: the log has it, or it need not be there."""
    return publication.promise is None or publication.promise.is_kept


def unsettled_from(session: Session, read_up_to: int) -> int:
    """The place in the log behind which is everything of QoS 2 that waits, or will, for PUBREC or PUBREL.

    Args:
        read_up_to: where the node is now.
    """
    inbound = session.inbound
    place = read_up_to
    for _, message in () if inbound is None else inbound.pending():
        sequence = _publication(message).sequence
        if sequence:
            place = min(place, sequence - 1 if sequence > 0 else -1 - sequence)
    return place


def are_promised(session: Session) -> bool:
    """The same of all that wait for their PUBREL."""
    inbound = session.inbound
    return inbound is None or all(is_promised(_publication(one)) for _, one in inbound.pending())


def restore(engine: Engine, client_id: bytes, state: SessionState) -> Session:
    """The session in an engine that has none of this client id; its client is away, and it is behind the log."""
    session, _ = engine.open_session(client_id, False, state.mount_point)
    session.disconnected_at = engine.now
    engine.identify(session, state.user_name, None, state.mount_point, state.bridge, 2, state.listener_port)
    session.behind = True
    engine.settle_plain(session)
    inflight = [
        InFlight(packet_id, message, qos, retain, stage, ids)
        for packet_id, qos, retain, stage, ids, message in state.owed
        if packet_id != QUEUED
    ]
    queued = [
        Queued(message, qos, retain, 0, ids)
        for packet_id, qos, retain, _, ids, message in state.owed
        if packet_id == QUEUED
    ]
    session.outbound.restore(inflight, queued, state.last_packet_id, 0)
    if state.inbound:
        inbound = session.expect()
        for packet_id, message in state.inbound:
            inbound.accept(packet_id, message, False)
    for topic_filter, granted in state.subscriptions.items():
        session.keep(topic_filter, granted)
        engine.subscribe(session, topic_filter, granted)
    for topic_filter in state.replays:
        if topic_filter in session.subscriptions:
            engine.replaying.restore(session, topic_filter)
    engine.endings.keep_for(session, state.expiry_s)
    engine.endings.left(session)
    return session


def encode(state: SessionState, now: float, unix_now: float) -> bytes:
    """The record.

    Args:
        now, unix_now: the engine's clock and Unix time, for messages that expire.
    """
    value: dict[str, Any] = {"o": _text(state.owner), "c": state.clean}
    if not state.clean:
        shift = unix_now - now
        value |= {
            "p": state.cursor,
            "g": state.epoch,
            "s": {_text(topic_filter): granted for topic_filter, granted in state.subscriptions.items()},
            "l": state.last_packet_id,
            "t": state.listener_port,
            "f": [
                [packet_id, qos, retain, stage, _base64(ids), _written(message, shift)]
                for packet_id, qos, retain, stage, ids, message in state.owed
            ],
            "i": [[packet_id, _written(message, shift)] for packet_id, message in state.inbound],
        }
        if state.read[1]:
            value["d"] = state.read
        if state.expiry_s != math.inf:
            value["e"] = state.expiry_s
        if state.mount_point:
            value["m"] = _text(state.mount_point)
        if state.user_name is not None:
            value["u"] = _text(state.user_name)
        if state.bridge:
            value["b"] = True
        if state.unsettled_from is not None:
            value["n"] = state.unsettled_from
        if state.under_way:
            value["w"] = [[packet_id, _text(message_id)] for packet_id, message_id in state.under_way]
        if state.replays:
            value["r"] = [_text(one) for one in state.replays]
    return json.dumps(value, separators=(",", ":")).encode()


def decode(data: bytes, now: float, unix_now: float) -> SessionState:
    """Raises: NatsProtocolError, if no node writes such a thing."""
    try:
        value = json.loads(data)
        state = SessionState(_bytes(value["o"]), bool(value["c"]))
        shift = unix_now - now
        state.cursor = int(value.get("p", 0))
        state.epoch = str(value.get("g", ""))
        place, stored_ns = value.get("d", (0, 0))
        state.read = (int(place), int(stored_ns))
        state.subscriptions = {_bytes(one): int(granted) for one, granted in value.get("s", {}).items()}
        state.last_packet_id = int(value.get("l", 0))
        state.owed = [
            (int(packet_id), int(qos), bool(retain), int(stage), _unbase64(ids), _read(message, shift))
            for packet_id, qos, retain, stage, ids, message in value.get("f", [])
        ]
        state.inbound = [(int(packet_id), _read(message, shift)) for packet_id, message in value.get("i", [])]
        state.under_way = [
            (int(packet_id), _bytes(message_id)) for packet_id, message_id in value.get("w", [])
        ]
        unsettled = value.get("n")
        state.unsettled_from = None if unsettled is None else int(unsettled)
        state.expiry_s = float(value.get("e", math.inf))
        state.mount_point = _bytes(value.get("m", ""))
        user = value.get("u")
        state.user_name = None if user is None else _bytes(user)
        state.listener_port = int(value.get("t", 0))
        state.bridge = bool(value.get("b", False))
        state.replays = [_bytes(one) for one in value.get("r", [])]
    except UNREADABLE as error:
        raise NatsProtocolError(f"no record of a session: {type(error).__name__}: {error}") from None
    return state


def written(message: Publication, now: float, unix_now: float) -> list[Any]:
    """A message as it stands in a record."""
    return _written(message, unix_now - now)


def read_message(value: object, now: float, unix_now: float) -> Publication:
    """Raises: NatsProtocolError, if no node writes such a thing."""
    try:
        return _read(value, unix_now - now)
    except UNREADABLE as error:
        raise NatsProtocolError(f"no message of a record: {error}") from None


def _written(message: Publication, shift: float) -> list[Any]:
    return [
        _text(message.topic),
        _base64(message.payload),
        message.qos,
        message.retain,
        _text(message.client_id),
        None if message.user_name is None else _text(message.user_name),
        message.listener_port,
        message.expires_at and message.expires_at + shift,
        _base64(message.properties),
        message.sequence,
    ]


def _read(value: Any, shift: float) -> Publication:
    topic, payload, qos, retain, client, user, port, expires, properties, sequence = value
    message = Publication(
        _bytes(topic),
        _unbase64(payload),
        int(qos),
        bool(retain),
        _bytes(client),
        None if user is None else _bytes(user),
        int(port),
    )
    if expires:
        message.expires_at = float(expires) - shift or 1e-9
    message.properties = _unbase64(properties)
    message.sequence = int(sequence)
    message.is_requested = False
    return message


def _publication(message: Message) -> Publication:
    assert isinstance(message, Publication)
    return message


def _size(message: Publication) -> int:
    return 100 + len(message.topic) + len(message.payload) + len(message.properties)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _unbase64(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
