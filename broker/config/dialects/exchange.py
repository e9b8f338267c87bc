"""[websocket.exchange]: CONNMIX exchange, public markets and private accounts."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from broker.config.dialects.kind import Asked, DialectKind
from broker.config.dialects.limits import DialectLimits
from broker.config.tokens import HttpHookConfig, JwtConfig
from protocol.dialects.base import Clock, Identity, Refusal
from protocol.dialects.exchange import ExchangeDialect, ExchangeRules


@frozen
class Exchange(DialectKind):
    """`hook` or `jwt` says whose a token is; without both nobody can log in."""

    name: ClassVar[str] = "exchange"
    title: ClassVar[str] = "CONNMIX exchange"
    machine: ClassVar = ExchangeDialect

    hook: HttpHookConfig | None = None
    jwt: JwtConfig | None = None
    path: str = "/exchange-stream"
    publish_prefix: str = "ex:"
    """What stands before a channel's name in `POST /v1/mesh/publish`."""
    ping_interval_s: float = 30.0
    limits: DialectLimits = field(factory=DialectLimits)

    @property
    def login(self) -> HttpHookConfig | JwtConfig | None:
        return self.hook or self.jwt

    @property
    def mesh_prefix(self) -> str:
        return self.publish_prefix

    def open(
        self, asked: Asked, found: Identity | Refusal | None, clock: Clock, now: float
    ) -> ExchangeDialect:
        rules = ExchangeRules(self.limits.messages_per_s_max, self.limits.subscriptions_max)
        return ExchangeDialect(clock, rules, self.ping_interval_s, now)
