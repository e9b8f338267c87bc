"""A client of the `rowcast` protocol without I/O: texts in, events and texts out.

The contract for each subscription: messages in order, each once, without a hole; where the server can't keep it, a
`Gap` says so, and what had been retained comes anew as a `State`.

Invariant: a subscription's `at` is the position up to which its events have been handed out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

OFFLINE, JOINING, CATCHING_UP, LIVE = "offline", "joining", "catching up", "live"

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
COME_BACK_NO_MORE = frozenset({1003, 1008, 1009})
TOKEN_EXPIRED = 3001
RETRY_DEFAULT_MS = 1000


class Stopped(Exception):
    """The server will not have this client: `code` is its close code, `reason` its words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})" if reason else str(code))
        self.code = code
        self.reason = reason


class Refused(Exception):
    """The server can't do what was asked: `code` is a short name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Message:
    """One message.  `data` is what JSON made of it, text, or bytes; numbers are exact (`int`, and `parse_float`)."""

    topic: str
    data: Any
    at: str = ""
    retained: bool = False


@dataclass(frozen=True)
class State:
    """The retained values at this moment: whatever the application had from before is to be replaced by them."""

    messages: list[Message]


@dataclass(frozen=True)
class Gap:
    """Messages may have been missed."""

    reason: str


@dataclass(frozen=True)
class Skipped:
    """So many messages of a topic were left out, because this client asked for `conflate`."""

    topic: str
    count: int


Event = Message | State | Gap | Skipped


@dataclass
class Subscription:
    """One topic filter; `at` is where it would go on."""

    topic: str
    at: str | None = None
    state: bool = False
    conflate: bool = False
    phase: str = OFFLINE
    error: Refused | None = None
    _collected: list[Message] | None = field(default=None, repr=False)
    _asked_as: int = field(default=0, repr=False)

    def request(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"topic": self.topic}
        if self.at is not None:
            asked["since"] = self.at
        if self.state:
            asked["state"] = True
        if self.conflate:
            asked["conflate"] = True
        return asked


class Client:
    """The state of one client over all its connections.

    Args:
        parse_float: makes numbers with a fraction; `decimal.Decimal` keeps them exact.
    """

    def __init__(self, parse_float: Callable[[str], Any] = float) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.is_open = False
        self.stopped: Stopped | None = None
        self.needs_token = False
        """The token has expired: the next connection wants a new one."""
        self.expires: float | None = None
        """When the token does, in Unix seconds."""
        self.ping_s = 25.0
        self._parse_float = parse_float
        self._outgoing: list[str] = []
        self._next_id = 0
        self._answers: dict[int, Callable[[Refused | None], None]] = {}
        self._failures = 0
        self._retry_ms: int | None = None
        self._heard_at = 0.0
        self._last_error = ""

    # --- what the application asks -------------------------------------------------------------------------

    def subscribe(
        self, topic: str, since: str | None = None, *, state: bool = False, conflate: bool = False
    ) -> Subscription:
        """Subscribe, now or as soon as there is a connection.

        Args:
            since: a position from before, `start`, or `now`.
            state: also begin with the retained values, and again whenever there was a gap.
        """
        wanted = self.subscriptions[topic] = Subscription(topic, since, state, conflate)
        if self.is_open:
            self._join([wanted])
        return wanted

    def unsubscribe(self, topic: str) -> None:
        if self.subscriptions.pop(topic, None) is not None and self.is_open:
            self._send({"unsubscribe": topic})

    def publish(
        self, topic: str, data: Any, answered: Callable[[Refused | None], None] | None = None, **options: Any
    ) -> None:
        """Publish; only on an open connection.  `answered` is told None, or why not."""
        if isinstance(data, bytes):
            data, options["encoding"] = base64.b64encode(data).decode(), "base64"
        self._send({"publish": topic, "data": data, **options}, answered)

    def renew(self, token: str) -> None:
        """Show a new token on the open connection."""
        self._send({"connect": {"token": token}})

    # --- what the shell tells ------------------------------------------------------------------------------

    def opened(self, token: str | None, now: float) -> None:
        """A connection is open; `take` what is to be sent."""
        self.is_open = True
        self.needs_token = False
        self._retry_ms = None
        self._heard_at = now
        self._last_error = ""
        self._outgoing.clear()
        self._send({"connect": {} if token is None else {"token": token}})
        self._join(list(self.subscriptions.values()))

    def take(self) -> list[str]:
        """The texts to send now."""
        texts, self._outgoing = self._outgoing, []
        return texts

    def received(self, text: str, now: float) -> Iterator[tuple[Subscription, Event]]:
        """A text came; its events, to be handed on as they are taken."""
        self._heard_at = now
        said = json.loads(text, parse_float=self._parse_float)
        if "topic" in said and "skipped" not in said:
            message = self._message(said)
            for one in list(self.subscriptions.values()):
                if one.phase == LIVE and matches(one.topic, message.topic):
                    yield from _hand_on(one, message)
        elif "subscribed" in said:
            yield from self._subscribed(said)
        elif "ping" in said:
            self._send({"pong": 1}, numbered=False)
        elif "gap" in said:
            behind = self.subscriptions.get(said["gap"])
            if behind is not None:
                yield behind, Gap(said["reason"])
                if behind.state:
                    behind.at = None
                    self._join([behind])
        elif "skipped" in said:
            for one in list(self.subscriptions.values()):
                if one.conflate and matches(one.topic, said["topic"]):
                    yield one, Skipped(said["topic"], said["skipped"])
        elif "closing" in said:
            self._retry_ms = said.get("retry_ms")
        else:
            self._answered(said)

    def closed(self, code: int, reason: str = "") -> None:
        """The connection ended; 1006 without a close frame.  Then `stopped` is set, or `delay` says when to try."""
        self.is_open = False
        for one in self.subscriptions.values():
            one.phase = OFFLINE
            one._collected = None
        answers, self._answers = self._answers, {}
        for answered in answers.values():
            answered(Refused("disconnected", "the connection ended before the answer came"))
        if code == TOKEN_EXPIRED:
            self.needs_token = True
        if code in COME_BACK_NO_MORE:
            self.stopped = Stopped(code, reason or self._last_error)
        self._failures += 1

    def delay(self, chance: float) -> float:
        """Seconds to wait before the next connection.  `chance` is uniform from 0 to 1: full jitter."""
        if self._failures <= 1:
            first_ms = RETRY_DEFAULT_MS if self._retry_ms is None else self._retry_ms
            return chance * first_ms / 1000
        return chance * float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self._failures, 20)))

    def is_silent(self, now: float) -> bool:
        """Whether nothing has come for so long that the connection must be dead."""
        return self.is_open and now - self._heard_at > 2.0 * self.ping_s

    # --- inside --------------------------------------------------------------------------------------------

    def _join(self, wanted: list[Subscription]) -> None:
        for one in wanted:
            one.phase = JOINING
            one._collected = None
        if wanted:
            self._send({"subscribe": [one.request() for one in wanted]})
        for one in wanted:
            one._asked_as = self._next_id

    def _subscribed(self, said: dict[str, Any]) -> Iterator[tuple[Subscription, Event]]:
        one = self.subscriptions.get(said["subscribed"])
        if one is None or one.phase == OFFLINE:
            return
        if one.phase == JOINING and said.get("id") != one._asked_as:
            return  # of an earlier subscription, sent before the server heard of this one
        if said.get("recovered") is False:
            one.at = None
            yield one, Gap(said.get("reason", ""))
        one.phase = CATCHING_UP
        more = said.get("more", False)
        if "state" in said:
            one._collected = (one._collected or []) + [self._message(each) for each in said["state"]]
        if one._collected is not None and ("state" not in said or not more):
            state, one._collected = State(one._collected), None
            yield one, state
        for each in said.get("missed", ()):
            yield from _hand_on(one, self._message(each))
        if not more:
            one.at = said["at"]
            one.phase = LIVE
            self._failures = 0

    def _answered(self, said: dict[str, Any]) -> None:
        if "connected" in said:
            self.ping_s = said["connected"]["ping"]
            self.expires = said["connected"].get("expires")
            if not self.subscriptions:
                self._failures = 0
        error = said.get("error")
        refused = None if error is None else Refused(error["code"], error["message"])
        if refused is not None:
            self._last_error = str(refused)
        topic = said.get("subscribe", said.get("unsubscribed") if refused else None)
        if refused is not None and isinstance(topic, str) and topic in self.subscriptions:
            self.subscriptions.pop(topic).error = refused
        answered = self._answers.pop(said.get("id", 0), None)
        if answered is not None:
            answered(refused)

    def _message(self, said: dict[str, Any]) -> Message:
        data = said["data"]
        if said.get("encoding") == "base64":
            data = base64.b64decode(data)
        return Message(said["topic"], data, said.get("at", ""), said.get("retained", False))

    def _send(
        self,
        request: dict[str, Any],
        answered: Callable[[Refused | None], None] | None = None,
        numbered: bool = True,
    ) -> None:
        if numbered:
            self._next_id += 1
            request = {"id": self._next_id, **request}
            if answered is not None:
                self._answers[self._next_id] = answered
        self._outgoing.append(json.dumps(request))


def _hand_on(one: Subscription, message: Message) -> Iterator[tuple[Subscription, Event]]:
    if message.at:
        one.at = message.at
    yield one, message


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic filter of MQTT matches a topic."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if levels[0][:1] == "$" and wanted[0][:1] != "$":
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)
