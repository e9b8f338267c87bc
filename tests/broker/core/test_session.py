"""How one message leaves for one client: its QoS, its name, what is kept while nobody is there, and what is dropped."""

from __future__ import annotations

import logging
from itertools import product

import pytest
from support.peer import packets_in

from broker.core.access import Access
from broker.core.counters import Counters
from broker.core.outbox import Outbox, Round
from broker.core.publication import Publication
from broker.core.session import DeliveryRules, Link, Session
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Publish


class Client:
    """A session with a connection whose bytes are kept."""

    def __init__(
        self, clean: bool = True, rules: DeliveryRules | None = None, limit: int = 1 << 20, here: bool = True
    ) -> None:
        self.counters = Counters()
        self.round = Round(self.counters)
        self.session = Session(
            b"client", clean, rules if rules is not None else DeliveryRules(), Window(), self.counters
        )
        self.sent = b""
        self.limit = limit
        if here:
            self.connect()

    def connect(self) -> None:
        outbox = Outbox(self.round, self.limit, self._send)
        self.session.attach(Link(), outbox)

    def _send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def read(self) -> list[Publish]:
        self.round.flush()
        data, self.sent = self.sent, b""
        packets = packets_in(data)
        assert all(isinstance(packet, Publish) for packet in packets)
        return [packet for packet in packets if isinstance(packet, Publish)]


QUALITIES = [
    (published, granted, upgrade, granted if upgrade else min(published, granted))
    for published, granted, upgrade in product((0, 1, 2), (0, 1, 2), (False, True))
]


@pytest.mark.parametrize(("published", "granted", "upgrade", "expected"), QUALITIES)
def test_the_lower_quality_counts_unless_the_file_says_otherwise(
    published: int, granted: int, upgrade: bool, expected: int
) -> None:
    client = Client(rules=DeliveryRules(upgrade_qos=upgrade))
    publication = Publication(b"t", b"x", published)
    client.session.deliver(publication, granted, False)
    assert [packet.qos for packet in client.read()] == [expected]
    assert client.session.quality(publication, granted) == expected


@pytest.mark.parametrize(("retained", "bridge"), list(product((False, True), repeat=2)))
def test_retain_is_told_of_what_was_stored_and_to_bridges(retained: bool, bridge: bool) -> None:
    client = Client()
    client.session.identify(None, None, b"", bridge, 2, 0)
    client.session.deliver(Publication(b"t", b"x", 1, retain=True), 1, retained)
    assert [packet.retain for packet in client.read()] == [retained or bridge]


@pytest.mark.parametrize(
    ("topic", "name"), [(b"a/t", b"t"), (b"a//", b"/"), (b"a/", None), (b"a", None), (b"a/a/t", b"a/t")]
)
def test_below_a_mount_point_a_topic_has_the_rest_of_its_name_or_none(
    topic: bytes, name: bytes | None
) -> None:
    client = Client()
    client.session.identify(None, None, b"a/", False, 2, 0)
    client.session.deliver(Publication(topic, b"x", 1), 1, False)
    assert [packet.topic for packet in client.read()] == ([] if name is None else [name])
    assert client.session.may_read(topic) is (name is not None)


def test_a_bridge_gets_no_echo_of_its_own() -> None:
    client = Client()
    for bridge, count in ((False, 1), (True, 0)):
        client.session.identify(None, None, b"", bridge, 2, 0)
        client.session.deliver(Publication(b"t", b"", client_id=b"client"), 0, False)
        assert len(client.read()) == count


@pytest.mark.parametrize(("queues", "qos"), list(product((False, True), (0, 1))))
def test_what_is_kept_for_a_client_that_is_away(queues: bool, qos: int) -> None:
    client = Client(False, DeliveryRules(queue_qos0=queues), here=False)
    client.session.deliver(Publication(b"t", b"x", qos), 1, False)
    client.connect()
    assert [packet.payload for packet in client.read()] == ([b"x"] if qos == 1 or queues else [])


def test_a_peer_that_reads_nothing_costs_its_own_messages_and_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client(limit=100)
    with caplog.at_level(logging.WARNING, "broker.core"):
        for _ in range(5):
            client.session.deliver(Publication(b"t", bytes(40)), 0, False)
            client.session.forward(bytes(40), 2, 20)
    read = client.round
    assert client.counters.dropped_outbox_full > 0
    assert [record.message for record in caplog.records] == [
        "Outgoing messages are being dropped for client client."
    ]
    read.flush()
    assert len(client.sent) <= 100 + 45


def test_packets_as_they_came_are_counted_one_by_one() -> None:
    client = Client()
    client.session.forward(b"packets", 3, 7)
    client.round.flush()
    assert (client.sent, client.counters.publishes_sent, client.counters.publish_bytes_sent) == (
        b"packets",
        3,
        7,
    )
    client.session.detach(0.0)
    client.session.forward(b"packets", 3, 7)
    client.round.flush()
    assert (client.sent, client.counters.publishes_sent) == (b"packets", 3)


@pytest.mark.parametrize(
    ("rules", "mount_point", "bridge", "takes_raw"),
    [
        (DeliveryRules(), b"", False, True),
        (DeliveryRules(queue_qos0=True), b"", False, False),
        (DeliveryRules(upgrade_qos=True), b"", False, False),
        (DeliveryRules(), b"a/", False, False),
        (DeliveryRules(), b"", True, False),
    ],
)
def test_packets_as_they_came_are_only_for_those_to_whom_they_say_the_same(
    rules: DeliveryRules, mount_point: bytes, bridge: bool, takes_raw: bool
) -> None:
    client = Client(rules=rules)
    client.session.identify(None, None, mount_point, bridge, 2, 0)
    assert client.session.takes_raw_packets() is takes_raw


def test_without_rules_everything_is_allowed_and_with_rules_they_are_asked() -> None:
    class Nothing(Access):
        def may_read(self, topic: bytes) -> bool:
            return False

        def may_write(self, topic: bytes) -> bool:
            return False

    session = Client().session
    assert session.may_read(b"t")
    assert session.may_write(b"t")
    session.identify(b"nobody", Nothing(), b"", False, 2, 0)
    assert not session.may_read(b"t")
    assert not session.may_write(b"t")


@pytest.mark.parametrize(("inflight", "queued", "kept"), [(2, 3, 5), (0, 3, 8), (2, 0, 8)])
def test_what_waits_for_a_pubrel_is_bounded_as_the_window_is(inflight: int, queued: int, kept: int) -> None:
    window = Window(inflight_messages=inflight, queued_messages=queued)
    inbound = Session(b"x", False, DeliveryRules(), window, Counters()).expect()
    for packet_id in range(1, 9):
        inbound.accept(packet_id, Publication(b"t", b"", 2), False)
    assert inbound.count() == kept
