"""What a peer costs before and after it is known: whole packets count, and no cut of a CONNECT matters."""

from __future__ import annotations

import pytest
from support.peer import Peer, connected

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.limits import CONNECT_BYTES_MAX, PRE_CONNECT_BYTES_MAX
from broker.links.listening.door import Door
from broker.links.mqtt.admission import admit
from broker.links.mqtt.link import PROGRESS_BYTES, MqttLink
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Connect, Pingreq, Publish, Will
from protocol.mqtt.subscribing import FILTERS_MAX

LONGEST = encode(
    Connect(
        b"i" * 65_535, True, 60, user_name=b"u" * 65_535, password=b"p" * 65_535,
        will=Will(b"w" * 65_535, b"x" * 65_535, 0, False),
    )
)  # fmt: skip


def engine_at(now: float = 100.0) -> Engine:
    engine = Engine()
    engine.now = now
    return engine


@pytest.mark.parametrize("cut", [1_000, 60_000, 65_536, len(LONGEST)])
def test_the_longest_connect_is_taken_however_it_is_cut(cut: int) -> None:
    assert len(LONGEST) < CONNECT_BYTES_MAX
    peer = Peer(engine_at())
    for start in range(0, len(LONGEST), cut):
        peer.write(LONGEST[start : start + cut])
    assert peer.read() == [Connack(False, 0)]


@pytest.mark.parametrize("cut", [1, 5, 70_000])
def test_a_connect_that_says_it_is_longer_is_refused_by_its_first_bytes(cut: int) -> None:
    peer = Peer(engine_at())
    announced = b"\x10\x80\x80\x20\x00\x04MQTT\x04\x02\x00\x3c" + bytes(70_000)
    for start in range(0, 14, cut):
        peer.write(announced[start : start + cut])
    assert (peer.closed, peer.read_bytes()) == (True, b"")


def test_half_a_packet_now_and_then_does_not_keep_a_client_alive() -> None:
    engine = engine_at()
    peer = connected(engine)
    for _ in range(100):
        engine.now += 1
        peer.write(b"\xc0" if engine.now % 2 else b"\x00")
    assert not peer.link.silent_too_long(), "each second byte makes a PINGREQ whole"
    publish = encode(Publish(b"t", b"x" * 500))
    for byte in publish[:100]:
        engine.now += 1
        peer.write(bytes((byte,)))
    assert peer.link.silent_too_long()


def test_a_long_packet_keeps_its_sender_alive_while_it_comes() -> None:
    engine = engine_at()
    peer = connected(engine)
    publish = encode(Publish(b"t", b"x" * 100 * PROGRESS_BYTES))
    for start in range(0, len(publish), PROGRESS_BYTES):
        engine.now += 20
        peer.write(publish[start : start + PROGRESS_BYTES])
        assert not peer.link.silent_too_long()


def test_bytes_do_not_prolong_the_time_for_connect() -> None:
    engine = engine_at()
    peer = Peer(engine)
    peer.link.silence_max_s = 30.0
    for byte in LONGEST[:31]:
        engine.now += 1
        peer.write(bytes((byte,)))
    assert peer.link.silent_too_long()


def test_while_a_client_is_authenticated_little_is_read_and_nothing_lost() -> None:
    door = Door(Listener(0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False)
    waiting: list[tuple[MqttLink, Connect]] = []
    peer = Peer(engine_at(), door)

    def check_slowly(link: MqttLink, packet: Connect, _: bool) -> bool:
        waiting.append((link, packet))
        return True

    peer.link.check_slowly = check_slowly
    pings = 2 * PRE_CONNECT_BYTES_MAX
    peer.write(encode(Connect(b"a", True, 60)) + encode(Pingreq()) * (pings // 2))
    assert not peer.closed
    assert peer.link.outbox.holds_reading
    peer.write(encode(Pingreq()) * (pings // 2))
    [(link, packet)] = waiting
    admit(link, packet, link.door.verdict_for(packet, None), in_turn=True)
    peer.engine.flush()
    assert peer.read_bytes() == b"\x20\x02\x00\x00" + b"\xd0\x00" * pings
    assert not peer.link.outbox.holds_reading


def test_who_waits_while_the_rules_change_comes_in_by_the_new_ones() -> None:
    door = Door(Listener(0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False)
    peer = Peer(engine_at(), door)
    waiting: list[Connect] = []

    def check_slowly(_: MqttLink, packet: Connect, __: bool) -> bool:
        waiting.append(packet)
        return True

    peer.link.check_slowly = check_slowly
    peer.write(encode(Connect(b"a", True, 60)))
    verdict = door.verdict_for(waiting[0], None)
    door.configure(Listener(0, security=Security(allow_anonymous=False)), Limits(), False)
    admit(peer.link, waiting[0], verdict, in_turn=True)
    peer.engine.flush()
    assert peer.read_bytes() == b"\x20\x02\x00\x05"
    assert peer.closed


def test_a_packet_of_too_many_filters_closes() -> None:
    body = b"\x00\x01" + b"\x00\x01a\x00" * (FILTERS_MAX + 1)
    peer = connected(engine_at())
    peer.write(b"\x82" + bytes((0x80 | len(body) & 127, 0x80 | len(body) >> 7 & 127, len(body) >> 14)) + body)
    assert peer.closed
