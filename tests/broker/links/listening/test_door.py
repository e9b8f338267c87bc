"""A listener's door: certificates that change, and how many may come in."""

from __future__ import annotations

import shutil
from pathlib import Path

import jwt
import pytest
from attrs import evolve
from support.certificates import Authority
from support.peer import Peer

from broker.config.model import Limits, Listener, Security, Tls
from broker.config.tokens import TokenConfig
from broker.core.engine import Engine
from broker.links.listening.door import Door, Occupancy
from broker.links.listening.tls import TlsError
from protocol.mqtt.packets import Connack, Connect

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "/CN=localhost", host=True)
    return Listener(0, tls=Tls(certificate, key))


@needs_openssl
def test_certificates_are_read_again(listener: Listener) -> None:
    door = Door(listener, Limits())
    before = door.tls_context
    assert before is not None
    assert listener.tls is not None
    assert door.renew_tls(listener.tls)
    assert door.tls_context is not before


@needs_openssl
def test_certificates_that_cannot_be_used_leave_the_old_ones(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(listener, Limits())
    before = door.tls_context
    assert listener.tls is not None
    listener.tls.certfile.write_text("nonsense")
    assert not door.renew_tls(listener.tls)
    assert door.tls_context is before
    assert "Unable to load server certificate" in caplog.text
    assert "stay in use" in caplog.text
    with pytest.raises(TlsError):
        Door(listener, Limits())


@needs_openssl
def test_a_door_without_tls_has_no_context(listener: Listener) -> None:
    assert Door(evolve(listener, tls=None), Limits()).tls_context is None


def test_a_door_is_full_at_its_own_limit_and_at_everybodys() -> None:
    occupancy = Occupancy()
    limits = Limits(global_max_connections=3)
    first = Door(Listener(0, max_connections=2), limits, occupancy=occupancy)
    second = Door(Listener(0), limits, occupancy=occupancy)
    first.enter()
    first.enter()
    assert (first.is_full(), second.is_full()) == (True, False)
    second.enter()
    assert (first.is_full(), second.is_full()) == (True, True)
    first.leave()
    assert (first.is_full(), second.is_full()) == (False, False)


@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_is_no_limit(limit: int) -> None:
    door = Door(Listener(0, max_connections=limit), Limits(global_max_connections=limit))
    for _ in range(1000):
        door.enter()
    assert not door.is_full()


def test_beyond_global_max_clients_only_known_clients_come_in() -> None:
    engine = Engine()
    door = Door(
        Listener(1, security=Security(allow_anonymous=True)),
        Limits(global_max_clients=2),
        connection_messages=False,
    )

    def connect(client_id: bytes) -> Peer:
        peer = Peer(engine, door)
        peer.send(Connect(client_id, False, 60))
        return peer

    assert connect(b"a").read() == [Connack(False, 0)]
    assert connect(b"b").read() == [Connack(False, 0)]
    assert connect(b"a").read() == [Connack(True, 0)]
    refused = connect(b"c")
    assert (refused.read_bytes(), refused.closed) == (b"", True)
    assert sorted(engine.sessions) == [b"a", b"b"]


SECRET = "s" * 32


@pytest.mark.parametrize(
    ("claims", "code"), [({"sub": "ada"}, 0), ({}, 5), ({"sub": 7}, 0), ({"sub": ""}, 5)]
)
def test_a_token_that_names_nobody_is_nobodys_client_id(claims: dict[str, object], code: int) -> None:
    """Goal: where the user name is the client id, a name that nothing proves takes no session over."""
    security = Security(tokens=True, token_config=TokenConfig(secrets=(SECRET,)))
    door = Door(Listener(1883, use_username_as_clientid=True, security=security), Limits())
    engine = Engine()
    peer = Peer(engine, door)
    token = jwt.encode(claims, SECRET, "HS256").encode()
    peer.send(Connect(b"x", True, 60, user_name=b"ada", password=token))
    assert peer.read() == [Connack(False, code)]
    assert list(engine.sessions) == ([] if code else [str(claims["sub"]).encode()])


def test_an_id_that_a_certificate_gives_is_the_one_that_a_connect_is_about() -> None:
    """Two of one such client come in one after the other while rules are read, whatever names they send."""
    wanted = Listener(0, use_username_as_clientid=True, proxy_v2_use_identity_as_username=True)
    connects = [Connect(b"c", True, 0, user_name=name) for name in (b"one", b"other", None)]
    door = Door(wanted, Limits())
    assert {door.claimed_id(one, b"device 7") for one in connects} == {b"device 7"}
    assert door.claimed_id(connects[0], None) == b""
    by_name = Door(evolve(wanted, proxy_v2_use_identity_as_username=False), Limits())
    assert [by_name.claimed_id(one, b"device 7") for one in connects] == [b"one", b"other", b""]
