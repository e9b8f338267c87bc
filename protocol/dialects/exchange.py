"""The CONNMIX exchange protocol: login, public market channels, private channels of the user who logged in.

Inside, a public channel is `<symbol>@<type>` and a private one `<uid>@<type>`; a client writes private ones as
`@<type>`.  What the document's script closes for, this closes for.  Source: the CONNMIX exchange document.

Invariant: a connection holds private subscriptions only of the uid it is logged in as.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
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
    parsed,
)
from protocol.dialects.conflation import Conflation
from protocol.dialects.positioned import is_since
from protocol.websocket import CloseCode

SUCCESS: Final = '{"result":true}'

ERROR: Final = 1
"""The code of every refusal; the document knows no other."""

SKIPPED: Final = 2
"""Our own: messages of a channel were left out for a slow receiver."""

PUBLIC_KINDS: Final = frozenset({"depth", "trades", "markprice", "ticker", "kline"})
PRIVATE_KINDS: Final = frozenset({"balance", "order", "position", "account"})

NEWEST_COUNTS: Final = frozenset({"markprice", "ticker", "kline", "trades"})
"""Kinds of which a slow reader gets the newest.  Not `depth`, which brings changed levels: one left out, and the book
that a client keeps is wrong for ever; nor what is private."""

CHANNELS_MAX: Final = 500
CHANNELS_PER_MESSAGE: Final = 20
"""Of `channels`, how many count as one message."""

SYMBOL_CHARACTERS_MAX: Final = 64
_SYMBOL = re.compile(r"[A-Za-z0-9._:/+-]+")
_INTERVAL = re.compile(rb'"(?:interval|period|resolution)"\s*:\s*"?([^",}\s]{1,16})')
_CANDLES = re.compile(r"kline_[1-9][0-9]?[mhdwM]")
"""Candles of one interval; `kline` alone is all of them."""
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


@frozen
class _Wanted:
    """A channel as a client writes it, and from where on it wants all of it."""

    channel: Any
    since: Any

    def command(self, inner: str) -> Subscribe:
        if self.since is not None:
            return Subscribe(
                inner, since=self.since, answer=f'{SUCCESS[:-1]},"channel":{json_text(self.channel)}'
            )
        kind = inner.rpartition("@")[2]
        return Subscribe(inner, Slow.CONFLATE if kind.partition("_")[0] in NEWEST_COUNTS else Slow.CLOSE)


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
    """The answer that says why a request was not done."""
    return json_text({"code": code, "msg": message})


def why_unreadable(channel: str) -> str | None:
    """Why nobody can ever read this inner channel; None if somebody can."""
    name, _, kind = channel.rpartition("@")
    if kind in PRIVATE_KINDS:
        return None if _UID.fullmatch(name) else "Invalid User"
    return _wrong_public(name, kind)


def _wrong_public(name: str, kind: str) -> str | None:
    if kind not in PUBLIC_KINDS and not _CANDLES.fullmatch(kind):
        return "Invalid Channel"
    if len(name) > SYMBOL_CHARACTERS_MAX or not _SYMBOL.fullmatch(name):
        return "Invalid Symbol"
    return None


class ExchangeConflation(Conflation):
    """The newest of each channel counts; of candles, the newest of each interval."""

    def key(self, channel: str, payload: bytes) -> str:
        if not channel.endswith("@kline"):
            return channel
        found = _INTERVAL.search(payload)
        return channel if found is None else channel + "\x00" + found[1].decode("utf-8", "replace")


class ExchangeDialect(Dialect):
    """One connection."""

    name: ClassVar[str] = "exchange"
    conflation: ClassVar[Conflation] = ExchangeConflation()
    envelope = staticmethod(event)
    why_unreadable = staticmethod(why_unreadable)

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
        self.rests_until = self._meter.charge(1, now)
        request = parsed(message)
        op = None if request is None else request.get("op")
        if request is None or not isinstance(op, str):
            return _malformed("a message must be a JSON object with an op")
        if op == "auth":
            return self._log_in(request)
        if op not in ("subscribe", "unsubscribe"):
            return _malformed("op must be auth, subscribe or unsubscribe")
        if "channels" in request:
            return self._several(op, request, now)
        channel = request.get("channel", "")
        if not isinstance(channel, str) or channel.count("@") != 1:
            return _malformed("channel must be <symbol>@<type> or @<type>")
        inner = self._inner_channel(channel)
        if not isinstance(inner, str):
            return (inner,)
        if op == "unsubscribe":
            return self._unsubscribe([inner])
        return self._subscribe({inner: _Wanted(channel, request.get("since"))})

    def _several(self, op: str, request: dict[str, Any], now: float) -> Commands:
        """Ours: `channels`, a list, all of them or none."""
        channels = request["channels"]
        if not isinstance(channels, list) or not 0 < len(channels) <= CHANNELS_MAX or "channel" in request:
            return _malformed(f"channels must be a list of 1 to {CHANNELS_MAX}, without channel")
        self.rests_until = self._meter.charge(len(channels) / CHANNELS_PER_MESSAGE, now)
        found: dict[str, _Wanted] = {}
        for one in channels:
            wanted = _Wanted(one, request.get("since"))
            if isinstance(one, dict):
                wanted = _Wanted(one.get("channel"), one.get("since", wanted.since))
            if not isinstance(wanted.channel, str) or wanted.channel.count("@") != 1:
                return _malformed("each of channels must be <symbol>@<type> or @<type>")
            inner = self._inner_channel(wanted.channel)
            if not isinstance(inner, str):
                return (inner,)
            found.setdefault(inner, wanted)
        return self._subscribe(found) if op == "subscribe" else self._unsubscribe(found)

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

    def _inner_channel(self, channel: str) -> str | Send:
        """The channel inside, or what to answer instead."""
        name, _, kind = channel.partition("@")
        if kind in PRIVATE_KINDS:
            if self._uid is None:
                return Send(error("Not Auth"))
            if name not in ("", self._uid):
                return Send(error("Not Allowed"))
            return f"{self._uid}@{kind}"
        wrong = _wrong_public(name, kind)
        return channel if wrong is None else Send(error(wrong))

    def _subscribe(self, channels: Mapping[str, _Wanted]) -> Commands:
        if not all(one.since is None or is_since(one.since) for one in channels.values()):
            return (Send(error("Invalid Since")),)
        new = [inner for inner in channels if inner not in self._channels]
        if len(self._channels) + len(new) > self._rules.subscriptions_max:
            return (Send(error("Too Many Subscriptions")),)
        commands: list[Command] = []
        if any(one.since is None for one in channels.values()):
            # The answer goes first, so that it stands before what the channel retains.
            commands.append(Send(SUCCESS))
        for inner, wanted in channels.items():
            if wanted.since is None and inner in self._channels:
                continue
            if inner in self._channels:
                commands.append(Unsubscribe(inner))
            self._channels[inner] = inner.rpartition("@")[2] in PRIVATE_KINDS
            commands.append(wanted.command(inner))
        return commands

    def _unsubscribe(self, channels: Iterable[str]) -> Commands:
        left = [inner for inner in channels if self._channels.pop(inner, None) is not None]
        return [*(Unsubscribe(inner) for inner in left), Send(SUCCESS)]

    def _leave_private(self) -> list[Command]:
        left = [channel for channel, private in self._channels.items() if private]
        for channel in left:
            del self._channels[channel]
        return [Unsubscribe(channel) for channel in left]


def _malformed(reason: str) -> Commands:
    return (Close(CloseCode.POLICY_VIOLATION, reason),)


def _refused(message: str) -> Commands:
    return (Send(error(message)), Close(CloseCode.POLICY_VIOLATION, "login failed"))
