"""What may be in a topic name, a topic filter and any other text, and which filter matches which name.

Hot: a name that the match cache does not hold is checked here, so names that never repeat are checked
one by one.  ASCII goes through one `translate`, the rest through the decoder and one pattern.

`is_valid_...` answers; `check_...` raises the reason and the normative statement.  MQTT 3.1.1 §1.5.3, §4.7.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.mqtt.errors import MalformedPacket, ProtocolError

SEPARATOR: Final = b"/"
SINGLE_LEVEL: Final = b"+"
MULTI_LEVEL: Final = b"#"
DOLLAR: Final = 0x24
"""The first byte of topics that filters with a wildcard in front do not match [MQTT-4.7.2-1]."""

TEXT_BYTES_MAX: Final = 65_535
"""What the two length bytes of a string can say, §1.5.3 [MQTT-4.7.3-3]."""

SEPARATORS_MAX: Final = 200
"""As mosquitto (TOPIC_HIERARCHY_LIMIT): 200 slashes are taken, 201 are not."""

_TOO_MANY: Final = f"more than {SEPARATORS_MAX} separators"
_CONTROLS: Final = bytes([*range(0x20), 0x7F])
_UNFIT_FOR_NAMES: Final = _CONTROLS + b"+#"
# Controls, U+FDD0..FDEF, the last two of each plane: §1.5.3 says SHOULD NOT, mosquitto closes.
_UNFIT: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
_WILDCARDS_IN_PLACE: Final = re.compile(rb"(?:(?:\+|[^+#/]*)/)*(?:\+|#|[^+#/]*)")


def is_valid_text(text: bytes) -> bool:
    """Whether a client id, user name or the like is UTF-8 without surrogates, controls and non-characters."""
    if text.isascii():
        return len(text.translate(None, _CONTROLS)) == len(text)
    return _is_valid_beyond_ascii(text)


def is_valid_topic_name(topic: bytes) -> bool:
    """Whether a message may be published to it: 1 to 65 535 bytes, no wildcard, at most 200 separators."""
    length = len(topic)
    if length == 0 or length > TEXT_BYTES_MAX:
        return False
    if len(topic.translate(None, _UNFIT_FOR_NAMES)) != length:
        return False
    if not topic.isascii() and not _is_valid_beyond_ascii(topic):
        return False
    return length <= SEPARATORS_MAX or topic.count(b"/") <= SEPARATORS_MAX


def is_valid_topic_filter(topic_filter: bytes) -> bool:
    """Whether it may be subscribed to: as a name, but with `+` as a whole level and `#` as the last one."""
    length = len(topic_filter)
    if length == 0 or length > TEXT_BYTES_MAX or topic_filter.count(b"/") > SEPARATORS_MAX:
        return False
    if has_wildcard(topic_filter) and _WILDCARDS_IN_PLACE.fullmatch(topic_filter) is None:
        return False
    return is_valid_text(topic_filter)


def has_wildcard(topic_filter: bytes) -> bool:
    """Whether a topic filter matches more than one topic."""
    # A byte is looked for as a number: for bytes in bytes, Python first makes and drops an exception.
    return 0x2B in topic_filter or 0x23 in topic_filter


def matches(topic_filter: bytes, topic_name: bytes) -> bool:
    """The slow obvious reference for what the subscription trie does.  Both must be valid.

    Source: MQTT 3.1.1 §4.7.1, §4.7.2.
    """
    if topic_name.startswith(b"$") and topic_filter.startswith((b"+", b"#")):
        return False  # [MQTT-4.7.2-1]
    wanted = topic_filter.split(b"/")
    levels = topic_name.split(b"/")
    for index, level in enumerate(wanted):
        if level == b"#":
            return True  # the parent level included: `sport/#` matches `sport`
        if index == len(levels) or level not in (b"+", levels[index]):
            return False
    return len(wanted) == len(levels)


def covers(wider: bytes, narrower: bytes) -> bool:
    """Whether every topic name that `narrower` matches is matched by `wider`, too.

    Args:
        wider, narrower: valid topic filters; a wildcard at the beginning never covers what starts with `$`.
    """
    wide = wider.split(b"/")
    narrow = narrower.split(b"/")
    if narrow[0][:1] == b"$" and wide[0][:1] != b"$":
        return False
    for index, level in enumerate(wide):
        if level == b"#":
            return True
        if index >= len(narrow) or narrow[index] == b"#":
            return False
        if level != b"+" and level != narrow[index]:
            return False
    # `a/+` does not cover `a`, nor `a/#`; and `a` not `a/b`.
    return len(wide) == len(narrow)


def check_text(text: bytes, what: str) -> None:
    """Raise MalformedPacket unless `is_valid_text`; `what` names the field for the log line."""
    if not is_valid_text(text):
        raise _text_fault(text, what)


def check_topic_name(topic: bytes) -> None:
    """Raise MalformedPacket with the reason unless `is_valid_topic_name`.

    A text that is no name is told to clients of 5.0 as mosquitto tells it: as a protocol error.
    """
    if is_valid_topic_name(topic):
        return
    if not topic or len(topic) > TEXT_BYTES_MAX or not is_valid_text(topic):
        raise _common_fault(topic, "topic name")
    if has_wildcard(topic):
        raise MalformedPacket("a topic name with a wildcard", "MQTT-3.3.2-2", ProtocolError.REASON_CODE)
    raise MalformedPacket(f"a topic name with {_TOO_MANY}", "", ProtocolError.REASON_CODE)


def check_topic_filter(topic_filter: bytes) -> None:
    """Raise MalformedPacket with the reason unless `is_valid_topic_filter`."""
    if is_valid_topic_filter(topic_filter):
        return
    if _WILDCARDS_IN_PLACE.fullmatch(topic_filter) is None:
        before_last = topic_filter[:-1]
        hash_in_a_level = topic_filter.endswith(b"#") and before_last and not before_last.endswith(b"/")
        if b"#" in before_last or hash_in_a_level:
            raise MalformedPacket("a topic filter whose # is not the whole last level", "MQTT-4.7.1-2")
        raise MalformedPacket("a topic filter whose + is not a whole level", "MQTT-4.7.1-3")
    if 0 < len(topic_filter) <= TEXT_BYTES_MAX and topic_filter.count(b"/") > SEPARATORS_MAX:
        raise MalformedPacket(f"a topic filter with {_TOO_MANY}")
    raise _common_fault(topic_filter, "topic filter")


def _is_valid_beyond_ascii(text: bytes) -> bool:
    try:
        characters = text.decode()
    except UnicodeDecodeError:
        return False
    # What is printable is none of these; not all that is unprintable is (U+2028, private use), and it's slower to ask.
    return characters.isprintable() or _UNFIT.search(characters) is None


def _common_fault(topic: bytes, what: str) -> MalformedPacket:
    if not topic:
        return MalformedPacket(f"an empty {what}", "MQTT-4.7.3-1")
    if len(topic) > TEXT_BYTES_MAX:
        return MalformedPacket(
            f"a {what} of {len(topic)} bytes; {TEXT_BYTES_MAX} are possible", "MQTT-4.7.3-3"
        )
    return _text_fault(topic, what)


def _text_fault(text: bytes, what: str) -> MalformedPacket:
    if b"\x00" in text:
        return MalformedPacket(f"a {what} with a NUL character", "MQTT-1.5.3-2")
    try:
        text.decode()
    except UnicodeDecodeError:
        return MalformedPacket(f"a {what} that is not UTF-8", "MQTT-1.5.3-1")
    return MalformedPacket(f"a {what} with a control or non-character")
