"""Who a session belongs to, where a name does not come from CONNECT, or a version keeps sessions otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from support.peer import Peer
from support.peer5 import Peer5

from broker.config.model import Limits, Listener, Security
from broker.config.tokens import TokenConfig
from broker.core.engine import Engine
from broker.links.listening.door import Door
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connack, Connect, Disconnect, Publish, Pubrel, Subscribe, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY

SECRET = "s" * 32


def engine_of(inflight_messages: int = 20) -> Engine:
    engine = Engine(window=Window(inflight_messages=inflight_messages))
    engine.trie.restrict(True)
    return engine


def door_of(security: Security, port: int = 1883) -> Door:
    return Door(Listener(port=port, security=security), Limits(), connection_messages=False)


def open_door() -> Door:
    return door_of(Security(allow_anonymous=True), 1)


def topics(peer: Peer) -> list[bytes]:
    return [packet.topic for packet in peer.read() if isinstance(packet, Publish)]


# --- certificates ------------------------------------------------------------------------------------------


@pytest.fixture
def certified(tmp_path: Path) -> Door:
    acl = tmp_path / "acl"
    acl.write_text("user alice\ntopic readwrite secret\npattern readwrite u/%u/#\n")
    acl.chmod(0o600)
    security = Security(acl_file=acl)
    listener = Listener(port=1883, security=security, proxy_v2_use_identity_as_username=True)
    return Door(listener, Limits(), connection_messages=False)


def with_certificate(engine: Engine, door: Door, identity: bytes | None, name: bytes | None = None) -> Peer:
    peer = Peer(engine, door)
    peer.link.certificate_identity = identity
    peer.send(Connect(b"x", False, 60, user_name=name))
    return peer


def test_the_name_of_a_certificate_counts_and_no_other(certified: Door) -> None:
    engine = engine_of()
    publisher = Peer(engine, open_door())
    publisher.send(Connect(b"publisher", True, 60))
    bob = with_certificate(engine, certified, b"bob", name=b"alice")
    bob.send(Subscribe(1, ((b"#", 0),)))
    publisher.send(Publish(b"secret", b""), Publish(b"u/alice/x", b""), Publish(b"u/bob/x", b""))
    assert topics(bob) == [b"u/bob/x"]
    assert with_certificate(engine, certified, None, name=b"alice").read() == [Connack(False, 4)]


def test_the_next_certificate_gets_nothing_of_the_one_before(certified: Door) -> None:
    engine = engine_of(inflight_messages=1)
    publisher = Peer(engine, open_door())
    publisher.send(Connect(b"publisher", True, 60))
    alice = with_certificate(engine, certified, b"alice")
    alice.send(Subscribe(1, ((b"#", 1),)))
    for packet_id in (1, 2):
        publisher.send(Publish(b"secret", b"%d" % packet_id, 1, packet_id=packet_id))
    assert topics(alice) == [b"secret"]
    bob = with_certificate(engine, certified, b"bob")
    publisher.send(Publish(b"secret", b"3"))
    assert topics(bob) == []
    assert topics(with_certificate(engine, certified, b"alice")) == [], "what bob could not have is gone"


@pytest.mark.parametrize("name", [b"alice/cmd", b"alice+", b"#", b"+"])
def test_a_certificate_with_a_name_that_is_a_filter_matches_no_pattern(certified: Door, name: bytes) -> None:
    engine = engine_of()
    reader = Peer(engine, open_door())
    reader.send(Connect(b"reader", True, 60), Subscribe(1, ((b"#", 0),)))
    peer = with_certificate(engine, certified, name)
    peer.send(
        Subscribe(1, ((b"#", 0),)), Publish(b"u/%b/x" % name.replace(b"#", b"h").replace(b"+", b"p"), b"")
    )
    publisher = Peer(engine, open_door())
    publisher.send(Connect(b"publisher", True, 60), Publish(b"u/alice/cmd/x", b""), Publish(b"u/x/x", b""))
    assert topics(peer) == []
    assert topics(reader) == [b"u/alice/cmd/x", b"u/x/x"]


# --- tokens ------------------------------------------------------------------------------------------------


def with_token(engine: Engine, door: Door, will: Will | None = None, **claims: Any) -> Peer:
    peer = Peer(engine, door)
    token = jwt.encode({"sub": "ada", **claims}, SECRET).encode()
    peer.send(Connect(b"x", False, 60, user_name=b"any", password=token, will=will))
    return peer


@pytest.fixture
def by_token() -> Door:
    return door_of(Security(tokens=True, token_config=TokenConfig(secrets=(SECRET,))))


@pytest.mark.parametrize("stays", [False, True])
def test_another_token_of_the_same_name_has_its_own_rights(by_token: Door, stays: bool) -> None:
    engine = engine_of(inflight_messages=1)
    publisher = Peer(engine, open_door())
    publisher.send(Connect(b"publisher", True, 60))
    first = with_token(engine, by_token, subscribe=["#"], publish=["#"])
    first.send(Subscribe(1, ((b"#", 1),)))
    first.read()
    first.send(Publish(b"orders", b"unreleased", 2, packet_id=9))
    for packet_id in (1, 2, 3):
        publisher.send(Publish(b"secret", b"%d" % packet_id, 1, packet_id=packet_id))
    if not stays:
        first.drop()
    second = with_token(engine, by_token, subscribe=["public"], publish=[])
    publisher.send(Publish(b"secret", b""), Publish(b"public", b""))
    second.send(Pubrel(9), Publish(b"public", b"not mine"))
    assert topics(second) == [b"public"]
    second.drop()
    third = with_token(engine, by_token, subscribe=["#"])
    publisher.send(Publish(b"secret", b"late"))
    assert topics(third) == [b"secret"], "nothing of before, and nothing remembered of the second's rights"


def test_a_will_is_judged_by_the_token_that_brought_it(by_token: Door) -> None:
    engine = engine_of()
    reader = Peer(engine, open_door())
    reader.send(Connect(b"reader", True, 60), Subscribe(1, ((b"#", 0),)))
    will = Will(b"secret", b"", 0, False)
    with_token(engine, by_token, will, publish=["public"]).drop()
    assert topics(reader) == []
    with_token(engine, by_token, will, publish=["secret"]).drop()
    assert topics(reader) == [b"secret"]


# --- versions ----------------------------------------------------------------------------------------------


def connect(engine: Engine, level: int, clean: bool, expiry: int | None = None) -> tuple[Peer, bool]:
    """A client `x`, and whether its session was there."""
    peer = (Peer5 if level == 5 else Peer)(engine)
    properties = Properties() if expiry is None else Properties({SESSION_EXPIRY: expiry})
    before = engine.sessions.get(b"x")
    peer.send(Connect(b"x", clean, 60, level, properties=properties))
    assert peer.read() != []
    assert not peer.closed
    return peer, engine.sessions[b"x"] is before  # 3.1 is not told


def later(engine: Engine, seconds: float) -> None:
    engine.now += seconds
    engine.expire()
    engine.flush()


@pytest.mark.parametrize("level", [3, 4])
def test_a_session_that_would_expire_lasts_when_an_older_client_resumes_it(level: int) -> None:
    engine = engine_of()
    peer, _ = connect(engine, 5, True, 10)
    peer.send(Subscribe(1, ((b"t", 1),)))
    peer.send(Disconnect())
    later(engine, 5)
    older, present = connect(engine, level, False)
    assert present
    later(engine, 100)
    assert not older.closed
    older.send(Disconnect())
    later(engine, 1000)
    assert connect(engine, level, False)[1], "a session of 3.1.1 has no expiry"


@pytest.mark.parametrize("level", [3, 4])
def test_a_session_of_an_older_client_ends_as_one_of_5_0_that_resumes_it_says(level: int) -> None:
    engine = engine_of()
    connect(engine, level, False)[0].drop()
    newer, present = connect(engine, 5, False)
    assert present
    newer.drop()
    assert connect(engine, level, False)[1] is False, "without an expiry interval it ends with its connection"
    connect(engine, 5, False, 10)[0].drop()
    later(engine, 11)
    assert connect(engine, level, False)[1] is False


def test_expiry_is_that_of_the_last_connection() -> None:
    engine = engine_of()
    connect(engine, 5, True, 1000)[0].drop()
    connect(engine, 5, False, 10)[0].drop()
    later(engine, 11)
    assert connect(engine, 5, False, 10)[1] is False
