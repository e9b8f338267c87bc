"""What leaves at QoS 2 is on disk before, and nothing overtakes it but QoS 0."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.peer import packets_in

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.saving import Saving
from broker.core.session import Link, Session
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Publish


class Durable:
    """A durable client behind the disk; what left is read as packets."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.engine = Engine(window=Window(inflight_messages=0, queued_messages=0))
        self.session: Session = self.engine.open_session(b"x", False)[0]
        self.engine.identify(self.session, None, None)
        self.saving = self.engine.saving = Saving(self.engine, self.engine.kept_changes())
        self.sent = b""
        self.outbox = Outbox(self.engine.round, limit, self._send)
        self.engine.attach(self.session, Link(), self.outbox)
        self.outbox.on_drained = self.session.outbound.resume  # as a link does

    def _send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def publish(self, qos: int, payload: bytes) -> None:
        self.session.deliver(Publication(b"t", payload, qos), qos, False)

    def save(self) -> None:
        self.saving.reached(self.engine.kept_changes())

    def left(self) -> list[bytes]:
        self.engine.flush()
        self.outbox.writable()
        self.engine.flush()
        return [packet.payload for packet in packets_in(self.sent) if isinstance(packet, Publish)]


@given(st.lists(st.sampled_from([0, 1, 2, "save"]), max_size=30))
def test_order_is_kept_and_quality_two_waits_for_the_disk(acts: list[int | str]) -> None:
    client = Durable()
    pushed: list[tuple[int, bytes]] = []
    on_disk: set[bytes] = set()
    for number, act in enumerate(acts):
        if isinstance(act, int):
            pushed.append((act, b"%d" % number))
            client.publish(act, b"%d" % number)
        else:
            client.save()
            on_disk.update(payload for qos, payload in pushed if qos == 2)
        left = client.left()
        acknowledged = [payload for qos, payload in pushed if qos > 0]
        assert [payload for payload in left if payload in acknowledged] == acknowledged[: len(left)][
            : sum(payload in acknowledged for payload in left)
        ]
        assert {payload for qos, payload in pushed if qos == 2} & set(left) <= on_disk
        assert {payload for qos, payload in pushed if qos == 0} <= set(left)
    client.save()
    assert len(client.left()) == len(pushed), "nothing stays behind"


def test_a_connection_that_ends_takes_what_is_held_with_it() -> None:
    client = Durable()
    client.publish(2, b"held")
    assert client.left() == []
    client.engine.detach(client.session, send_will=False)
    client.save()
    assert client.left() == []
    assert [entry.message.payload for entry in client.session.outbound.inflight()] == [b"held"]


def test_a_client_that_has_much_held_is_sent_more_when_it_has_left() -> None:
    client = Durable(limit=1000)
    for number in range(40):
        client.publish(2, b"%03d" % number + bytes(100))
    held = client.session.outbound.inflight_count()
    assert held < 40
    for _ in range(40):
        client.save()
        client.left()
    assert len(client.left()) == 40
