"""The sending side of QoS 1 and 2: the table of outbound.py cell by cell, then its invariants by chance."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from broker.core.counters import Counters
from broker.core.outbox import Outbox, Round
from protocol.mqtt.codec import decode
from protocol.mqtt.errors import ProtocolViolation
from protocol.mqtt.framing import frame_at
from protocol.mqtt.message import Message
from protocol.mqtt.outbound import DROPPED, QUEUED, SENT, Outbound, Window
from protocol.mqtt.packets import Publish, Pubrel
from protocol.mqtt.v5.sending import Sending


class Wire:
    """A real outbox, and what it is given, as (packet type, packet id, DUP); closed, it is owed too much."""

    def __init__(self, limit_bytes: int = 10_000_000) -> None:
        self.round = Round(Counters())
        self.outbox = Outbox(self.round, limit_bytes, self._send)
        self.is_open = True
        self._taken = b""

    def sent(self) -> list[tuple[int, int, bool]]:
        self.round.flush()
        found = []
        while self._taken:
            body, end = frame_at(self._taken, 0, 0)
            packet = decode(self._taken[0], self._taken[body:end])
            assert isinstance(packet, Publish | Pubrel)
            found.append((self._taken[0] >> 4, packet.packet_id, bool(self._taken[0] & 8)))
            self._taken = self._taken[end:]
        return found

    def _send(self, data: bytes) -> int:
        if not self.is_open:
            raise BlockingIOError
        self._taken += data
        return len(data)


def message(number: int = 0) -> Message:
    return Message(b"t/%d" % number, b"payload")


PUBLISH, PUBREL = 3, 6
ACKNOWLEDGE: dict[str, Callable[[Outbound, int], object]] = {
    "PUBACK": Outbound.puback,
    "PUBREC": Outbound.pubrec,
    "PUBCOMP": Outbound.pubcomp,
}
DONE, KEPT, VIOLATION = "done", "kept", "violation"
TABLE: dict[str, dict[str, tuple[str, list[int]]]] = {
    # state: {packet: (what becomes of the id, what is sent)}
    "unknown": {"PUBACK": (DONE, []), "PUBREC": (DONE, [PUBREL]), "PUBCOMP": (DONE, [])},
    "AWAIT_PUBACK": {"PUBACK": (DONE, []), "PUBREC": (VIOLATION, []), "PUBCOMP": (VIOLATION, [])},
    "AWAIT_PUBREC": {"PUBACK": (VIOLATION, []), "PUBREC": (KEPT, [PUBREL]), "PUBCOMP": (VIOLATION, [])},
    "AWAIT_PUBCOMP": {"PUBACK": (VIOLATION, []), "PUBREC": (KEPT, [PUBREL]), "PUBCOMP": (DONE, [])},
}
ON_RESUME = {
    "AWAIT_PUBACK": (PUBLISH, True),
    "AWAIT_PUBREC": (PUBLISH, True),
    "AWAIT_PUBCOMP": (PUBREL, False),
}


def in_state(state: str) -> tuple[Outbound, Wire]:
    outbound, wire = Outbound(Window()), Wire()
    outbound.attach(wire.outbox)
    if state == "AWAIT_PUBACK":
        outbound.offer(message(), 1, False)
    elif state != "unknown":
        outbound.offer(message(), 2, False)
    if state == "AWAIT_PUBCOMP":
        outbound.pubrec(1)
    wire.sent()
    return outbound, wire


@pytest.mark.parametrize("packet", ACKNOWLEDGE)
@pytest.mark.parametrize("state", TABLE)
def test_the_table(state: str, packet: str) -> None:
    outbound, wire = in_state(state)
    becomes, sent = TABLE[state][packet]
    if becomes == VIOLATION:
        with pytest.raises(ProtocolViolation):
            ACKNOWLEDGE[packet](outbound, 1)
        return
    ACKNOWLEDGE[packet](outbound, 1)
    assert [kind for kind, _, _ in wire.sent()] == sent
    assert outbound.inflight_count() == (1 if becomes == KEPT else 0)


@pytest.mark.parametrize("state", ON_RESUME)
def test_what_is_sent_on_resume(state: str) -> None:  # [MQTT-4.4.0-1]
    outbound, _ = in_state(state)
    outbound.detach()
    wire = Wire()
    outbound.attach(wire.outbox)
    kind, is_dup = ON_RESUME[state]
    assert wire.sent() == [(kind, 1, is_dup)]


@pytest.mark.parametrize("state", ["AWAIT_PUBREC", "AWAIT_PUBCOMP"])
def test_a_failed_pubrec_frees_its_packet_id(state: str) -> None:  # [MQTT-4.3.3-4]
    outbound, wire = in_state(state)
    outbound.pubrec(1, failed=True)
    assert (outbound.inflight_count(), wire.sent()) == (0, [])


def test_an_id_in_flight_is_not_used_again() -> None:  # [MQTT-2.3.1-2]
    outbound, wire = Outbound(Window(inflight_messages=0)), Wire()
    outbound.attach(wire.outbox)
    outbound.offer(message(), 1, False)
    outbound.last_packet_id = 65_535
    outbound.offer(message(), 1, False)
    assert [packet_id for _, packet_id, _ in wire.sent()] == [1, 2]


def test_no_more_is_in_flight_than_there_are_ids() -> None:
    outbound, wire = Outbound(Window(inflight_messages=0, queued_messages=0)), Wire()
    outbound.attach(wire.outbox)
    answers = [outbound.offer(message(), 1, False) for _ in range(65_540)]
    assert answers == [SENT] * 65_535 + [QUEUED] * 5
    outbound.puback(7)
    assert wire.sent()[-1] == (PUBLISH, 7, False)


@pytest.mark.parametrize(
    "window",
    [Window(queued_messages=3), Window(queued_messages=0, queued_bytes=3)],
    ids=["messages", "bytes"],
)
def test_messages_at_qos_0_take_no_place_of_the_others(window: Window) -> None:
    outbound = Outbound(window)
    one = Message(b"", b"x", 1, False)
    assert [outbound.offer(one, 0, False) for _ in range(4)] == [QUEUED] * 3 + [DROPPED]
    assert [outbound.offer(one, 1, False) for _ in range(4)] == [QUEUED] * 3 + [DROPPED]
    assert [outbound.offer(one, qos, False) for qos in (0, 1, 2)] == [DROPPED] * 3
    assert [waiting.qos for waiting in outbound.queued()] == [0, 0, 0, 1, 1, 1]
    assert (outbound.queued_qos_0, outbound.queued_qos_0_bytes) == (3, 3)
    outbound.attach(Wire().outbox)
    assert (outbound.queued_count(), outbound.queued_qos_0, outbound.queued_qos_0_bytes) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_sent_once_in_order_within_the_window_or_refused(seed: int) -> None:
    """Messages, acknowledgements, disconnections and slow wires by chance; a list is the model."""
    chance = random.Random(seed)
    window = Window(inflight_messages=chance.randint(1, 4), queued_messages=chance.randint(1, 6))
    outbound, wire = Outbound(window), Wire(limit_bytes=40)
    offered: list[bytes] = []
    begun: list[bytes] = []
    known: dict[int, bytes] = {}
    is_here = False
    for number in range(300):
        deed = chance.random()
        if deed < 0.5:
            one = message(number)
            if outbound.offer(one, chance.choice((1, 2)), False) != DROPPED:
                offered.append(one.topic)
        elif deed < 0.8 and outbound.inflight_count():
            entry = chance.choice(outbound.inflight())
            if entry.qos == 1:
                outbound.puback(entry.packet_id)
            elif is_here and entry.state == 2:
                outbound.pubrec(entry.packet_id)
            elif entry.state == 3:
                outbound.pubcomp(entry.packet_id)
        elif deed < 0.9:
            is_here = not is_here
            if is_here:
                wire = Wire(limit_bytes=40)
                outbound.attach(wire.outbox)
            else:
                outbound.detach()
        else:
            wire.is_open = not wire.is_open
            wire.round.flush()
            if is_here:
                outbound.resume()
        for entry in outbound.inflight():
            if known.get(entry.packet_id) != entry.message.topic:
                known[entry.packet_id] = entry.message.topic
                begun.append(entry.message.topic)
        assert outbound.inflight_count() <= window.inflight_messages
        assert outbound.queued_count() <= window.queued_messages + window.inflight_messages
    assert begun == offered[: len(begun)]  # [MQTT-4.6.0-6]
    assert [one.message.topic for one in outbound.queued()] == offered[len(begun) :]
    assert outbound.books.store.count == outbound.inflight_count() + outbound.queued_count()


@pytest.mark.parametrize(("receive_maximum", "behind"), [(0, True), (3, True), (2, False)])
def test_a_client_of_5_0_is_behind_only_where_it_takes_as_many_again(
    receive_maximum: int, behind: bool
) -> None:
    client = Outbound(Window())
    client.sending = Sending(receive_maximum, 0, 0)
    client.attach(Wire().outbox)
    for number in (1, 2):
        assert client.offer(message(number), 1, False) == SENT
    assert client.is_behind(1) == behind
