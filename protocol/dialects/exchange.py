"""The CONNMIX exchange protocol: login, public market channels, private channels of the user who logged in.

Inside, a public channel is `<symbol>@<type>` and a private one `<uid>@<type>`; a client writes private ones as
`@<type>`.  What the document's script closes for, this closes for.  Source: the CONNMIX exchange document.

Invariant: a connection holds private subscriptions only of the uid it is logged in as.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Final

from attrs import frozen

from protocol.dialects.base import (
    NEVER,
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
    Slow,
    Subscribe,
    Unsubscribe,
    json_text,
)
from protocol.websocket import CloseCode

SUCCESS: Final = '{"result":true}'

ERROR: Final = 1
"""The code of every refusal; the document knows no other."""

SKIPPED: Final = 2
"""Our own: messages of a channel were left out for a slow receiver."""

PUBLIC_KINDS: Final = frozenset({"depth", "trades", "markprice", "ticker", "kline"})
PRIVATE_KINDS: Final = frozenset({"balance", "order", "position", "account"})

SYMBOL_CHARACTERS_MAX: Final = 64
_SYMBOL = re.compile(r"[A-Za-z0-9._:/+-]+")
_UID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

REFUSAL_TEXTS: Final = {
    Refusal.INVALID: "Auth Failed",
    Refusal.EXPIRED: "Token Expired",
    Refusal.NOT_YET_VALID: "Auth Failed",
    Refusal.UNAVAILABLE: "Auth Unavailable",
    Refusal.TOO_MANY_CONNECTIONS: "Too Many Connections",
}


@frozen
class ExchangeRules:
    """What one connection may ask for."""

    messages_per_s_max: int
    subscriptions_max: int


def event(channel: str, data: bytes) -> bytes:
    """A channel message, `{"event":…,"data":…}`, which names a private channel as its reader does.

    Args:
        channel: the inner name, `BTCUSDT@depth` or `1001@balance`.
        data: JSON text, put in as it is.
    """
    kind = channel.rpartition("@")[2]
    shown = f"@{kind}" if kind in PRIVATE_KINDS else channel
    return b'{"event":' + json.dumps(shown).encode() + b',"data":' + data + b"}"


def error(message: str, code: int = ERROR) -> str:
    return json_text({"code": code, "msg": message})


class ExchangeDialect(Dialect):
    """One connection."""

    name: ClassVar[str] = "exchange"

    def __init__(self, clock: Clock, rules: ExchangeRules, ping_interval_s: float, now: float) -> None:
        super().__init__(clock, ping_interval_s)
        self._rules = rules
        self._meter = Meter(rules.messages_per_s_max, now)
        self._uid: str | None = None
        self._expires_at = NEVER
        self._channels: dict[str, bool] = {}
        """Inner names of what is subscribed, and whether each is private."""

    def receive(self, message: str | bytes, now: float) -> Commands:
        if isinstance(message, bytes):
            return (Close(CloseCode.UNSUPPORTED_DATA, "messages must be text"),)
        if not self._meter.allows(now):
            return (Send(error("Too Many Messages")), Close(CloseCode.POLICY_VIOLATION, "too many messages"))
        request = _parsed(message)
        op = None if request is None else request.get("op")
        if request is None or not isinstance(op, str):
            return _malformed("a message must be a JSON object with an op")
        if op == "auth":
            return self._log_in(request)
        if op not in ("subscribe", "unsubscribe"):
            return _malformed("op must be auth, subscribe or unsubscribe")
        channel = request.get("channel", "")
        if not isinstance(channel, str) or channel.count("@") != 1:
            return _malformed("channel must be <symbol>@<type> or @<type>")
        name, _, kind = channel.partition("@")
        inner = self._inner_channel(name, kind)
        if not isinstance(inner, str):
            return (inner,)
        return self._subscribe(inner, kind) if op == "subscribe" else self._unsubscribe(inner)

    def login_ended(self, outcome: Identity | Refusal, now: float) -> Commands:
        """A login that fails closes, as the document's script does; one that succeeds may replace another."""
        if isinstance(outcome, Refusal):
            return _refused(REFUSAL_TEXTS[outcome])
        if not _UID.fullmatch(outcome.account):
            return _refused(REFUSAL_TEXTS[Refusal.INVALID])
        commands: list[Command] = []
        if outcome.account != self._uid:
            commands += self._leave_private()
        self._uid = outcome.account
        self._expires_at = self.wake_at = outcome.expires_at
        return [*commands, Send(SUCCESS)]

    def tick(self, now: float) -> Commands:
        if now < self._expires_at:
            return ()
        self.wake_at = NEVER
        return (Send(error("Token Expired")), Close(CloseCode.TOKEN_EXPIRED, "token expired"))

    def skipped(self, channel: str, count: int, now: float) -> str | None:
        return error(f"Slow Receiver: {count} messages of {channel} skipped", SKIPPED)

    def _log_in(self, request: dict[str, Any]) -> Commands:
        token = request.get("token", "")
        if not isinstance(token, str):
            return _malformed("token must be text")
        return (Login(token),)

    def _inner_channel(self, name: str, kind: str) -> str | Send:
        """The channel inside, or what to answer instead."""
        if kind in PRIVATE_KINDS:
            if self._uid is None:
                return Send(error("Not Auth"))
            if name not in ("", self._uid):
                return Send(error("Not Allowed"))
            return f"{self._uid}@{kind}"
        if kind not in PUBLIC_KINDS:
            return Send(error("Invalid Channel"))
        if len(name) > SYMBOL_CHARACTERS_MAX or not _SYMBOL.fullmatch(name):
            return Send(error("Invalid Symbol"))
        return f"{name}@{kind}"

    def _subscribe(self, inner: str, kind: str) -> Commands:
        if inner in self._channels:
            return (Send(SUCCESS),)
        if len(self._channels) >= self._rules.subscriptions_max:
            return (Send(error("Too Many Subscriptions")),)
        private = kind in PRIVATE_KINDS
        self._channels[inner] = private
        # The answer goes first, so that it stands before what the channel retains.
        return (Send(SUCCESS), Subscribe(inner, Slow.CLOSE if private else Slow.CONFLATE))

    def _unsubscribe(self, inner: str) -> Commands:
        if self._channels.pop(inner, None) is None:
            return (Send(SUCCESS),)
        return (Unsubscribe(inner), Send(SUCCESS))

    def _leave_private(self) -> list[Command]:
        left = [channel for channel, private in self._channels.items() if private]
        for channel in left:
            del self._channels[channel]
        return [Unsubscribe(channel) for channel in left]


def _parsed(message: str) -> dict[str, Any] | None:
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _malformed(reason: str) -> Commands:
    return (Close(CloseCode.POLICY_VIOLATION, reason),)


def _refused(message: str) -> Commands:
    return (Send(error(message)), Close(CloseCode.POLICY_VIOLATION, "login failed"))
