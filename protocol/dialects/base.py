"""What the JSON protocols over WebSocket have in common: one peer's dialect as a machine without I/O.

A `Dialect` is told what happened (`open`, `receive`, `login_ended`, `tick`) and answers with commands for
the link to carry out, in order.  It names channels as its protocol does; which topic a channel is, the
gateway knows.  Times are monotonic seconds; `Clock` turns them into the UTC that goes on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from protocol.dialects.conflation import Conflation

NEVER = float("inf")


class Slow(Enum):
    """What happens to a channel's messages while their receiver owes us reading."""

    CLOSE = "close"
    """The connection is closed with a reason, so that the client resynchronises."""
    CONFLATE = "conflate"
    """The newest per key waits and replaces older ones; the receiver is told how many it did not get."""


@frozen
class Send:
    """A text message for this peer alone."""

    text: str


@frozen
class Subscribe:
    """Messages of this channel from now on; not while it is subscribed already.

    `every_s` above 0 asks for the channel conflated to that interval.
    With `since` it is followed from there, without a hole; the link answers, by `answer` and where the reader is.
    """

    channel: str
    slow: Slow = Slow.CLOSE
    every_s: float = 0.0
    since: str | None = None
    """A position, `now` or `start`."""
    answer: str = ""
    """JSON text without its last brace."""
    subscription: str = ""
    """What each of its messages then says it is of, where the document's messages don't."""


@frozen
class Unsubscribe:
    """The client wants no more of this channel."""

    channel: str


@frozen
class Publish:
    """A text message for every reader of a channel."""

    channel: str
    text: str


@frozen
class Login:
    """Find out whose token this is; the answer comes by `login_ended` before anything else is read."""

    token: str = field(repr=False)


@frozen
class Close:
    """Close the connection; everything sent before still leaves first."""

    code: int
    reason: str


Command: TypeAlias = Send | Subscribe | Unsubscribe | Publish | Login | Close
Commands: TypeAlias = Sequence[Command]

NOTHING: Commands = ()


@frozen
class Identity:
    """Who a token belongs to.

    `account` is the user's or the account's id; `expires_at` is in monotonic seconds, NEVER if it is not set.
    """

    account: str
    roles: frozenset[str] = frozenset()
    expires_at: float = NEVER
    claims: Mapping[str, Any] = field(factory=dict, repr=False)


class Refusal(Enum):
    """Why a login failed."""

    INVALID = "invalid"
    """The token is malformed, forged, or says nobody's name."""
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    UNAVAILABLE = "unavailable"
    """Whoever has to be asked did not answer properly in time."""
    TOO_MANY_CONNECTIONS = "too many connections"


@frozen
class Clock:
    """UTC from monotonic seconds, as of when the connection was accepted."""

    utc_offset_s: float

    def utc_s(self, now: float) -> float:
        """Seconds since 1970."""
        return now + self.utc_offset_s

    def iso(self, now: float) -> str:
        """As `2024-11-17T16:30:00Z`; milliseconds are shown where there are any."""
        moment = datetime.fromtimestamp(round(self.utc_s(now), 3), UTC).replace(tzinfo=None)
        whole = moment.microsecond == 0
        return moment.isoformat(timespec="seconds" if whole else "milliseconds") + "Z"


class Dialect:
    """One connection's side of a JSON protocol.

    Args:
        clock: for timestamps on the wire.
        ping_interval_s: how often the link sends a WebSocket ping; 0 where the dialect has its own heartbeat.
    """

    name: ClassVar[str]
    conflation: ClassVar[Conflation] = Conflation()
    tells_of_gaps_on: ClassVar[str] = ""
    """The channel that says in words when messages may be missing; "" where the dialect has none."""

    @staticmethod
    def envelope(channel: str, data: bytes) -> bytes:
        """A channel's message around JSON text, which is put in as it is; a brace ends it."""
        return envelope(channel, data)

    @staticmethod
    def why_unreadable(channel: str) -> str | None:
        """Why nobody can ever read this channel; None if somebody can."""
        return None

    @staticmethod
    def gap_notice(feed: str, reason: str, utc_s: float) -> tuple[str, str] | None:
        """Channel and text that tell of rows that may be missing; None where the dialect has no words for it."""
        return None

    def __init__(self, clock: Clock, ping_interval_s: float = 0.0) -> None:
        self.clock = clock
        self.ping_interval_s = ping_interval_s
        self.wake_at = NEVER
        """When `tick` has something to do; the link calls it then, at most a second late."""
        self.rests_until = 0.0
        """Nothing more is to be read before this time, because the peer sends too fast."""
        self.was_sent_to = False
        """Set by the link when a channel's message goes out; a dialect that measures idleness clears it."""

    def open(self, now: float) -> Commands:
        """The handshake is complete."""
        return NOTHING

    def receive(self, message: str | bytes, now: float) -> Commands:
        """A whole message came: `str` if text, `bytes` if binary."""
        raise NotImplementedError

    def login_ended(self, outcome: Identity | Refusal, now: float) -> Commands:
        """The answer to `Login`."""
        raise NotImplementedError

    def tick(self, now: float) -> Commands:
        """`wake_at` has come."""
        return NOTHING

    def closing(self, code: int, now: float) -> Sequence[str]:
        """Texts to send ahead of a close frame with this code."""
        return ()

    def skipped(self, channel: str, count: int, now: float) -> str | None:
        """A text that says that messages were left out, or None where the dialect has no room for it."""
        return None


def envelope(channel: str, data: bytes) -> bytes:
    """`{"channel" : ..., "payload" : ...}`, spaced as Postgres's `json_build_object` prints it."""
    name = json.dumps(channel, ensure_ascii=False).encode(errors="surrogatepass")
    return b'{"channel" : ' + name + b', "payload" : ' + data + b"}"


def json_text(value: object) -> str:
    """Compact JSON that can be sent: characters stand for themselves, lone surrogates stay escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


class Meter:
    """Messages per second of one peer: a bucket that holds one second's worth."""

    def __init__(self, per_s_max: float, now: float) -> None:
        self._per_s_max = per_s_max
        self._left = per_s_max
        self._at = now

    def charge(self, count: float, now: float) -> float:
        """Count so many messages, whether or not there is room; the time at which there is again."""
        self._left = min(self._per_s_max, self._left + (now - self._at) * self._per_s_max) - count
        self._at = now
        return now if self._left >= 0 else now - self._left / self._per_s_max

    def allows(self, now: float) -> bool:
        """Count one message, or refuse it because there were too many."""
        self._left = min(self._per_s_max, self._left + (now - self._at) * self._per_s_max)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def parsed(message: str) -> dict[str, Any] | None:
    """A client's message, or None if it is no JSON object."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
