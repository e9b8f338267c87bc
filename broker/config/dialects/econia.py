"""[websocket.econia]: a market's events as Econia's clients read them; the path holds a token."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from attrs import frozen

from broker.config.dialects.kind import Asked, DialectKind, NotAdmitted
from broker.config.tokens import JwtConfig
from protocol.dialects.base import Clock, Commands, Dialect, Identity, Refusal
from protocol.dialects.econia import REFUSAL_TEXTS, EconiaDialect, admit, credentials_of

_PATH: Final = re.compile(r"(/[^/?{}]+)*(/\{channel\??\})?/\{jwt\}")


@frozen
class Econia(DialectKind):
    """Econia's dialect: channels and token in the path, nothing to subscribe to."""

    name: ClassVar[str] = "econia"
    title: ClassVar[str] = "Econia"
    machine: ClassVar = EconiaDialect
    relays_envelopes: ClassVar[bool] = True

    jwt: JwtConfig
    path: str = "/{channel?}/{jwt}"
    channels_required: bool = True
    """Refuse a token that names no channels; False opens every channel to it, as postgres-websockets does."""
    ping_interval_s: float = 30.0

    @property
    def login(self) -> JwtConfig:
        return self.jwt

    def asked(self, target: str) -> Asked | None:
        credentials = credentials_of(self.path, target)
        return None if credentials is None else Asked(credentials.token, credentials.channel)

    def path_fault(self) -> str:
        if self.path.startswith("/") and _PATH.fullmatch(self.path):
            return ""
        return 'it begins with a slash and ends with {jwt}, as "/{channel?}/{jwt}"'

    def open(self, asked: Asked, found: Identity | Refusal | None, clock: Clock, now: float) -> EconiaDialect:
        if isinstance(found, Refusal):
            raise NotAdmitted(REFUSAL_TEXTS[found])
        admission = admit(
            found or Identity(""),  # without a token, the rights of a token that claims nothing
            asked.channel,
            self.jwt.mode_claim,
            self.jwt.channels_claims,
            self.channels_required,
        )
        if isinstance(admission, str):
            raise NotAdmitted(admission)
        return EconiaDialect(clock, admission, self.ping_interval_s)

    def renew(self, dialect: Dialect, now: float) -> Commands:
        assert isinstance(dialect, EconiaDialect)
        return dialect.require_channels() if self.channels_required else ()
