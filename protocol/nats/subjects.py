"""MQTT's topics as NATS' subjects, and back: levels become tokens, what a token can't hold is percent-encoded.

    sensors/7/temp      sensors.7.temp
    v1.0/a b            v1%2E0.a%20b
    /x//                %00.x.%00.%00           an empty level
    (very long)         %long.SHA256            the topic itself travels in a header

Invariant: two topics never have the same subject, and `topic_of(subject_of(topic)) == topic` for all but long ones.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from protocol.nats.errors import NatsProtocolError

EMPTY: Final = b"%00"
"""No topic has U+0000 [MQTT-1.5.4-2], so this stands for nothing at all."""

LONG: Final = b"%long"
_LONG: Final = LONG + b"."
SUBJECT_BYTES_MAX: Final = 2000
"""Of what a topic becomes: a server takes lines of 4096 bytes, with prefix, reply and sizes."""

TOKENS_MAX: Final = 64
"""A server walks subjects token by token; it is made for a few."""

_PERCENT: Final = 0x25
"""A byte is looked for as a number: for bytes in bytes, Python first makes and drops an exception."""

_UNFIT: Final = re.compile(rb"[\x00-\x20\x7f%.*>]")
_ENCODED: Final = re.compile(rb"%([0-9A-F]{2})")
_WELL_ENCODED: Final = re.compile(rb"(?:[^%]|%[0-9A-F]{2})*")


def token_of(level: bytes) -> bytes:
    """One level, or any other bytes without U+0000, as one token."""
    if level.isalnum() or (level and _UNFIT.search(level) is None):
        return level
    if not level:
        return EMPTY
    return _UNFIT.sub(lambda found: b"%%%02X" % found[0][0], level)


def level_of(token: bytes) -> bytes:
    """Raises: NatsProtocolError, if it is nothing that `token_of` makes."""
    if _PERCENT not in token and token:
        return token
    if token == EMPTY:
        return b""
    if not token or not _WELL_ENCODED.fullmatch(token):
        raise NatsProtocolError(f"no level of a topic: {token[:60]!r}")
    return _ENCODED.sub(lambda found: bytes((int(found[1], 16),)), token)


def subject_of(topic: bytes) -> bytes:
    """A topic name as a subject; a long one as its hash, see `is_long`."""
    if len(topic) <= SUBJECT_BYTES_MAX and topic.count(b"/") < TOKENS_MAX:
        if _UNFIT.search(topic) is None and not _has_empty(topic, b"//"):
            return topic.replace(b"/", b".")
        subject = b".".join([token_of(level) for level in topic.split(b"/")])
        if len(subject) <= SUBJECT_BYTES_MAX:
            return subject
    return _LONG + hashlib.sha256(topic).hexdigest().encode()


def _has_empty(text: bytes, two: bytes) -> bool:
    """Whether there is nothing between two separators, given side by side, or beside one."""
    return not text or text[0] == two[0] or text[-1] == two[0] or text.find(two) >= 0


def is_long(subject: bytes) -> bool:
    """Whether the topic has to travel beside it."""
    return subject.startswith(_LONG)


def topic_of(subject: bytes) -> bytes:
    """Raises: NatsProtocolError, if it is nothing that `subject_of` makes, or the topic is not in it."""
    if is_long(subject):
        raise NatsProtocolError("the topic of a long subject is in a header")
    if _PERCENT not in subject and not _has_empty(subject, b".."):
        return subject.replace(b".", b"/")
    return b"/".join([level_of(token) for token in subject.split(b".")])


def subjects_of_filter(topic_filter: bytes) -> tuple[bytes, ...]:
    """Subjects with wildcards that together cover a topic filter; whoever reads them asks again with the filter.

    They take more than the filter: topics that begin with `$` [MQTT-4.7.2-1], and every long topic.  They do not
    overlap, as a consumer's must not.
    """
    levels = topic_filter.split(b"/")
    if len(levels) > TOKENS_MAX:
        return (LONG + b".*",)
    if levels == [b"#"]:
        return (b">",)
    tokens = [{b"+": b"*", b"#": b">"}.get(level) or token_of(level) for level in levels]
    found = [b".".join(tokens)]
    if levels[-1] == b"#":
        found.append(b".".join(tokens[:-1]))  # `a/#` matches `a`, too [MQTT-4.7.1-2]
    takes_long = any(_takes_long(one) for one in found)
    if any(len(one) > SUBJECT_BYTES_MAX for one in found):
        return (LONG + b".*",)
    if not takes_long and (b"+" in levels or b"#" in levels):
        found.append(LONG + b".*")
    elif not takes_long and len(topic_filter) > SUBJECT_BYTES_MAX:
        found.append(subject_of(topic_filter))
    return tuple(found)


def _takes_long(subject: bytes) -> bool:
    """Whether it takes `%long.HASH` already, as `*.>` and `*.*` do."""
    return subject in (b"*.>", b"*.*")
