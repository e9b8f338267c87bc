"""What SIGHUP takes over, and in which words it says of the rest that it stays or takes a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from broker.config.cluster import ClusterConfig
from broker.config.dialects.canton import Canton
from broker.config.dialects.econia import Econia
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.limits import DialectLimits
from broker.config.feeds import (
    FeedConfig,
    Fetch,
    Recovery,
    Replication,
    Route,
    Source,
)
from broker.config.history import HistoryRule
from broker.config.market import MarketConfig, Tap
from broker.config.model import AdminHttp, Config, ConfigError, Limits, Listener, Persistence, Security, Tls
from broker.config.reload import reloaded
from broker.config.tokens import HttpHookConfig, JwtConfig

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


def mistakes(old: Config, new: Config) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        reloaded(old, new)
    return refused.value.mistakes


ADDED = "Error: It is not currently possible to add/remove listeners when reloading the config file."


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ([Listener(1), Listener(2)], [Listener(1)], "Restart to open none and close port 2."),
        (
            [Listener(1), Listener(2)],
            [Listener(3), Listener(1), Listener(4, host="::1")],
            "Restart to open port 3, port 4 on ::1 and close port 2.",
        ),
        ([Listener(1)], [Listener(1, host="::1")], "Restart to open port 1 on ::1 and close port 1."),
        ([Listener(0)], [Listener(0), Listener(0)], "Restart to open port 0 and close none."),
        ([Listener(0, unix_path="/a")], [Listener(0, unix_path="/b")], "Restart to open /b and close /a."),
    ],
)
def test_listeners_neither_come_nor_go(old: list[Listener], new: list[Listener], words: str) -> None:
    found = mistakes(Config(tuple(old)), Config(tuple(new), source=Path("/etc/r.toml")))
    assert found == (f"{ADDED} Found at /etc/r.toml. {words}",)


def test_listeners_on_ports_of_the_kernel_s_choice_are_told_apart_by_their_order() -> None:
    old = Config((Listener(0), Listener(0), Listener(0)))
    new = Config((Listener(0, max_qos=1), Listener(0, max_qos=0), Listener(0, max_qos=2)))
    assert [listener.max_qos for listener in reloaded(old, new).listeners] == [1, 0, 2]


def test_a_listener_gets_its_rules_and_certificates_but_neither_protocol_nor_tls() -> None:
    tls = Tls(Path("old"), Path("k"), tls_version="tlsv1.2")
    old = Config((Listener(1, tls=tls), Listener(2), Listener(3, tls=tls)))
    other = Tls(Path("new"), Path("k"), cafile=Path("ca"), keyfile_password="p", tls_version="tlsv1.3")
    safe = Security(allow_anonymous=True)
    new = Config(
        (Listener(3), Listener(2, tls=other), Listener(1, security=safe, protocol="websockets", tls=other))
    )
    first, second, third = reloaded(old, new).listeners
    assert (first.security, first.protocol) == (safe, "mqtt")
    assert first.tls == Tls(
        Path("new"), Path("k"), cafile=Path("ca"), keyfile_password="p", tls_version="tlsv1.2"
    )
    assert (second.tls, third.tls) == (None, tls)


FEED = FeedConfig("main", "postgres://db/a", "listen", (Source("s", ("c",)),))


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("sources", (), "another [source]"),
        ("recoveries", (Recovery("t", ("k",), ()),), "another [[recover]]"),
        ("fetches", (Fetch("t", ("k",), ()),), "another [[fetch]]"),
        ("dsn", "postgres://db/b", "another dsn"),
        ("replication", Replication(slot="s"), "another [database.replication]"),
    ],
)
def test_a_feed_without_a_place_keeps_its_connection(key: str, value: Any, what: str) -> None:
    old, new = Config(feeds=(FEED,)), Config(feeds=(evolve(FEED, **{key: value}),))
    lost = "takes a restart while the kind is listen: rows notified in between would be lost."
    assert mistakes(old, new) == (f"[database] {what} {lost}",)
    keeping = Config(feeds=(evolve(FEED, kind="wal"),))
    changed = Config(feeds=(evolve(FEED, kind="wal", **{key: value}),))
    assert reloaded(keeping, changed).feeds == changed.feeds


def test_routes_and_credentials_of_any_feed_are_taken() -> None:
    changed = evolve(
        FEED, routes=(Route("s", ("t",)),), dsn="postgres://db/a?password=new", check_interval_s=1.0
    )
    assert reloaded(Config(feeds=(FEED,)), Config(feeds=(changed,))).feeds == (changed,)


def test_a_feed_stays_the_feed_and_the_kind_that_it_is() -> None:
    old = Config(feeds=(FEED,))
    other = "[database]: another feed than before"
    assert mistakes(old, Config()) == (f"{other} (none) takes a restart.",)
    assert mistakes(old, Config(feeds=(evolve(FEED, name="b"),))) == (f"{other} (b) takes a restart.",)
    assert mistakes(old, Config(feeds=(evolve(FEED, kind="wal", sources=()),))) == (
        "[database] kind stays 'listen'; another takes a restart.",
    )


def test_all_mistakes_come_together_and_nothing_is_taken() -> None:
    old = Config((Listener(1, dialects=("mqtt",)),), gateway=OLD, feeds=(FEED,))
    new = Config((Listener(1, dialects=("econia",)),), market=MarketConfig())
    assert len(mistakes(old, new)) == 6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("admin", AdminHttp(1)),
        ("metrics", AdminHttp(1)),
        ("drain_s", 5.0),
        ("drain_to", "other:1883"),
        ("shutdown_grace_s", 1.0),
        ("sys_interval_s", 3),
    ],
)
def test_what_no_client_relies_on_is_taken_whole(key: str, value: Any) -> None:
    new = Config(source=Path("/etc/r.toml"), **{key: value})
    taken = reloaded(Config(source=Path("/etc/r.toml")), new)
    assert (getattr(taken, key), taken.warnings) == (value, ())


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("cluster", ClusterConfig(("nats://n",)), "[cluster]"),
        ("history", (HistoryRule(("a",)),), "[[history]]"),
        ("limits", Limits(max_queued_messages=5), "[limits]"),
        ("persistence", Persistence(persistence_file="x"), "[persistence]"),
        ("user", "other", "user"),
    ],
)
def test_what_only_a_restart_changes_is_warned_about(key: str, value: Any, what: str) -> None:
    old = Config(source=Path("/etc/r.toml"))
    taken = reloaded(old, evolve(old, warnings=("before",), **{key: value}))
    assert taken == old
    assert taken.warnings == ("before", f"{what} was changed; that takes a restart, and stays as it was.")
    assert reloaded(old, evolve(old, source=Path("/etc/m.conf"), **{key: value})).warnings == (), (
        "as mosquitto"
    )


def test_another_database_for_market_data_is_warned_about() -> None:
    old = Config(
        source=Path("r.toml"), market=MarketConfig(taps=(Tap("s", ()),), database=FeedConfig("main", "old"))
    )
    assert old.market is not None
    new = evolve(old, market=evolve(old.market, database=FeedConfig("main", "new")))
    taken = reloaded(old, new)
    assert taken.market == old.market
    [warning] = taken.warnings
    assert warning.startswith("another [database] for [market] was changed;")


def test_the_way_to_nats_is_taken_over_and_the_rest_of_the_cluster_takes_a_restart() -> None:
    old = Config(source=Path("/etc/r.toml"), cluster=ClusterConfig(("nats://n",), user="a", password="old"))
    assert old.cluster is not None
    wanted = evolve(old.cluster, nats=("nats://m",), user="b", password="new", token="t")
    taken = reloaded(old, evolve(old, cluster=wanted))
    assert (taken.cluster, taken.warnings) == (wanted, ())
    taken = reloaded(old, evolve(old, cluster=evolve(wanted, replicas=1)))
    assert taken.cluster == wanted
    assert taken.warnings == ("[cluster] was changed; that takes a restart, and stays as it was.",)
