"""CantonDEX: login by JWT, channels per account, market data per symbol, JSON heartbeats, the error table.

Inside, channels are `orders/<account>`, `trades/<account>`, `settlements/<account>`,
`account_notifications/<account>`, `market_data/<symbol>`, `compliance_events` and `system_health`.
Source: the CantonDEX WebSocket API document.

Invariant: every subscription is one that the current identity may have; `_may_read` is asked when it is made and
again whenever the identity changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from attrs import evolve, frozen

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
    Slow,
    Subscribe,
    Unsubscribe,
    parsed,
)
from protocol.dialects.canton_market import MarketConflation
from protocol.dialects.canton_messages import (
    CHANNEL_WORDS,
    NAME_CHARACTERS_MAX,
    REFUSAL_TEXTS,
    SYSTEM_HEALTH,
    ErrorCode,
    authenticated,
    error,
    is_name,
    names,
    not_authenticated,
    ping,
    service_degraded,
    skipped,
    subscribed,
    subscribed_since,
    unsubscribed,
)
from protocol.dialects.conflation import Conflation
from protocol.dialects.positioned import is_since
from protocol.websocket import CloseCode

ACCOUNT_CHANNELS: Final = frozenset({"orders", "trades", "settlements", "account_notifications"})

SYMBOLS_MAX: Final = 100
"""Symbols in one request."""

CHANNELS_MAX: Final = 20
"""Channels in one request."""

AGGREGATION_MIN_S: Final = 0.1
AGGREGATION_MAX_S: Final = 60.0
_AGGREGATION = re.compile(r"([0-9]{1,5})(ms|s|m)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}

WRONG_SINCE: Final = "since must be a position, now or start, and goes with no aggregation"

LOGIN_FAILURES_MAX: Final = 3
MESSAGES_REFUSED_MAX: Final = 100
"""Messages over the rate in a row, each answered, before the connection is closed."""


@frozen
class CantonRules:
    """Intervals and limits of one connection, and which roles may do what."""

    heartbeat_interval_s: float
    heartbeat_timeout_s: float
    idle_timeout_s: float
    login_timeout_s: float
    messages_per_s_max: int
    message_bytes_max: int
    subscriptions_max: int
    compliance_roles: frozenset[str]
    any_account_roles: frozenset[str]


class _Refused(Exception):
    """A request is answered with an error."""

    def __init__(self, code: ErrorCode, **details: object) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


def why_unreadable(channel: str) -> str | None:
    """Why nobody can ever read this inner channel; None if somebody can."""
    kind, slash, name = channel.partition("/")
    if kind not in CHANNEL_WORDS:
        return "there is no such channel"
    if kind in ACCOUNT_CHANNELS or kind == "market_data":
        whose = "a symbol" if kind == "market_data" else "an account"
        return None if is_name(name) else f"{kind}/ and the name of {whose} is wanted"
    return f"{kind} is the whole name" if slash else None


class CantonDialect(Dialect):
    """One connection."""

    name: ClassVar[str] = "canton"
    conflation: ClassVar[Conflation] = MarketConflation()
    why_unreadable = staticmethod(why_unreadable)
    tells_of_gaps_on: ClassVar[str] = SYSTEM_HEALTH

    @staticmethod
    def gap_notice(feed: str, reason: str, utc_s: float) -> tuple[str, str]:
        return SYSTEM_HEALTH, service_degraded(f"feed {feed}", f"Events may be missing: {reason}", utc_s)

    def __init__(self, clock: Clock, rules: CantonRules, now: float) -> None:
        super().__init__(clock)
        self._rules = rules
        self._meter = Meter(rules.messages_per_s_max, now)
        self._identity: Identity | None = None
        self._subscriptions: dict[str, float] = {}
        """Inner channel names, each with its aggregation interval in seconds or 0."""
        self._heard_at = now
        self._active_at = now
        self._ping_at = now + rules.heartbeat_interval_s
        self._login_by = now + rules.login_timeout_s
        self._login_failures = 0
        self._messages_refused = 0
        self._said_why = False
        self._set_alarm()

    # --- what the peer says --------------------------------------------------------------------------------

    def receive(self, message: str | bytes, now: float) -> Commands:
        self._heard_at = now
        if not self._meter.allows(now):
            return self._refuse_rate(now)
        self._messages_refused = 0
        try:
            return self._handle(message, now)
        except _Refused as refused:
            self._active_at = now
            return (Send(error(refused.code, self.clock.iso(now), **refused.details)),)

    def _handle(self, message: str | bytes, now: float) -> Commands:
        request = parsed(message) if isinstance(message, str) else None
        if request is None:
            raise _Refused(
                ErrorCode.INVALID_REQUEST, reason="a message must be a JSON object in a text message"
            )
        kind = request.get("type")
        if kind == "pong":
            return NOTHING
        self._active_at = now
        if kind == "auth":
            return self._log_in(request)
        if kind not in ("subscribe", "unsubscribe"):
            raise _Refused(
                ErrorCode.INVALID_REQUEST, reason="type must be auth, subscribe, unsubscribe or pong"
            )
        if self._identity is None:
            raise _Refused(ErrorCode.AUTH_FAILED, reason="authentication_required")
        answer = self._subscribe if kind == "subscribe" else self._unsubscribe
        return self._each_channel(request, answer, now)

    def _log_in(self, request: dict[str, Any]) -> Commands:
        token = request.get("token")
        if not isinstance(token, str):
            raise _Refused(ErrorCode.INVALID_REQUEST, reason="token must be text")
        return (Login(token),)

    def login_ended(self, outcome: Identity | Refusal, now: float) -> Commands:
        """Log in, or refresh the token of the same account; anybody else's is refused on a live connection."""
        if isinstance(outcome, Identity) and not outcome.account:
            outcome = Refusal.INVALID
        if isinstance(outcome, Refusal):
            return self._login_failed(outcome, *REFUSAL_TEXTS[outcome])
        if self._identity is not None and outcome.account != self._identity.account:
            return self._login_failed(
                Refusal.INVALID, "INVALID_TOKEN", "This connection is authenticated for another account"
            )
        self._identity = outcome
        self._login_failures = 0
        self._set_alarm()
        return [Send(authenticated(outcome.account)), *self._leave_forbidden(now)]

    def _login_failed(self, refusal: Refusal, code: str, message: str) -> Commands:
        self._login_failures += 1
        answer = Send(not_authenticated(code, message))
        if refusal is not Refusal.TOO_MANY_CONNECTIONS and self._login_failures < LOGIN_FAILURES_MAX:
            return (answer,)
        return (answer, Close(CloseCode.POLICY_VIOLATION, message))

    def _refuse_rate(self, now: float) -> Commands:
        self._messages_refused += 1
        answer = Send(
            self._error(ErrorCode.RATE_LIMITED, now, messages_per_second=self._rules.messages_per_s_max)
        )
        if self._messages_refused < MESSAGES_REFUSED_MAX:
            return (answer,)
        self._said_why = True
        return (answer, Close(CloseCode.POLICY_VIOLATION, "rate limit exceeded"))

    # --- subscriptions -------------------------------------------------------------------------------------

    def _each_channel(
        self, request: dict[str, Any], answer: Callable[[str, dict[str, Any]], list[Command]], now: float
    ) -> Commands:
        """Answer for the one channel, or for each of `channels`, which may be names or whole requests."""
        commands: list[Command] = []
        for single in _single_requests(request):
            channel = single.get("channel")
            try:
                if not isinstance(channel, str):
                    raise _Refused(ErrorCode.INVALID_REQUEST, reason="channel must be text")
                if channel not in CHANNEL_WORDS:
                    raise _Refused(ErrorCode.INVALID_CHANNEL, channel=channel[:NAME_CHARACTERS_MAX])
                commands += answer(channel, single)
            except _Refused as refused:
                commands.append(Send(self._error(refused.code, now, **refused.details)))
        return commands

    def _subscribe(self, channel: str, request: dict[str, Any]) -> list[Command]:
        inner, about = self._meant(channel, request)
        every_s = 0.0
        if channel == "market_data" and request.get("aggregation") is not None:
            every_s = _interval_s(request["aggregation"])
            about["aggregation"] = request["aggregation"]
        since = request.get("since")
        if since is not None and (every_s or not is_since(since)):
            raise _Refused(ErrorCode.INVALID_REQUEST, channel=channel, reason=WRONG_SINCE)
        for name in inner:
            self._check_permission(channel, name)
        fresh = [name for name in inner if self._subscriptions.get(name) != every_s]
        if not fresh:
            raise _Refused(ErrorCode.ALREADY_SUBSCRIBED, channel=channel, **about)
        added = sum(name not in self._subscriptions for name in fresh)
        if len(self._subscriptions) + added > self._rules.subscriptions_max:
            raise _Refused(ErrorCode.SUBSCRIPTION_ERROR, channel=channel, reason="too_many_subscriptions")
        commands: list[Command] = [] if since is not None else [Send(subscribed(channel, about))]
        slow = Slow.CONFLATE if channel == "market_data" else Slow.CLOSE
        for name in fresh:
            if name in self._subscriptions:
                commands.append(Unsubscribe(name))
            self._subscriptions[name] = every_s
            if since is None:
                commands.append(Subscribe(name, slow, every_s))
            else:
                answer = subscribed_since(channel, about, name)
                commands.append(Subscribe(name, since=since, answer=answer, subscription=name))
        return commands

    def _unsubscribe(self, channel: str, request: dict[str, Any]) -> list[Command]:
        if channel == "market_data" and request.get("symbols") is None:
            inner: Sequence[str] = [name for name in self._subscriptions if name.startswith("market_data/")]
        else:
            inner, _ = self._meant(channel, request)
        left = [name for name in inner if name in self._subscriptions]
        if not left:
            raise _Refused(ErrorCode.NOT_SUBSCRIBED, channel=channel)
        for name in left:
            del self._subscriptions[name]
        return [*(Unsubscribe(name) for name in left), Send(unsubscribed(channel))]

    def _meant(self, channel: str, request: dict[str, Any]) -> tuple[Sequence[str], dict[str, object]]:
        """The inner channels that a request means, and what its confirmation repeats."""
        if channel in ACCOUNT_CHANNELS:
            assert self._identity is not None
            account = request.get("account_id", self._identity.account)
            if not is_name(account):
                raise _Refused(ErrorCode.INVALID_REQUEST, channel=channel, reason="account_id must be a name")
            return [f"{channel}/{account}"], {"account_id": account}
        if channel == "market_data":
            symbols = names(request.get("symbols"), SYMBOLS_MAX)
            if symbols is None:
                raise _Refused(
                    ErrorCode.INVALID_REQUEST,
                    channel=channel,
                    reason=f"symbols must be a list of 1 to {SYMBOLS_MAX} names",
                )
            return [f"market_data/{symbol}" for symbol in symbols], {"symbols": symbols}
        return [channel], {}

    def _check_permission(self, channel: str, name: str) -> None:
        if self._may_read(name):
            return
        if channel in ACCOUNT_CHANNELS:
            raise _Refused(ErrorCode.SUBSCRIPTION_ERROR, channel=channel, reason="insufficient_permissions")
        raise _Refused(ErrorCode.INSUFFICIENT_PERMISSIONS, channel=channel, reason="role_required")

    def _may_read(self, name: str) -> bool:
        identity = self._identity
        if identity is None:
            return False
        channel, _, account = name.partition("/")
        if channel in ACCOUNT_CHANNELS:
            return account == identity.account or bool(identity.roles & self._rules.any_account_roles)
        if channel == "compliance_events":
            return bool(identity.roles & self._rules.compliance_roles)
        return True

    def adopt_roles(self, compliance: frozenset[str], any_account: frozenset[str], now: float) -> Commands:
        """Who may read `compliance_events`, and the channels of every account, from now on."""
        self._rules = evolve(self._rules, compliance_roles=compliance, any_account_roles=any_account)
        return self._leave_forbidden(now)

    def _leave_forbidden(self, now: float) -> list[Command]:
        """After the token was refreshed, whose roles may be fewer, or roles came to mean less."""
        commands: list[Command] = []
        for name in [name for name in self._subscriptions if not self._may_read(name)]:
            del self._subscriptions[name]
            channel = name.partition("/")[0]
            commands.append(Unsubscribe(name))
            commands.append(Send(self._error(ErrorCode.INSUFFICIENT_PERMISSIONS, now, channel=channel)))
        return commands

    # --- time ----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> Commands:
        rules = self._rules
        if self.was_sent_to:
            self.was_sent_to = False
            self._active_at = now
        if self._identity is None and now >= self._login_by:
            return self._end(ErrorCode.AUTH_FAILED, now, CloseCode.POLICY_VIOLATION, "authentication_timeout")
        if self._identity is not None and now >= self._identity.expires_at:
            return self._end(ErrorCode.AUTH_FAILED, now, CloseCode.TOKEN_EXPIRED, "token_expired")
        if now - self._heard_at >= rules.heartbeat_timeout_s:
            return self._end(ErrorCode.CONNECTION_CLOSED, now, CloseCode.POLICY_VIOLATION, "no_heartbeat")
        if 0 < rules.idle_timeout_s <= now - self._active_at:
            return self._end(ErrorCode.CONNECTION_CLOSED, now, CloseCode.NORMAL, "inactivity")
        commands: list[Command] = []
        if now >= self._ping_at:
            self._ping_at = now + rules.heartbeat_interval_s
            commands.append(Send(ping(self.clock.iso(now))))
        self._set_alarm()
        return commands

    def closing(self, code: int, now: float) -> Sequence[str]:
        if self._said_why:
            return ()
        if code == CloseCode.MESSAGE_TOO_BIG:
            return (
                self._error(ErrorCode.MESSAGE_SIZE_EXCEEDED, now, bytes_max=self._rules.message_bytes_max),
            )
        return (self._error(ErrorCode.CONNECTION_CLOSED, now, close_code=code),)

    def skipped(self, channel: str, count: int, now: float) -> str | None:
        return skipped(channel.removeprefix("market_data/"), count, self.clock.iso(now))

    def _end(self, code: ErrorCode, now: float, close_code: int, reason: str) -> Commands:
        self._said_why = True
        self.wake_at = NEVER
        return (Send(self._error(code, now, reason=reason)), Close(close_code, reason))

    def _set_alarm(self) -> None:
        rules = self._rules
        moments = [self._ping_at, self._heard_at + rules.heartbeat_timeout_s]
        if rules.idle_timeout_s:
            moments.append(self._active_at + rules.idle_timeout_s)
        moments.append(self._login_by if self._identity is None else self._identity.expires_at)
        self.wake_at = min(moments)

    def _error(self, code: ErrorCode, now: float, **details: object) -> str:
        return error(code, self.clock.iso(now), **details)


def _single_requests(request: dict[str, Any]) -> list[dict[str, Any]]:
    channels = request.get("channels")
    if channels is None:
        return [request]
    if not isinstance(channels, list) or not 0 < len(channels) <= CHANNELS_MAX or "channel" in request:
        raise _Refused(
            ErrorCode.INVALID_REQUEST,
            reason=f"channels must be a list of 1 to {CHANNELS_MAX}, without channel",
        )
    shared = {key: value for key, value in request.items() if key not in ("type", "channels")}
    return [shared | item if isinstance(item, dict) else {**shared, "channel": item} for item in channels]


def _interval_s(text: object) -> float:
    """`100ms`, `1s`, `1m` in seconds."""
    match = _AGGREGATION.fullmatch(text) if isinstance(text, str) else None
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not AGGREGATION_MIN_S <= seconds <= AGGREGATION_MAX_S:
        raise _Refused(
            ErrorCode.INVALID_REQUEST, reason="aggregation must be from 100ms to 60s, as 250ms, 1s, 1m"
        )
    return seconds
