"""Who a session belongs to: whoever resumes it gets, and may say, what the rules of that moment allow, and no more.

The first cases are written out; then chance plays users, listeners and takeovers over two client ids.  The naive
model is the rule itself: no PUBLISH ever arrives at somebody who may not read its topic, and none from somebody who
may not write it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.peer import Peer

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.links.listening.door import Door
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connack, Connect, Puback, Publish, Pubrel, Subscribe, Will

ACL = """user alice
topic readwrite #
user bob
topic readwrite public
topic read mine/#
"""
OTHER_ACL = """user alice
topic readwrite public
user bob
topic readwrite secret
"""
TOPICS = (b"secret", b"public", b"mine/x")
ALLOWED = {
    ("first", b"alice"): ({*TOPICS}, {*TOPICS}),
    ("first", b"bob"): ({b"public", b"mine/x"}, {b"public"}),
    ("second", b"alice"): ({b"public"}, {b"public"}),
    ("second", b"bob"): ({b"secret"}, {b"secret"}),
}
"""What each may read and write, by listener and user."""


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Door]:
    folder = tmp_path_factory.mktemp("rules")
    return {
        name: door(folder / name, port, text, mount)
        for name, port, text, mount in (
            ("first", 1883, ACL, ""),
            ("second", 1884, OTHER_ACL, ""),
        )
    }


def door(acl: Path, port: int, text: str, mount: str) -> Door:
    acl.write_text(text)
    security = Security(allow_anonymous=True, acl_file=acl)
    return Door(
        Listener(port=port, security=security, mount_point=mount), Limits(), connection_messages=False
    )


def broker() -> Engine:
    engine = Engine(window=Window(inflight_messages=2))
    engine.trie.restrict(True)
    return engine


def client(engine: Engine, door: Door, user: bytes, client_id: bytes = b"x") -> Peer:
    peer = Peer(engine, door)
    peer.send(Connect(client_id, False, 60, user_name=user))
    return peer


def topics(peer: Peer) -> list[bytes]:
    return [packet.topic for packet in peer.read() if isinstance(packet, Publish)]


@pytest.mark.parametrize("stays", [False, True])
def test_what_a_match_remembers_is_decided_again_for_the_next_user(
    doors: dict[str, Door], stays: bool
) -> None:
    engine = broker()
    publisher = client(engine, doors["first"], b"alice", b"publisher")
    alice = client(engine, doors["first"], b"alice")
    alice.send(Subscribe(1, ((b"secret", 0),)))
    publisher.send(Publish(b"secret", b"1"))
    assert topics(alice) == [b"secret"]
    if not stays:
        alice.drop()
    bob = client(engine, doors["first"], b"bob")
    publisher.send(Publish(b"secret", b"2"))
    assert topics(bob) == []
    bob.drop()
    again = client(engine, doors["first"], b"alice")
    publisher.send(Publish(b"secret", b"3"))
    assert topics(again) == [b"secret"]


def test_the_same_user_on_a_listener_with_other_rules_is_decided_again(doors: dict[str, Door]) -> None:
    engine = broker()
    publisher = client(engine, doors["first"], b"alice", b"publisher")
    alice = client(engine, doors["first"], b"alice")
    alice.send(Subscribe(1, ((b"#", 0),)))
    publisher.send(Publish(b"secret", b"1"))
    assert topics(alice) == [b"secret"]
    elsewhere = client(engine, doors["second"], b"alice")
    publisher.send(Publish(b"secret", b"2"), Publish(b"public", b"3"))
    assert topics(elsewhere) == [b"public"]


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_in_flight_or_queued_is_not_sent_to_somebody_who_may_not_read_it(
    doors: dict[str, Door], qos: int
) -> None:
    engine = broker()
    alice = client(engine, doors["first"], b"alice")
    alice.send(Subscribe(1, ((b"#", qos),)))
    publisher = client(engine, doors["first"], b"alice", b"publisher")
    publisher.send(*(Publish(topic, b"", qos, packet_id=1 + at) for at, topic in enumerate(TOPICS)))
    publisher.send(*(Pubrel(1 + at) for at in range(3)))
    assert topics(alice) == [b"secret", b"public"]
    bob = client(engine, doors["first"], b"bob")
    assert topics(bob) == [b"public", b"mine/x"]


def test_a_qos_2_message_is_not_released_in_the_name_of_the_next_user(doors: dict[str, Door]) -> None:
    engine = broker()
    reader = client(engine, doors["first"], b"alice", b"reader")
    reader.send(Subscribe(1, ((b"#", 0),)))
    bob = client(engine, doors["first"], b"bob")
    bob.send(Publish(b"secret", b"forged", 2, packet_id=1), Publish(b"public", b"right", 2, packet_id=2))
    alice = client(engine, doors["first"], b"alice")
    alice.send(Pubrel(1), Pubrel(2))
    assert topics(reader) == [b"public"]


def test_a_session_of_another_mount_point_ends_and_its_will_is_published(tmp_path: Path) -> None:
    engine = broker()
    one = door(tmp_path / "one", 1, "topic readwrite #\nuser alice\ntopic readwrite #\n", "one/")
    other = door(tmp_path / "other", 2, "user alice\ntopic readwrite #\n", "o/")
    alice = Peer(engine, one)
    alice.send(Connect(b"x", False, 60, will=Will(b"will", b"gone", 1, False), user_name=b"alice"))
    alice.send(Subscribe(1, ((b"#", 1),)))
    reader = client(engine, one, b"alice", b"reader")
    reader.send(Subscribe(1, ((b"#", 1),)))
    client(engine, one, b"alice", b"publisher").send(Publish(b"t", b"1", 1, packet_id=1))
    moved = client(engine, other, b"alice")
    assert topics(reader) == [b"t", b"will"]
    assert moved.read() == [Connack(False, 0)]
    client(engine, one, b"alice", b"publisher").send(Publish(b"t", b"2", 1, packet_id=1))
    assert moved.read() == []


def test_what_waits_below_a_mount_point_is_judged_by_its_whole_topic(tmp_path: Path) -> None:
    engine = broker()
    mounted = door(tmp_path / "acl", 1, "user alice\ntopic readwrite one/#\n", "one/")
    alice = client(engine, mounted, b"alice")
    alice.send(Subscribe(1, ((b"#", 1),)))
    alice.drop()
    client(engine, mounted, b"alice", b"publisher").send(Publish(b"t", b"1", 1, packet_id=1))
    assert topics(client(engine, mounted, b"alice")) == [b"t"]


@pytest.mark.parametrize("topic", [b"one", b"one/"])
@pytest.mark.parametrize("topic_filter", [b"#", b"$share/g/#"])
def test_a_topic_without_a_name_below_the_mount_point_reaches_nobody_there(
    doors: dict[str, Door], tmp_path: Path, topic: bytes, topic_filter: bytes
) -> None:
    """`#` below `one/` is `one/#`, which matches `one`, too; an empty topic name would have been sent."""
    engine = broker()
    publisher = client(engine, doors["first"], b"alice", b"publisher")
    publisher.send(Publish(topic, b"retained", 1, True, packet_id=1))
    mounted = client(engine, door(tmp_path / "acl", 3, "user alice\ntopic readwrite #\n", "one/"), b"alice")
    mounted.send(Subscribe(1, ((topic_filter, 1),)))
    publisher.send(Publish(topic, b"live", 1, packet_id=1), Publish(b"one/t", b"live", 1, packet_id=1))
    assert topics(mounted) == [b"t"]


def test_a_name_with_a_slash_is_not_put_into_a_pattern(tmp_path: Path) -> None:
    engine = broker()
    acl = "pattern readwrite c/%c/#\npattern readwrite u/%u/#\n"
    guarded = door(tmp_path / "acl", 1, acl, "")
    reader = client(engine, guarded, b"victim", b"victim")
    reader.send(Subscribe(1, ((b"#", 0),)))
    for user, client_id in ((b"anybody", b"victim/cmd"), (b"victim/cmd", b"anybody")):
        client(engine, guarded, user, client_id).send(
            Publish(b"c/victim/cmd/now", b""), Publish(b"u/victim/cmd/now", b"")
        )
    assert topics(reader) == []


STEP = st.tuples(
    st.sampled_from(
        ["connect", "connect", "leave", "subscribe", "publish", "publish", "release", "acknowledge"]
    ),
    st.sampled_from([b"x", b"y"]),
    st.sampled_from(["first", "second"]),
    st.sampled_from([b"alice", b"bob"]),
    st.sampled_from(TOPICS),
    st.integers(0, 2),
    st.booleans(),
)


@settings(max_examples=cases(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=10, max_size=40))
def test_nobody_ever_gets_or_says_what_their_rules_forbid(
    doors: dict[str, Door], steps: list[tuple[str, bytes, str, bytes, bytes, int, bool]]
) -> None:
    engine = broker()
    who: dict[bytes, tuple[str, bytes]] = {}
    peers: dict[bytes, Peer] = {}
    everything = client(engine, doors["first"], b"alice", b"everything")
    everything.send(Subscribe(1, ((b"#", 0),)))
    said = 0
    begin = ("first", b"alice", b"secret", 1, True)
    steps = [
        (kind, one, *begin) for one in (b"x", b"y") for kind in ("connect", "subscribe", "publish")
    ] + steps
    for kind, client_id, listener, user, topic, qos, flag in steps:
        peer = peers.get(client_id)
        if kind == "connect":
            peers[client_id] = client(engine, doors[listener], user, client_id)
            who[client_id] = (listener, user)
        elif peer is None or peer.closed:
            continue
        elif kind == "leave":
            peer.drop()
            del peers[client_id]
        elif kind == "subscribe":
            peer.send(Subscribe(9, ((b"#" if flag else topic, qos),)))
        elif kind == "publish":
            said += 1
            # The payload says who wrote it.
            payload = b"%s %s %d" % (who[client_id][0].encode(), who[client_id][1], said)
            peer.send(Publish(topic, payload, qos, flag, packet_id=1 + said if qos else 0))
        elif kind == "release":
            peer.send(*(Pubrel(packet_id) for packet_id in range(2, said + 2)))
        else:
            peer.send(*(Puback(entry.packet_id) for entry in _waiting(engine, client_id)))
        for each, connected in peers.items():
            for packet in connected.read():
                if isinstance(packet, Publish):
                    assert packet.topic in ALLOWED[who[each]][0], (each, packet)
        for packet in everything.read():
            if isinstance(packet, Publish):
                name, _, rest = packet.payload.partition(b" ")
                writer = rest.partition(b" ")[0]
                assert packet.topic in ALLOWED[name.decode(), writer][1], packet


def _waiting(engine: Engine, client_id: bytes) -> list[Puback]:
    session = engine.sessions[client_id]
    return [Puback(entry.packet_id) for entry in session.outbound.inflight() if entry.qos == 1]
