"""What SIGHUP takes over of the WebSocket dialects' settings, and what it says of the rest."""

from __future__ import annotations

import pytest
from attrs import evolve

from broker.config.dialects.canton import Canton
from broker.config.dialects.econia import Econia
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.limits import DialectLimits
from broker.config.feeds import HttpHookConfig, JwtConfig
from broker.config.model import Config, ConfigError, Listener
from broker.config.reload import reloaded

OLD = GatewayConfig(
    econia=Econia(JwtConfig("old secret")),
    exchange=Exchange(hook=HttpHookConfig("http://old/")),
    canton=Canton(JwtConfig("old secret")),
)
NEW = GatewayConfig(
    econia=Econia(JwtConfig("new secret"), ping_interval_s=1.0),
    exchange=Exchange(jwt=JwtConfig("new secret"), limits=DialectLimits(messages_per_s_max=5)),
    canton=Canton(JwtConfig("new secret"), idle_timeout_s=7.0, compliance_roles=("auditor",)),
    outbox_bytes_max=1000,
    message_bytes_max=2000,
    handshake_timeout_s=3.0,
    trusted_proxies=("10.0.0.0/8",),
)


def test_secrets_hooks_intervals_limits_and_roles_are_taken_over_without_a_word() -> None:
    result = reloaded(Config(gateway=OLD), Config(gateway=NEW))
    assert result.gateway == NEW
    assert result.warnings == ()


def test_paths_and_prefixes_stay_and_the_log_says_so() -> None:
    assert NEW.exchange is not None
    moved = evolve(NEW, exchange=evolve(NEW.exchange, path="/other", publish_prefix="other:"))
    with pytest.raises(ConfigError) as caught:
        reloaded(Config(gateway=OLD), Config(gateway=moved, warnings=("before",)))
    assert caught.value.mistakes == (
        "[websocket.exchange] path stays '/exchange-stream'; another takes a restart.",
        "[websocket.exchange] publish_prefix stays 'ex:'; another takes a restart.",
    )


@pytest.mark.parametrize(
    ("old", "new", "word"), [(OLD, GatewayConfig(), "removed"), (GatewayConfig(), OLD, "added")]
)
def test_a_dialect_comes_and_goes_with_a_restart_only(
    old: GatewayConfig, new: GatewayConfig, word: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        reloaded(Config(gateway=old), Config(gateway=new))
    assert caught.value.mistakes == tuple(
        f"[websocket.{name}] was {word}; that takes a restart." for name in ("econia", "exchange", "canton")
    )


def test_a_listener_keeps_its_dialects() -> None:
    old, new = (Listener(8000, protocol="websockets", dialects=names) for names in (("mqtt",), ("econia",)))
    with pytest.raises(ConfigError) as caught:
        reloaded(Config(listeners=(old,)), Config(listeners=(new,)))
    assert caught.value.mistakes == ("The dialects on port 8000 stay mqtt: others take a restart.",)
