"""JetStream's requests and answers: JSON over request and reply, and what stands in headers.

Each function that asks gives (subject, body); whoever sends it gets the answer on a reply subject.
Source: docs.nats.io, "JetStream wire API"; ADR-8, 9, 13, 17, 31, 43, 50.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import frozen

from protocol.nats import wire
from protocol.nats.errors import NatsProtocolError

API: Final = b"$JS.API."
NANOSECONDS: Final = 1_000_000_000

MSG_ID: Final = b"Nats-Msg-Id"
EXPECTED_LAST_SUBJECT_SEQUENCE: Final = b"Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_SUBJECT: Final = b"Nats-Expected-Last-Subject-Sequence-Subject"
TTL: Final = b"Nats-TTL"
BATCH_ID: Final = b"Nats-Batch-Id"
BATCH_SEQUENCE: Final = b"Nats-Batch-Sequence"
BATCH_COMMIT: Final = b"Nats-Batch-Commit"
MARKER_REASON: Final = b"Nats-Marker-Reason"
"""Of a message that the server puts where one expired: `MaxAge`, `Remove` or `Purge`."""

STREAM_SOURCE: Final = b"Nats-Stream-Source"

BATCH_MESSAGES_MAX: Final = 1000
"""Of one atomic batch; the server's limit."""

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"

WRONG_LAST_SEQUENCE: Final = 10071
WRONG_LAST_SEQUENCE_OF: Final = 10164
"""Another write of the subject is under way, so there is nothing to compare with yet."""
STREAM_NOT_FOUND: Final = 10059
STREAM_NAME_IN_USE: Final = 10058
CONSUMER_NOT_FOUND: Final = 10014
DUPLICATE_IN_BATCH: Final = 10201
NO_MESSAGE: Final = 10037
BAD_REQUEST: Final = 400
NOT_NOW: Final = frozenset({503, 408})
"""Statuses and codes that pass: no leader, no quorum, too busy."""

_STORED: Final = re.compile(
    rb'\{"stream":"([A-Za-z0-9_-]+)", ?"seq":([0-9]{1,19})(?:,"batch":"[A-Za-z0-9_.-]+","count":([0-9]{1,9}))?\}'
)
"""A message, or a batch, that was taken as usual."""

_FRACTION: Final = re.compile(r"\.([0-9]{1,9})")
"""Of a second; `datetime` has no more than six digits of it."""


class ApiError(Exception):
    """JetStream refuses.

    Attributes:
        code: as of HTTP; 503 passes by itself.
        err_code: what exactly, such as 10071.
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({code}/{err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description

    @property
    def is_conflict(self) -> bool:
        """Somebody else wrote the subject since: compare-and-set failed."""
        return self.err_code in (WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_OF)

    @property
    def is_undecided(self) -> bool:
        """Nothing was compared: another write of the subject is under way, or was acknowledged a moment ago."""
        return self.err_code == WRONG_LAST_SEQUENCE_OF

    @property
    def passes(self) -> bool:
        """Whether asking again later is worth it."""
        return self.code in NOT_NOW

    @property
    def is_final(self) -> bool:
        """Whether the same will never be taken.

        409 is not: an id that is "in process" belongs to a message that may be in the stream, or never get there.
        Nor is a conflict: under another condition it is.
        """
        return self.code == BAD_REQUEST and not self.is_conflict


@frozen
class PubAck:
    """A message is in the stream, on a quorum of its replicas.

    Attributes:
        sequence: where; of a duplicate, where the first is; of a batch, where the last is.
        duplicate: one with this id was there already.
        batch_size: messages of the batch; 0 where it was none.
    """

    stream: str
    sequence: int
    duplicate: bool = False
    batch_size: int = 0


def answer(message: wire.Message) -> dict[str, Any]:
    """The object of an answer.

    Raises:
        ApiError: it is a refusal, or nobody serves the subject (503).
        NatsProtocolError: it is no answer of JetStream.
    """
    if message.status:
        headers = message.headers
        if headers.status == 503:
            raise ApiError(503, 0, "no server answers for JetStream")
        raise ApiError(headers.status, 0, headers.description.decode(errors="replace") or "refused")
    try:
        value = json.loads(message.payload)
    except (ValueError, RecursionError):
        raise NatsProtocolError(f"JetStream answered no JSON: {message.payload[:60]!r}") from None
    if not isinstance(value, dict):
        raise NatsProtocolError("JetStream answered no JSON object")
    error = value.get("error")
    if isinstance(error, dict):
        raise ApiError(
            _whole(error.get("code")), _whole(error.get("err_code")), str(error.get("description", "refused"))
        )
    return value


def pub_ack(message: wire.Message) -> PubAck:
    """Raises: ApiError, NatsProtocolError."""
    usual = _STORED.fullmatch(message.payload)
    if usual is not None and not message.status:  # a tenth of the time of reading JSON
        stream, number, count = usual.groups()
        return PubAck(stream.decode(), int(number), False, int(count or 0))
    value = answer(message)
    sequence = value.get("seq")
    if not isinstance(sequence, int):
        raise NatsProtocolError("an acknowledgement without a sequence")
    return PubAck(
        str(value.get("stream", "")), sequence, value.get("duplicate") is True, _whole(value.get("count"))
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def body(value: Mapping[str, Any]) -> bytes:
    """A request's body: compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


# --- streams ---------------------------------------------------------------------------------------------------


def stream_create(config: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """`config` as of the API; durations in nanoseconds.  Making one again with the same config is fine."""
    return API + b"STREAM.CREATE." + config["name"].encode(), body(config)


def stream_update(config: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Subject and body that change a stream."""
    return API + b"STREAM.UPDATE." + config["name"].encode(), body(config)


def stream_info(name: str) -> tuple[bytes, bytes]:
    """`state.last_seq` is what a reader who wants everything so far has to reach."""
    return API + b"STREAM.INFO." + name.encode(), b""


def stream_subjects(name: str, subject_filter: bytes) -> tuple[bytes, bytes]:
    """As `stream_info`; `state.subjects` of the answer has what there is of the filter, each with its count."""
    return API + b"STREAM.INFO." + name.encode(), body({"subjects_filter": subject_filter.decode()})


# --- single messages -------------------------------------------------------------------------------------------


def last_of(stream: str, subject: bytes) -> tuple[bytes, bytes]:
    """The last message of a subject, with wildcards or without, from the leader: nothing newer is acknowledged."""
    return API + b"STREAM.MSG.GET." + stream.encode(), body({"last_by_subj": subject.decode()})


def message_at(stream: str, sequence: int) -> tuple[bytes, bytes]:
    """The message with this sequence, from the leader."""
    return API + b"STREAM.MSG.GET." + stream.encode(), body({"seq": sequence})


def direct_last_of(stream: str, subject: bytes) -> tuple[bytes, bytes]:
    """The last message of a subject, from any replica: maybe not the newest.  The answer is the message itself."""
    return API + b"DIRECT.GET." + stream.encode() + b"." + subject, b""


def direct_batch(stream: str, start: int, count: int, bytes_max: int) -> tuple[bytes, bytes]:
    """Messages from a sequence on, from any replica: maybe not the newest.

    They come to the reply subject, which has to be a subscription of its own, as `directly_stored` reads them; a
    status of 204 ends them, and 404 says that there are none.  Source: ADR-31.
    """
    return API + b"DIRECT.GET." + stream.encode(), body(
        {"seq": start, "batch": count, "max_bytes": bytes_max}
    )


def next_of(stream: str, subject: bytes, start: int) -> tuple[bytes, bytes]:
    """The first message of a subject, with wildcards or without, from a sequence on; from the leader."""
    return API + b"STREAM.MSG.GET." + stream.encode(), body({"next_by_subj": subject.decode(), "seq": start})


@frozen
class Stored:
    """A message as it is kept in a stream.

    Attributes:
        at_ns: when it was stored, in Unix nanoseconds; 0 where the server does not say.
    """

    subject: bytes
    sequence: int
    block: bytes
    payload: bytes
    at_ns: int = 0

    @property
    def at(self) -> float:
        """The same in seconds."""
        return self.at_ns / NANOSECONDS


def stored(message: wire.Message) -> Stored:
    """The answer to `last_of`.

    Raises:
        ApiError: 404 with err_code 10037, where there is none.
        NatsProtocolError.
    """
    value = answer(message).get("message")
    try:
        if not isinstance(value, dict):
            raise ValueError
        return Stored(
            str(value["subject"]).encode(),
            int(value["seq"]),
            base64.b64decode(value.get("hdrs") or "", validate=True),
            base64.b64decode(value.get("data") or "", validate=True),
            _nanoseconds(value["time"]) if "time" in value else 0,
        )
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise NatsProtocolError("JetStream answered no message") from None


def _nanoseconds(text: str) -> int:
    """Raises: ValueError."""
    seconds = int(datetime.fromisoformat(text).replace(microsecond=0).timestamp())
    fraction = _FRACTION.search(text)
    return seconds * NANOSECONDS + (int(fraction[1].ljust(9, "0")) if fraction is not None else 0)


def directly_stored(message: wire.Message) -> Stored:
    """The answer to `direct_last_of`.  Raises: ApiError, NatsProtocolError."""
    headers = message.headers
    if headers.status:
        raise ApiError(
            headers.status, NO_MESSAGE if headers.status == 404 else 0, headers.description.decode()
        )
    sequence = headers.number(b"Nats-Sequence")
    if sequence is None:
        raise NatsProtocolError("a message without its sequence")
    return Stored(headers.get(b"Nats-Subject") or b"", sequence, message.block, message.payload)


# --- consumers -------------------------------------------------------------------------------------------------


def consumer_create(stream: str, name: str, config: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """`config` as of the API, without the name."""
    subject = API + b"CONSUMER.CREATE." + stream.encode() + b"." + name.encode()
    return subject, body({"stream_name": stream, "config": {**config, "name": name}})


def consumer_delete(stream: str, name: str) -> tuple[bytes, bytes]:
    """Subject and body that remove a consumer."""
    return API + b"CONSUMER.DELETE." + stream.encode() + b"." + name.encode(), b""


def consumer_info(stream: str, name: str) -> tuple[bytes, bytes]:
    """`config` of the answer is what it was made with."""
    return API + b"CONSUMER.INFO." + stream.encode() + b"." + name.encode(), b""


def next_messages(stream: str, consumer: str, count: int, expires_s: float) -> tuple[bytes, bytes]:
    """Ask a pull consumer; messages come to the reply subject, under their own.

    So that has to be a subscription of its own, not `Subscriptions.expect`.  A status of 404 or 408 ends them.
    """
    subject = API + b"CONSUMER.MSG.NEXT." + stream.encode() + b"." + consumer.encode()
    return subject, body({"batch": count, "expires": int(expires_s * NANOSECONDS)})


def ordered_config(
    deliver_subject: bytes, start: int, heartbeat_s: float, filters: tuple[bytes, ...] = ()
) -> dict[str, Any]:
    """An ordered consumer's: in memory, of one replica, without acknowledgements, gone soon after its reader.

    Args:
        start: the first sequence that is wanted; 1 is everything that is kept.
    """
    config: dict[str, Any] = {
        "deliver_subject": deliver_subject.decode(),
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(1, start),
        "ack_policy": "none",
        "max_deliver": 1,
        "flow_control": True,
        "idle_heartbeat": int(heartbeat_s * NANOSECONDS),
        "inactive_threshold": int(max(5.0, 5 * heartbeat_s) * NANOSECONDS),
        "num_replicas": 1,
        "mem_storage": True,
    }
    if filters:
        config["filter_subjects"] = [one.decode() for one in filters]
    return config
