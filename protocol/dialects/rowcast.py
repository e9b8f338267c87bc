"""Rowcast's own WebSocket dialect: any topic, with a position on every message, so that nothing is missed.

A client sends one JSON object a message: `connect`, `subscribe`, `unsubscribe`, `publish`, `ping` or `pong`, with an
`id` that comes back in the answer.  What a token allows stands in its claims `subscribe` and `publish`, lists of
topic filters.  The whole of it, for users, is docs/rowcast-protocol.md.

Invariant: every filter in `_filters` is covered by what the connection may read now.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, TypeAlias

from attrs import field, frozen

from protocol.dialects.base import (
    NEVER,
    NOTHING,
    Clock,
    Close,
    Command,
    Commands,
    Dialect,
    Identity,
    Login,
    Meter,
    Refusal,
    Send,
    json_text,
)
from protocol.dialects.positioned import place_members
from protocol.grants import Grants, grants_of
from protocol.json_members import is_json, is_text, members_of
from protocol.mqtt.reserved import CHANNEL_PREFIX, SHARE_PREFIX
from protocol.mqtt.topics import is_valid_topic_filter, is_valid_topic_name
from protocol.websocket import CloseCode

RETRY_MS: Final = {CloseCode.GOING_AWAY: 1000, CloseCode.TRY_AGAIN_LATER: 3000, CloseCode.TOKEN_EXPIRED: 0}
"""Close codes after which a client should come back, and within how long, at a moment of its own choice."""

ID_CHARACTERS_MAX: Final = 64
OPERATIONS: Final = ("connect", "subscribe", "unsubscribe", "publish", "ping", "pong")
PINGS_UNANSWERED_MAX: Final = 2

_REFUSALS: Final = {
    Refusal.INVALID: ("invalid_token", "the token is not valid here", CloseCode.POLICY_VIOLATION),
    Refusal.EXPIRED: ("token_expired", "the token has expired", CloseCode.TOKEN_EXPIRED),
    Refusal.NOT_YET_VALID: ("invalid_token", "the token is not valid yet", CloseCode.POLICY_VIOLATION),
    Refusal.UNAVAILABLE: ("unavailable", "the token can't be checked now", CloseCode.TRY_AGAIN_LATER),
    Refusal.TOO_MANY_CONNECTIONS: ("too_many", "too many connections", CloseCode.TRY_AGAIN_LATER),
}


@frozen
class Read:
    """Subscribe: `subscribed` of the dialect makes the answer's head, the link the rest."""

    request: str
    """The request's id as JSON text; "" without one."""
    topic_filter: bytes
    since: str | None = None
    state: bool = False
    conflate: bool = False


@frozen
class Leave:
    """The client wants no more of this filter."""

    topic_filter: bytes


@frozen
class Say:
    """Publish to a topic, and answer."""

    topic: bytes
    payload: bytes = field(repr=False)
    qos: int = 1
    retain: bool = False
    request: str = ""
    """The request's id as JSON text.  Whoever publishes it answers, with `published_text` or `error_text`."""


RowcastCommand: TypeAlias = Read | Leave | Say | Command


@frozen
class RowcastRules:
    """What one connection may ask for, and what those may do who show no token."""

    ping_interval_s: float = 25.0
    messages_per_s_max: int = 1000
    subscriptions_max: int = 1000
    anonymous: Grants = field(factory=Grants)


class _Bad(Exception):
    """The request can't be understood, or asks for what it may not."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RowcastDialect(Dialect):
    """One connection.

    Attributes:
        token: shown in the handshake already; "" if none was.
    """

    name: ClassVar[str] = "rowcast"

    def __init__(self, clock: Clock, rules: RowcastRules, now: float) -> None:
        super().__init__(clock, 0.0)
        self._rules = rules
        self._meter = Meter(rules.messages_per_s_max, now)
        self.token = ""
        self.node = ""
        self._grants = rules.anonymous
        self._is_anonymous = True
        self._expires_at = NEVER
        self._request = ""
        """Of the `connect` whose token is being checked."""
        self._asked = False
        self._filters: dict[bytes, None] = {}
        self._heard_at = now
        self._ping_at = now + rules.ping_interval_s
        self._set_alarm()

    def open(self, now: float) -> Commands:
        return (Login(self.token),) if self.token else NOTHING

    def receive(self, message: str | bytes, now: float) -> Commands:
        self._heard_at = now
        if isinstance(message, bytes):
            return (Close(CloseCode.UNSUPPORTED_DATA, "messages must be text"),)
        if not self._meter.allows(now):
            return (Close(CloseCode.TRY_AGAIN_LATER, "too many messages"),)
        members = members_of(message)
        if members is None:
            return (Send(error_text("", "bad_request", "a message must be one JSON object")),)
        request = ""
        try:
            request = _request_id(members)
            return self._understand(request, members, now)  # type: ignore[return-value]
        except _Bad as bad:
            return (Send(error_text(request, bad.code, bad.message)),)

    def login_ended(self, outcome: Identity | Refusal, now: float) -> Commands:
        if isinstance(outcome, Refusal):
            code, message, close = _REFUSALS[outcome]
            return (Send(error_text(self._request, code, message)), Close(close, message))
        self._grants = grants_of(outcome.claims, outcome.account)
        self._is_anonymous = False
        self._expires_at = outcome.expires_at
        self._set_alarm()
        commands: list[Command] = []
        if self._asked:
            self._asked = False
            commands.append(Send(self._connected(self._request)))
        return [*commands, *self._leave_forbidden("the new token does not allow it")]

    def adopt_anonymous(self, anonymous: Grants) -> Commands:
        """Those who show no token may do this from now on."""
        if not self._is_anonymous:
            return NOTHING
        self._grants = anonymous
        return self._leave_forbidden("this needs a token by now")

    def _leave_forbidden(self, message: str) -> list[Command]:
        why = f'"error":{json_text({"code": "not_authorised", "message": message})}'
        commands: list[Command] = []
        for topic_filter in [one for one in self._filters if not self._grants.may_subscribe(one)]:
            del self._filters[topic_filter]
            shown = json_text(topic_filter.decode())
            commands.append(Leave(topic_filter))  # type: ignore[arg-type]
            commands.append(Send(f'{{"unsubscribed":{shown},{why}}}'))
        return commands

    def tick(self, now: float) -> Commands:
        if now >= self._expires_at:
            self.wake_at = NEVER
            return (Close(CloseCode.TOKEN_EXPIRED, "the token has expired"),)
        if now < self._ping_at:
            return NOTHING
        interval = self._rules.ping_interval_s
        if now - self._heard_at > (PINGS_UNANSWERED_MAX + 0.5) * interval:
            self.wake_at = NEVER
            return (Close(CloseCode.GOING_AWAY, "no answer to pings"),)
        self._ping_at = now + interval
        self._set_alarm()
        return (Send('{"ping":1}'),)

    def closing(self, code: int, now: float) -> Sequence[str]:
        """Whether to come back, for clients that see no close code, or don't know ours."""
        retry_ms = RETRY_MS.get(code)  # type: ignore[call-overload]
        retry = "" if retry_ms is None else f',"retry_ms":{retry_ms}'
        return (f'{{"closing":{code}{retry}}}',)

    def forget(self, topic_filter: bytes) -> None:
        """The link could not subscribe to it."""
        self._filters.pop(topic_filter, None)

    def _set_alarm(self) -> None:
        self.wake_at = min(self._expires_at, self._ping_at)

    # --- requests ------------------------------------------------------------------------------------------

    def _understand(
        self, request: str, members: dict[str, tuple[Any, str]], now: float
    ) -> Sequence[RowcastCommand]:
        asked = [name for name in OPERATIONS if name in members]
        if len(asked) != 1:
            raise _Bad("bad_request", f"a message must have one of {', '.join(OPERATIONS)}")
        operation = asked[0]
        if operation == "pong":
            return NOTHING
        if operation == "ping":
            return (Send(_answer(request, '"pong":1')),)
        if operation == "connect":
            return self._connect(request, members["connect"][0])
        if operation == "publish":
            return self._publish(request, members)
        if operation == "unsubscribe":
            return self._unsubscribe(request, members["unsubscribe"][0])
        return self._subscribe(request, members)

    def _connect(self, request: str, wanted: object) -> Sequence[RowcastCommand]:
        if not isinstance(wanted, dict):
            raise _Bad("bad_request", "connect must be an object, with a token if there is one")
        token = wanted.get("token", "")
        if not is_text(token):
            raise _Bad("bad_request", "token must be text")
        if not token:
            return (Send(self._connected(request)),)
        self._request = request
        self._asked = True
        return (Login(token),)

    def _connected(self, request: str) -> str:
        ping_s = self._rules.ping_interval_s
        said: dict[str, object] = {"ping": ping_s if ping_s % 1 else int(ping_s), "node": self.node}
        if self._expires_at != NEVER:
            said["expires"] = round(self.clock.utc_s(self._expires_at))
        return _answer(request, f'"connected":{json_text(said)}')

    def _subscribe(self, request: str, members: dict[str, tuple[Any, str]]) -> Sequence[RowcastCommand]:
        wanted = members["subscribe"][0]
        common: dict[str, Any] = {
            name: members[name][0] for name in ("since", "state", "conflate") if name in members
        }
        commands: list[RowcastCommand] = []
        for one in wanted if isinstance(wanted, list) else [wanted]:
            asked: dict[str, Any] = {**common, "topic": one}
            if isinstance(one, dict):
                asked = {**common, **one}
            try:
                commands.append(self._read(request, asked))
            except _Bad as bad:
                shown = f',"subscribe":{json_text(asked.get("topic"))}'
                commands.append(Send(error_text(request, bad.code, bad.message, shown)))
        return commands

    def _read(self, request: str, asked: Mapping[str, Any]) -> Read:
        topic_filter = _topic(asked.get("topic"), is_filter=True)
        since, state, conflate = asked.get("since"), asked.get("state", False), asked.get("conflate", False)
        if since is not None and not is_text(since):
            raise _Bad("bad_request", "since must be a position as text, now, or start")
        if not isinstance(state, bool) or not isinstance(conflate, bool):
            raise _Bad("bad_request", "state and conflate must be true or false")
        if not self._grants.may_subscribe(topic_filter):
            raise _Bad("not_authorised", "this connection may not subscribe to that")
        if topic_filter not in self._filters and len(self._filters) >= self._rules.subscriptions_max:
            raise _Bad("too_many", f"at most {self._rules.subscriptions_max} subscriptions")
        self._filters[topic_filter] = None
        return Read(request, topic_filter, since, state, conflate)

    def _unsubscribe(self, request: str, wanted: object) -> Sequence[RowcastCommand]:
        topic_filters = [
            _topic(one, is_filter=True) for one in (wanted if isinstance(wanted, list) else [wanted])
        ]
        commands: list[RowcastCommand] = []
        for topic_filter in topic_filters:
            if topic_filter in self._filters:
                del self._filters[topic_filter]
                commands.append(Leave(topic_filter))
        return [*commands, Send(_answer(request, f'"unsubscribed":{json_text(wanted)}'))]

    def _publish(self, request: str, members: dict[str, tuple[Any, str]]) -> Sequence[RowcastCommand]:
        topic = _topic(members["publish"][0], is_filter=False)
        if not self._grants.may_publish(topic):
            raise _Bad("not_authorised", "this connection may not publish there")
        retain = members.get("retain", (False, ""))[0]
        qos = members.get("qos", (None, "1"))[1]
        if not isinstance(retain, bool) or qos not in ("0", "1", "2"):
            raise _Bad("bad_request", "retain must be true or false, and qos 0, 1 or 2")
        return [Say(topic, _payload(members), int(qos), retain, request)]


def message_text(topic: bytes, payload: bytes, at: bytes, retained: bool = False) -> bytes:
    """One publication as a client gets it; JSON payloads stand in it unchanged."""
    head = b'{"topic":' + json.dumps(topic.decode(), ensure_ascii=False).encode()
    if at:
        head += b',"at":"' + at + b'"'
    if retained:
        head += b',"retained":true'
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return head + b',"encoding":"base64","data":"' + base64.b64encode(payload) + b'"}'
    if is_json(text):
        return head + b',"data":' + payload + b"}"
    return head + b',"encoding":"text","data":' + json.dumps(text, ensure_ascii=False).encode() + b"}"


def subscribed_head(read: Read, at: str, recovered: bool, reason: str) -> str:
    """The beginning of the answer to a `Read`, up to where lists of messages may follow: no brace at its end."""
    members = f'"subscribed":{json_text(read.topic_filter.decode())}'
    if read.since is not None:
        members += place_members(at, recovered, reason)
    elif at:
        members += f',"at":"{at}"'
    return f'{{"id":{read.request},{members}' if read.request else f"{{{members}"


def error_text(request: str, code: str, message: str, more: str = "") -> str:
    """The answer that says why a request was not done."""
    return _answer(request, f'"error":{json_text({"code": code, "message": message})}{more}')


def published_text(request: str) -> str:
    """The answer that a message was published, and what was promised of it kept."""
    return _answer(request, '"published":true')


def _answer(request: str, members: str) -> str:
    return f'{{"id":{request},{members}}}' if request else f"{{{members}}}"


def _request_id(members: dict[str, tuple[Any, str]]) -> str:
    value, text = members.get("id", (None, ""))
    if value is None:
        return ""
    if not isinstance(value, str) or len(text) > ID_CHARACTERS_MAX:
        raise _Bad("bad_request", f"id must be a number or text, of at most {ID_CHARACTERS_MAX} characters")
    return text


def _topic(value: object, is_filter: bool) -> bytes:
    if not is_text(value):
        raise _Bad("bad_request", "a topic is wanted, as text")
    topic = value.encode(errors="surrogatepass")
    if not (is_valid_topic_filter if is_filter else is_valid_topic_name)(topic):
        what = "filter: + and # stand for whole levels, # at the end only" if is_filter else "name"
        raise _Bad("bad_topic", f"this is no topic {what}")
    if topic.startswith((CHANNEL_PREFIX, SHARE_PREFIX)) or (not is_filter and topic.startswith(b"$")):
        raise _Bad("bad_topic", "topics that begin with $ are not for clients")
    return topic


def _payload(members: dict[str, tuple[Any, str]]) -> bytes:
    if "data" not in members:
        raise _Bad("bad_request", "publish needs data")
    value, text = members["data"]
    encoding = members.get("encoding", ("json", ""))[0]
    if encoding == "json":
        return text.encode(errors="surrogatepass")
    if encoding not in ("text", "base64") or not text.startswith('"'):
        raise _Bad("bad_request", "encoding must be json, or text or base64 with data in quotes")
    try:
        if encoding == "base64":
            return base64.b64decode(value, validate=True)
        return str(value).encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise _Bad("bad_request", f"data is not what the encoding {encoding} allows") from None
