"""What a door says to a CONNECT, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from broker.config.model import Limits, Listener, Security
from broker.links.listening.door import Door
from broker.links.listening.judgement import Accepted, Judgement, Refused, Slow, TurnedAway
from protocol.mqtt.packets import Connect, ConnectReturnCode, Will

OPEN = Listener(0, security=Security(allow_anonymous=True))
CLOSED = Listener(0)


def judged(
    listener: Listener, packet: Connect, limits: Limits | None = None, **sessions: object
) -> Judgement:
    door = Door(listener, limits or Limits(), connection_messages=False)
    return door.judge(packet, None, {name.encode(): one for name, one in sessions.items()})


def secured(**keys: Any) -> Listener:
    return evolve(OPEN, security=evolve(OPEN.security, **keys))


CONNECT = Connect(b"c", True, 60)
IDENTIFIER = ConnectReturnCode.IDENTIFIER_REJECTED
NOT_AUTHORIZED = ConnectReturnCode.NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("listener", "packet", "code"),
    [
        (CLOSED, CONNECT, NOT_AUTHORIZED),
        (
            evolve(OPEN, accept_protocol_versions=(5,)),
            CONNECT,
            ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
        ),
        (OPEN, Connect(b"", False, 60), IDENTIFIER),  # [MQTT-3.1.3-8]
        (secured(allow_zero_length_clientid=False), Connect(b"", True, 60), IDENTIFIER),
        (evolve(OPEN, max_keepalive_s=30), CONNECT, IDENTIFIER),
        (evolve(OPEN, max_keepalive_s=30), Connect(b"c", True, 0), IDENTIFIER),
        (evolve(OPEN, max_keepalive_s=65535), Connect(b"c", True, 0), IDENTIFIER),
        (secured(clientid_prefixes="dev-"), CONNECT, NOT_AUTHORIZED),
        (evolve(OPEN, use_username_as_clientid=True), CONNECT, NOT_AUTHORIZED),
    ],
)
def test_refusals(listener: Listener, packet: Connect, code: int) -> None:
    judgement = judged(listener, packet)
    assert isinstance(judgement, Refused)
    assert judgement.code == code
    assert judgement.reason


def test_a_will_beyond_the_limit_is_refused() -> None:
    packet = Connect(b"c", True, 60, will=Will(b"t", b"12345", 0, False))
    assert isinstance(judged(OPEN, packet, Limits(message_size_limit_bytes=4)), Refused)
    assert isinstance(judged(OPEN, packet, Limits(message_size_limit_bytes=5)), Accepted)


@pytest.mark.parametrize(
    ("listener", "packet", "client_id"),
    [
        (OPEN, CONNECT, b"c"),
        (secured(clientid_prefixes="dev-"), Connect(b"dev-1", True, 60), b"dev-1"),
        (evolve(OPEN, max_keepalive_s=30), Connect(b"c", True, 30), b"c"),
        (OPEN, Connect(b"c", True, 0), b"c"),
        (OPEN, Connect(b"c", True, 65535), b"c"),
        (
            evolve(OPEN, use_username_as_clientid=True),
            Connect(b"c", True, 60, user_name=b"ada", password=b"x"),
            b"ada",
        ),
    ],
)
def test_who_comes_in_under_which_id(listener: Listener, packet: Connect, client_id: bytes) -> None:
    judgement = judged(listener, packet)
    assert isinstance(judgement, Accepted)
    assert judgement.client_id == client_id


def test_whoever_has_no_id_is_given_one_of_their_own() -> None:
    found = {judged(secured(auto_id_prefix="auto-"), Connect(b"", True, 60)) for _ in range(3)}
    ids = {one.client_id for one in found if isinstance(one, Accepted)}
    assert len(ids) == 3
    assert all(one.startswith(b"auto-") for one in ids)


def test_where_there_is_no_room_a_new_client_is_turned_away_and_a_known_one_is_not() -> None:
    limits = Limits(global_max_clients=1)
    assert isinstance(judged(OPEN, CONNECT, limits, other=1), TurnedAway)
    assert isinstance(judged(OPEN, CONNECT, limits, c=1), Accepted)


def test_a_slow_hash_is_asked_for_elsewhere_and_its_answer_counts(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    salt = "A" * 16
    passwords.write_text(f"ada:$7$200000${salt}${'B' * 86}==\n")
    door = Door(Listener(0, security=Security(password_file=passwords)), Limits(), connection_messages=False)
    packet = Connect(b"c", True, 60, user_name=b"ada", password=b"wrong")
    assert isinstance(door.judge(packet, None, {}), Slow)
    judgement = door.judge(packet, None, {}, door.verdict_for(packet, None))
    assert isinstance(judgement, Refused)
    assert judgement.reason == "wrong password"
