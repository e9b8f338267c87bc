"""What the log is told of QoS 2 that has ended."""

from __future__ import annotations

from broker.cluster.finished import BYTES_MAX, Finished, lines
from broker.ingest.message_ids import prefix_for


def finished() -> Finished:
    return Finished(b"shop.MSGS.q", b"NATS/1.0\r\n", 7)


def test_packet_ids_of_many_clients_are_in_one_message() -> None:
    made = finished()
    kept: list[int] = []
    for number, (client_id, packet_id) in enumerate([(b"a", 1), ("b ü\n".encode(), 2), (b"a", 12)]):
        made.add(client_id, packet_id).on_kept = lambda number=number: kept.append(number)  # type: ignore[misc]
    assert made.clients() == {b"a", "b ü\n".encode()}
    found = lines(made.publication.payload)
    for client_id, packet_id in [(b"a", 1), ("b ü\n".encode(), 2), (b"a", 12)]:
        assert prefix_for(client_id, packet_id).encode() in found
    assert prefix_for(b"a", 2).encode() not in found
    assert kept == []
    assert made.promise is not None
    made.promise.keep()
    assert kept == [0, 1, 2]


def test_a_message_has_its_size_and_an_end() -> None:
    made = finished()
    before = made.size()
    made.add(b"c" * 100, 7)
    assert made.size() == before + len(b"c" * 100 + b":7:\n")
    assert not made.is_full()
    made.add(b"c" * BYTES_MAX, 7)
    assert made.is_full()


def test_who_says_it_elsewhere_is_left_out() -> None:
    made = finished()
    for client_id, packet_id in [(b"a", 1), (b"ab", 2), (b"a", 12), (b"a b", 3)]:
        made.add(client_id, packet_id)
    assert made.leave_out({b"a", b"x"})
    assert made.publication.payload == b"ab:2:\na%20b:3:\n"
    assert made.clients() == {b"ab", b"a b"}
    assert not made.leave_out({b"ab", b"a b"})
    assert made.publication.payload == b""
