"""[websocket.rowcast]: our own, whose clients read and write MQTT topics and miss nothing over a reconnect."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from broker.config.dialects.kind import Asked, DialectKind
from broker.config.dialects.limits import RowcastLimits
from broker.config.tokens import TokenConfig
from protocol.dialects.base import Clock, Commands, Dialect, Identity, Refusal
from protocol.dialects.rowcast import RowcastDialect, RowcastRules
from protocol.grants import Grants, filled


@frozen
class Rowcast(DialectKind):
    """Rowcast's own dialect: any topic, positions, and recovery of what was missed."""

    name: ClassVar[str] = "rowcast"
    title: ClassVar[str] = "Rowcast"
    machine: ClassVar = RowcastDialect
    has_channels: ClassVar[bool] = False

    path: str = "/rowcast"
    ping_interval_s: float = 25.0
    anonymous_subscribe: tuple[str, ...] = ()
    """Topic filters for those who show no token."""
    anonymous_publish: tuple[str, ...] = ()
    limits: RowcastLimits = field(factory=RowcastLimits)
    tokens: TokenConfig = field(factory=TokenConfig)
    """The configuration's [tokens]."""

    @property
    def login(self) -> TokenConfig:
        return self.tokens

    @property
    def mesh_prefix(self) -> str:
        return ""

    @property
    def rules(self) -> RowcastRules:
        """The limits and rights that a connection's machine holds its client to."""
        return RowcastRules(
            ping_interval_s=self.ping_interval_s,
            messages_per_s_max=self.limits.messages_per_s_max,
            subscriptions_max=self.limits.subscriptions_max,
            anonymous=Grants(filled(self.anonymous_subscribe, ""), filled(self.anonymous_publish, "")),
        )

    def open(
        self, asked: Asked, found: Identity | Refusal | None, clock: Clock, now: float
    ) -> RowcastDialect:
        return RowcastDialect(clock, self.rules, now)

    def renew(self, dialect: Dialect, now: float) -> Commands:
        assert isinstance(dialect, RowcastDialect)
        return dialect.adopt_anonymous(self.rules.anonymous)
