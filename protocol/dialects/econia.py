"""Econia's WebSocket feed, as postgres-websockets 0.11 serves it: the token in the path decides everything.

Notifications are relayed as the unchanged text.  What a writer sends reaches all readers of its channels,
wrapped with its claims.  Sources: econia `doc/doc-site/docs/off-chain/dss/websocket.md`, and the README of
postgres-websockets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import unquote

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
    Meter,
    Publish,
    Refusal,
    Slow,
    Subscribe,
    json_text,
)
from protocol.websocket import CloseCode

MODES_THAT_READ = frozenset({"r", "rw"})
MODES_THAT_WRITE = frozenset({"w", "rw"})

READER_MESSAGES_PER_S_MAX: Final = 20
"""Its messages mean nothing; above this rate its connection is read that slowly."""
WRITER_MESSAGES_PER_S_MAX: Final = 1_000

REFUSAL_TEXTS: Mapping[Refusal, str] = {
    Refusal.EXPIRED: "Token expired",
    Refusal.NOT_YET_VALID: "Error: JWTNotYetValid",
    Refusal.INVALID: "Error: JWSError JWSInvalidSignature",
    Refusal.UNAVAILABLE: "The token can't be checked now",
    Refusal.TOO_MANY_CONNECTIONS: "Too many connections",
}


@frozen
class Credentials:
    """What the path of a handshake holds.  `channel` None asks for all channels that the token names."""

    token: str = field(repr=False)
    channel: str | None = None


@frozen
class Admission:
    """What a token lets its bearer do."""

    channels: tuple[str, ...]
    mode: str
    claims: Mapping[str, Any] = field(repr=False)
    expires_at: float = NEVER
    names_channels: bool = True
    """Its token does; otherwise it has what was requested, and might have had any other."""


def credentials_of(template: str, target: str) -> Credentials | None:
    """Take the token and the channel out of a request's target.

    Args:
        template: as `/{channel?}/{jwt}`; literal segments before the placeholders are allowed.
        target: the request's target; a query is ignored, the channel is percent-decoded.

    Returns:
        None if the target has another shape.
    """
    wanted = template.strip("/").split("/")
    found = target.partition("?")[0].removeprefix("/").split("/")
    literals = [segment for segment in wanted if not segment.startswith("{")]
    if found[: len(literals)] != literals:
        return None
    rest = found[len(literals) :]
    takes_channel = "{channel?}" in wanted or "{channel}" in wanted
    if len(rest) == 2 and takes_channel:
        return Credentials(token=rest[1], channel=unquote(rest[0]))
    if len(rest) == 1 and "{channel}" not in wanted:
        return Credentials(token=rest[0])
    return None


def admit(
    identity: Identity,
    requested: str | None,
    mode_claim: str,
    channels_claims: Sequence[str],
    channels_required: bool = True,
) -> Admission | str:
    """Decide what a verified token opens, as postgres-websockets does but for tokens without channels.

    Args:
        identity: its claims.
        requested: the channel in the path, if there is one.
        mode_claim: the claim that holds `r`, `w` or `rw`.
        channels_claims: claims with one channel (text) or several (a list); the single one is put first.
        channels_required: refuse a token without any; False lets it have whatever channel is requested, as
            postgres-websockets does.

    Returns:
        The admission, or the reason of the refusal.
    """
    claims = identity.claims
    mode = claims.get(mode_claim)
    if not isinstance(mode, str):
        return "Missing mode"
    if mode not in MODES_THAT_READ | MODES_THAT_WRITE:
        return "Unknown mode: it must be r, w or rw"
    claimed = _claimed_channels(claims, channels_claims)
    if claimed is None:
        return "Claims of channels must be text or lists of text"
    if not claimed and channels_required:
        return "No allowed channels"
    if any(_has_wildcard(channel) for channel in [*claimed, requested or ""]):
        return "Wildcards are not supported in channels"
    if requested is None:
        channels = claimed
    elif claimed:
        channels = [requested] if requested in claimed else []
    else:
        channels = [requested]
    if not channels or "" in channels:
        return "No allowed channels"
    # Only a writer's messages show its claims.
    kept = claims if mode in MODES_THAT_WRITE else {}
    if not _is_finite(kept):
        return "Claims of a writer must be JSON, without numbers beyond all bounds"
    return Admission(tuple(channels), mode, kept, identity.expires_at, bool(claimed))


def _is_finite(claims: Mapping[str, Any]) -> bool:
    """Whether they can be shown to a reader: what a parser takes as infinite (1e400) no JSON can say."""
    try:
        json.dumps(claims, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


def why_unreadable(channel: str) -> str | None:
    """Why no token reads this channel; None if one may."""
    return "wildcards are not supported" if _has_wildcard(channel) else None


def _has_wildcard(channel: str) -> bool:
    """Whether somebody may have meant more than one channel by it, who would wait in vain for the others."""
    return "*" in channel or "#" in channel or "+" in channel.split("/")


def _claimed_channels(claims: Mapping[str, Any], names: Sequence[str]) -> list[str] | None:
    """The channels of all these claims; None if one of them is neither text nor a list of text."""
    single: list[str] = []
    several: list[str] = []
    for name in names:
        value = claims.get(name)
        if isinstance(value, str):
            single.append(value)
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            several.extend(value)
        elif value is not None:
            return None
    return list(dict.fromkeys(single + several))


class EconiaDialect(Dialect):
    """One admitted connection."""

    name: ClassVar[str] = "econia"
    why_unreadable = staticmethod(why_unreadable)

    def __init__(self, clock: Clock, admission: Admission, ping_interval_s: float) -> None:
        super().__init__(clock, ping_interval_s)
        self._admission = admission
        self.wake_at = admission.expires_at
        writes = admission.mode in MODES_THAT_WRITE
        self._meter = Meter(WRITER_MESSAGES_PER_S_MAX if writes else READER_MESSAGES_PER_S_MAX, 0.0)

    def open(self, now: float) -> Commands:
        if self._admission.mode not in MODES_THAT_READ:
            return NOTHING
        return [Subscribe(channel, Slow.CLOSE) for channel in self._admission.channels]

    def receive(self, message: str | bytes, now: float) -> Commands:
        """A message of a writer goes to all its channels; a reader's is read slowly, and ignored."""
        self.rests_until = self._meter.charge(1, now)
        if self._admission.mode not in MODES_THAT_WRITE:
            return NOTHING
        if isinstance(message, bytes):
            try:
                message = message.decode()
            except UnicodeDecodeError:
                return (Close(CloseCode.INVALID_DATA, "a message must be UTF-8 text"),)
        claims = {**self._admission.claims, "message_delivered_at": round(self.clock.utc_s(now), 6)}
        commands: list[Command] = []
        for channel in self._admission.channels:
            event = {"event": "WebsocketMessage", "channel": channel, "payload": message, "claims": claims}
            commands.append(Publish(channel, json_text(event)))
        return commands

    def require_channels(self) -> Commands:
        """A token must name its channels from now on."""
        if self._admission.names_channels:
            return NOTHING
        self.wake_at = NEVER
        return (Close(CloseCode.POLICY_VIOLATION, "No allowed channels"),)

    def tick(self, now: float) -> Commands:
        if now < self._admission.expires_at:
            return NOTHING
        self.wake_at = NEVER
        return (Close(CloseCode.TOKEN_EXPIRED, "JWT expired"),)
