"""[websocket.canton]: CantonDEX."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from broker.config.dialects.kind import Asked, DialectKind
from broker.config.dialects.limits import DialectLimits
from broker.config.tokens import JwtConfig
from protocol.dialects.base import Clock, Commands, Dialect, Identity, Refusal
from protocol.dialects.canton import CantonDialect, CantonRules


@frozen
class Canton(DialectKind):
    """The intervals and the number of connections are its document's."""

    name: ClassVar[str] = "canton"
    title: ClassVar[str] = "CantonDEX"
    machine: ClassVar = CantonDialect
    default_body: ClassVar[str] = "row"
    """A row is a whole message, with its own `type`."""

    jwt: JwtConfig
    path: str = "/v1/ws"
    heartbeat_interval_s: float = 15.0
    heartbeat_timeout_s: float = 30.0
    idle_timeout_s: float = 300.0
    login_timeout_s: float = 10.0
    connections_per_account_max: int = 10
    compliance_roles: tuple[str, ...] = ("compliance_officer",)
    """Who may read `compliance_events`."""
    any_account_roles: tuple[str, ...] = ("admin",)
    """Who may read the channels of every account."""
    limits: DialectLimits = field(factory=DialectLimits)

    @property
    def login(self) -> JwtConfig:
        return self.jwt

    @property
    def account_connections_max(self) -> int:
        return self.connections_per_account_max

    @property
    def rules(self) -> CantonRules:
        """The limits and times that a connection's machine holds its client to."""
        return CantonRules(
            heartbeat_interval_s=self.heartbeat_interval_s,
            heartbeat_timeout_s=self.heartbeat_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            login_timeout_s=self.login_timeout_s,
            messages_per_s_max=self.limits.messages_per_s_max,
            message_bytes_max=self.limits.message_bytes_max,
            subscriptions_max=self.limits.subscriptions_max,
            compliance_roles=frozenset(self.compliance_roles),
            any_account_roles=frozenset(self.any_account_roles),
        )

    def open(self, asked: Asked, found: Identity | Refusal | None, clock: Clock, now: float) -> CantonDialect:
        return CantonDialect(clock, self.rules, now)

    def renew(self, dialect: Dialect, now: float) -> Commands:
        assert isinstance(dialect, CantonDialect)
        return dialect.adopt_roles(frozenset(self.compliance_roles), frozenset(self.any_account_roles), now)
