"""Which dialect a handshake's path means, and a new machine for it, as the configuration wants it."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from broker.config.feeds import CantonDialect as CantonConfig
from broker.config.feeds import ExchangeDialect as ExchangeConfig
from broker.config.feeds import Gateway as GatewayConfig
from broker.config.tokens import RowcastDialect as RowcastConfig
from protocol.dialects.base import Clock, Dialect
from protocol.dialects.canton import CantonDialect, CantonRules
from protocol.dialects.exchange import ExchangeDialect, ExchangeRules
from protocol.dialects.rowcast import RowcastDialect, RowcastRules
from protocol.grants import Grants, filled


@frozen
class PathDialect:
    """A dialect that is known by its path alone; Econia's path holds its token.

    `open` makes the machine for one connection, accepted at the given monotonic seconds.
    """

    name: str
    title: str
    path: str
    message_bytes_max: int
    open: Callable[[Clock, float], Dialect]


def path_dialects(config: GatewayConfig) -> tuple[PathDialect, ...]:
    """Those that are configured."""
    found = []
    if config.exchange is not None:
        found.append(_exchange(config.exchange))
    if config.canton is not None:
        found.append(_canton(config.canton))
    if config.rowcast is not None:
        found.append(_rowcast(config.rowcast))
    return tuple(found)


def _exchange(config: ExchangeConfig) -> PathDialect:
    rules = exchange_rules(config)
    return PathDialect(
        ExchangeDialect.name,
        "CONNMIX exchange",
        config.path,
        config.limits.message_bytes_max,
        lambda clock, now: ExchangeDialect(clock, rules, config.ping_interval_s, now),
    )


def _canton(config: CantonConfig) -> PathDialect:
    rules = canton_rules(config)
    return PathDialect(
        CantonDialect.name,
        "CantonDEX",
        config.path,
        config.limits.message_bytes_max,
        lambda clock, now: CantonDialect(clock, rules, now),
    )


def _rowcast(config: RowcastConfig) -> PathDialect:
    rules = rowcast_rules(config)
    return PathDialect(
        RowcastDialect.name,
        "Rowcast",
        config.path,
        config.limits.message_bytes_max,
        lambda clock, now: RowcastDialect(clock, rules, now),
    )


def rowcast_rules(config: RowcastConfig) -> RowcastRules:
    return RowcastRules(
        ping_interval_s=config.ping_interval_s,
        messages_per_s_max=config.limits.messages_per_s_max,
        subscriptions_max=config.limits.subscriptions_max,
        anonymous=Grants(filled(config.anonymous_subscribe, ""), filled(config.anonymous_publish, "")),
    )


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
