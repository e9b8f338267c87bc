"""Which dialect a handshake's path means, and a new machine for it, as the configuration wants it."""

from __future__ import annotations

from collections.abc import Iterable

from broker.config.feeds import CantonDialect as CantonConfig
from broker.config.feeds import ExchangeDialect as ExchangeConfig
from broker.config.feeds import Gateway as GatewayConfig
from protocol.dialects.base import Clock, Dialect
from protocol.dialects.canton import CantonDialect, CantonRules
from protocol.dialects.exchange import ExchangeDialect, ExchangeRules


class PathDialects:
    """The dialects that are known by their path alone; Econia's path holds its token.

    Args:
        config: which dialects there are.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._exchange = config.exchange
        self._canton = config.canton
        self._exchange_rules = None if config.exchange is None else exchange_rules(config.exchange)
        self._canton_rules = None if config.canton is None else canton_rules(config.canton)

    def open(self, path: str, allowed: Iterable[str], clock: Clock, now: float) -> tuple[Dialect, int] | None:
        """A dialect for one connection and the largest message it takes, or None if the path means none.

        Args:
            path: of the handshake, without a query.
            allowed: the dialects that the listener speaks.
        """
        if self._is_path_of(self._exchange, "exchange", path, allowed):
            assert self._exchange is not None
            assert self._exchange_rules is not None
            dialect = ExchangeDialect(clock, self._exchange_rules, self._exchange.ping_interval_s, now)
            return dialect, self._exchange.limits.message_bytes_max
        if self._is_path_of(self._canton, "canton", path, allowed):
            assert self._canton is not None
            assert self._canton_rules is not None
            return CantonDialect(clock, self._canton_rules, now), self._canton.limits.message_bytes_max
        return None

    @staticmethod
    def _is_path_of(
        config: ExchangeConfig | CantonConfig | None, name: str, path: str, allowed: Iterable[str]
    ) -> bool:
        return config is not None and path == config.path and name in allowed

    def paths(self, allowed: Iterable[str]) -> list[str]:
        """What to tell somebody who asked for another path."""
        found = []
        if self._exchange is not None and "exchange" in allowed:
            found.append(f"{self._exchange.path} (CONNMIX exchange)")
        if self._canton is not None and "canton" in allowed:
            found.append(f"{self._canton.path} (CantonDEX)")
        return found


def exchange_rules(config: ExchangeConfig) -> ExchangeRules:
    return ExchangeRules(
        messages_per_s_max=config.limits.messages_per_s_max,
        subscriptions_max=config.limits.subscriptions_max,
    )


def canton_rules(config: CantonConfig) -> CantonRules:
    return CantonRules(
        heartbeat_interval_s=config.heartbeat_interval_s,
        heartbeat_timeout_s=config.heartbeat_timeout_s,
        idle_timeout_s=config.idle_timeout_s,
        login_timeout_s=config.login_timeout_s,
        messages_per_s_max=config.limits.messages_per_s_max,
        message_bytes_max=config.limits.message_bytes_max,
        subscriptions_max=config.limits.subscriptions_max,
        compliance_roles=frozenset(config.compliance_roles),
        any_account_roles=frozenset(config.any_account_roles),
    )
