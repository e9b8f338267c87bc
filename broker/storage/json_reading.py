"""Lines of JSON, as `json_lines` writes them, into a snapshot: whoever edited them is told which line is wrong."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from broker.core.publication import Publication
from broker.storage.json_lines import FORMAT, STATES, VERSION
from broker.storage.records import SessionRecord, Snapshot
from protocol.mqtt.codec import PUBLISH_TYPE
from protocol.mqtt.errors import ProtocolError
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.outbound import AWAIT_PUBACK, InFlight, Queued
from protocol.mqtt.owed import PACKET_ID_MAX
from protocol.mqtt.topics import is_valid_topic_filter, is_valid_topic_name
from protocol.mqtt.v5.properties import NO_PROPERTIES, encode_number, publish_properties, read_properties
from protocol.mqtt.v5.property_table import SUBSCRIPTION_ID
from protocol.mqtt.v5.subscribing import subscription

_AWAITED: Final = {name: state for state, name in STATES.items()}
_FIRST_LINE: Final = (
    f'the first line must begin with {{"format": "{FORMAT}", "version": {VERSION}, "saved_at": '
)
_MESSAGE_NUMBER_MAX: Final = 2**62


class WrongLine(Exception):
    """`line N: what is wrong`."""


def snapshot_of(text: Iterable[str]) -> Snapshot:
    """The snapshot that these lines are.

    Raises:
        WrongLine: the first that is not as `lines` would write it.
    """
    reading = _Reading()
    number = 0
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            reading.take(json.loads(line))
        except json.JSONDecodeError as error:
            raise WrongLine(f"line {number}: it is no JSON: {error.msg} at column {error.colno}") from None
        except RecursionError:
            raise WrongLine(f"line {number}: it is no JSON: it goes too deep") from None
        except KeyError as error:
            raise WrongLine(f"line {number}: there is no {error.args[0]!r}") from None
        except (TypeError, ValueError, OverflowError, AttributeError, binascii.Error, ProtocolError) as error:
            raise WrongLine(f"line {number}: {error}") from None
    if reading.saved is None:
        raise WrongLine(f"line {max(1, number)}: {_FIRST_LINE}")
    return reading.saved


class _Reading:
    def __init__(self) -> None:
        self.saved: Snapshot | None = None
        self._messages: dict[int, Publication] = {}
        self._clients: set[bytes] = set()
        self._positions = count(1)

    def take(self, line: Any) -> None:
        if not isinstance(line, dict):
            raise ValueError("an object is wanted")
        if self.saved is None:
            if line.get("format") != FORMAT or line.get("version") != VERSION:
                raise ValueError(_FIRST_LINE)
            self.saved = Snapshot(_unix(line["saved_at"]), 0.0)
        elif "message" in line:
            self._messages[_integer(line["message"], "message", 1, _MESSAGE_NUMBER_MAX)] = _read_message(line)
        elif "session" in line:
            record = self._record(line)
            if record.client_id in self._clients:
                raise ValueError("this session has a line already")
            self._clients.add(record.client_id)
            self.saved.sessions.append(record)
        elif "retained" in line:
            self.saved.retained.append(self._message(line["retained"]))
        else:
            raise ValueError("it has neither 'message' nor 'session' nor 'retained'")

    def _message(self, number: Any) -> Publication:
        message = self._messages.get(_integer(number, "message", 1, _MESSAGE_NUMBER_MAX))
        if message is None:
            raise ValueError(f"no line before has the message {number}")
        return message

    def _record(self, line: dict[str, Any]) -> SessionRecord:
        in_flight = line.get("in_flight", [])
        record = SessionRecord(
            client_id=_bytes(line["session"]),
            user_name=_bytes(line["user_name"]) if "user_name" in line else None,
            listener_port=_integer(line.get("listener_port", 0), "listener_port", 0, 65_535),
            mount_point=_bytes(line.get("mount_point", "")),
            bridge=bool(line.get("bridge", False)),
            last_packet_id=_integer(line.get("last_packet_id", 0), "last_packet_id", 0, PACKET_ID_MAX),
            ids_after=_integer(line.get("ids_after", 0), "ids_after", 0, PACKET_ID_MAX),
            disconnected_at=_unix(line["disconnected_at"]) if "disconnected_at" in line else math.inf,
            subscriptions={},
            inflight=[self._in_flight(one) for one in in_flight],
            states=b"",
            queued=[self._queued(one) for one in line.get("queued", [])],
            inbound=[(_packet_id(one), self._message(one["message"])) for one in line.get("inbound", [])],
            expiry_s=_seconds(line["expiry_s"], "expiry_s") if "expiry_s" in line else math.inf,
        )
        record.states = bytes(entry.state for entry in record.inflight)
        for one in line.get("subscriptions", []):
            topic_filter = _bytes(one["filter"])
            if not is_valid_topic_filter(topic_filter):
                raise ValueError(f"{one['filter']!r} is no topic filter")
            options = _integer(one.get("options", 0), "options", 0, 15) & ~3 | _qos(one)
            identifier = _integer(one.get("subscription_id", 0), "subscription_id", 0, 0xFFF_FFFF)
            record.subscriptions[topic_filter] = subscription(options, identifier)
            if one.get("awaits_retained"):
                record.replays.add(topic_filter)
        for ids in (
            [one.packet_id for one in record.inflight],
            [packet_id for packet_id, _ in record.inbound],
        ):
            if len(set(ids)) < len(ids):
                raise ValueError("a packet id stands twice")
        if "will" in line:
            record.will = self._message(line["will"]["message"])
            record.will_due = _unix(line["will"]["due"])
        return record

    def _in_flight(self, one: dict[str, Any]) -> InFlight:
        state = _AWAITED.get(one["awaits"])
        qos = _qos(one)
        if state is None or (qos == 1) != (state == AWAIT_PUBACK) or qos == 0:
            raise ValueError("'awaits' is PUBACK at QoS 1, PUBREC or PUBCOMP at QoS 2")
        retain = bool(one.get("retain", False))
        return InFlight(_packet_id(one), self._message(one["message"]), qos, retain, state, _ids(one))

    def _queued(self, one: dict[str, Any]) -> Queued:
        ids_before = _integer(one.get("ids_before", 0), "ids_before", 0, PACKET_ID_MAX)
        retain = bool(one.get("retain", False))
        return Queued(
            self._message(one["message"]), _qos(one), retain, ids_before, _ids(one), next(self._positions)
        )


def _read_message(line: dict[str, Any]) -> Publication:
    topic = _bytes(line["topic"])
    if not is_valid_topic_name(topic):
        raise ValueError(f"{line['topic']!r} is no topic name")
    message = Publication(
        topic,
        _bytes(line["payload"]),
        _qos(line),
        bool(line.get("retain", False)),
        _bytes(line.get("client_id", "")),
        _bytes(line["user_name"]) if "user_name" in line else None,
        _integer(line.get("listener_port", 0), "listener_port", 0, 65_535),
    )
    properties = _bytes(line.get("properties", ""))
    message.properties, expiry_s, alias = publish_properties(properties, 0, len(properties))
    if expiry_s >= 0 or alias:
        raise ValueError("it has properties that are not kept; an expiry is 'expires_at'")
    message.expires_at = _unix(line["expires_at"]) if "expires_at" in line else 0.0
    return message


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and isinstance(value.get("base64"), str):
        return base64.b64decode(value["base64"], validate=True)
    raise ValueError(f'a string or {{"base64": "..."}} is wanted, not {value!r}')


def _unix(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError(f"a time is wanted, not {value!r}")
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _integer(value: Any, name: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name!r} is a whole number from {least} to {most}, not {value!r}")
    return value


def _seconds(value: Any, name: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ValueError(f"{name!r} is a number of seconds, not {value!r}")
    return float(value)


def _qos(line: dict[str, Any]) -> int:
    return _integer(line["qos"], "qos", 0, 2)


def _packet_id(line: dict[str, Any]) -> int:
    return _integer(line["packet_id"], "packet_id", 1, PACKET_ID_MAX)


def _ids(one: dict[str, Any]) -> bytes:
    """The subscription identifiers that a message came by, as properties of its PUBLISH."""
    ids = _bytes(one.get("properties", ""))
    whole = encode_variable(len(ids)) + ids
    try:
        found, _ = read_properties(whole, 0, len(whole), PUBLISH_TYPE)
    except ProtocolError:
        found = NO_PROPERTIES
    if b"".join(encode_number(SUBSCRIPTION_ID, number) for number in found.subscription_ids) != ids:
        raise ValueError("'properties' of a session's message are subscription identifiers, and nothing else")
    return ids
