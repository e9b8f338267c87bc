"""Acknowledgements leave in the order of their messages, each when what was promised of it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.interpreted import interpreted_only
from support.peer import Peer, connected
from support.peer5 import connected5

from broker.core.engine import Engine
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.links.mqtt.answers import HELD_MAX, HeldAnswers, answer, answer_packet, send
from protocol.mqtt.codec import PUBACK, PUBCOMP, PUBREC
from protocol.mqtt.packets import Puback, Pubcomp, Publish, Pubrec, Suback


def promised() -> Publication:
    """A message of which one thing is promised."""
    publication = Publication(b"t", b"x", 1)
    publication.promise = Promise()
    publication.promise.join()
    return publication


def read_ids(peer: Peer) -> list[int]:
    peer.engine.flush()
    return [packet.packet_id for packet in peer.read() if isinstance(packet, Puback | Pubrec | Pubcomp)]


def keep(publication: Publication, code: int = 0) -> None:
    assert publication.promise is not None
    publication.promise.keep(code)


def test_what_nobody_promised_anything_of_is_acknowledged_at_once() -> None:
    peer = connected(Engine())
    answer(peer.link, PUBACK, 1, 0, Publication(b"t", b"x", 1))
    answer(peer.link, PUBREC, 2, 0, None)
    assert read_ids(peer) == [1, 2]
    assert peer.link.held is None


def test_a_promise_that_was_kept_already_holds_nothing_back() -> None:
    peer = connected5(Engine())
    kept = promised()
    keep(kept, 0x97)
    answer(peer.link, PUBACK, 1, 0, kept)
    peer.engine.flush()
    assert peer.read() == [Puback(1, 0x97)]


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.randoms())
def test_acknowledgements_leave_in_the_order_of_their_messages(waits: list[bool], chance: object) -> None:
    """Some wait for a promise; whichever is kept first, nothing overtakes."""
    peer = connected(Engine())
    messages = [promised() if wait else Publication(b"t", b"x", 1) for wait in waits]
    for packet_id, message in enumerate(messages, 1):
        answer(peer.link, PUBACK, packet_id, 0, message)
    left = [number for number, wait in enumerate(waits) if wait]
    chance.shuffle(left)  # type: ignore[attr-defined]
    found = read_ids(peer)
    while left:
        assert found == list(range(1, min(left) + 1))
        keep(messages[left.pop()])
        found += read_ids(peer)
    assert found == list(range(1, len(waits) + 1))


def test_a_pubcomp_waits_for_nobody_where_nothing_is_saved() -> None:
    peer = connected(Engine())
    answer(peer.link, PUBACK, 1, 0, promised())
    answer(peer.link, PUBCOMP, 2, 0, None)
    assert read_ids(peer) == [2]


def test_the_worst_that_anybody_said_is_told() -> None:
    peer = connected5(Engine())
    one, other = promised(), promised()
    answer(peer.link, PUBACK, 1, 0x10, one)
    answer(peer.link, PUBACK, 2, 0x10, other)
    keep(one)
    keep(other, 0x97)
    peer.engine.flush()
    assert peer.read() == [Puback(1, 0x10), Puback(2, 0x97)]


@interpreted_only
def test_who_is_owed_too_many_is_not_read_from_until_half_of_them_left() -> None:
    peer = connected(Engine())
    held = HeldAnswers(peer.link)
    paused: list[bool] = []
    peer.outbox.pause = paused.append  # type: ignore[method-assign, assignment]
    messages = [promised() for _ in range(HELD_MAX + 2)]
    for packet_id, message in enumerate(messages, 1):
        assert paused == ([True] if packet_id > HELD_MAX else [])
        held.add(message.promise, PUBACK, packet_id, 0)
    for number, message in enumerate(messages, 1):
        keep(message)
        left = len(messages) - number
        assert paused == ([True, False] if left <= HELD_MAX // 2 else [True])
    assert held.is_empty()


def test_a_connection_that_ended_is_owed_nothing() -> None:
    peer = connected(Engine())
    message = promised()
    answer(peer.link, PUBACK, 1, 0, message)
    assert peer.link.held is not None
    peer.link.held.abandon()
    assert peer.link.held.is_empty()
    keep(message)
    assert read_ids(peer) == []


def test_a_suback_waits_for_what_was_promised_of_it_and_for_no_more() -> None:
    engine = Engine()
    peer = connected(engine)
    session = engine.sessions[b"client"]
    suback = b"\x90\x03\x00\x01\x00"
    answer_packet(peer.link, session, suback)
    engine.flush()
    assert peer.read() == [Suback(1, (0,))]
    promise = Promise()
    promise.join()
    engine.keep = lambda _: promise
    answer_packet(peer.link, session, suback)
    engine.flush()
    assert peer.read() == []
    promise.keep()
    engine.flush()
    assert peer.read() == [Suback(1, (0,))]


@pytest.mark.parametrize(
    ("code", "is_over"), [(0x00, False), (0x10, False), (0x7F, False), (0x80, True), (0x97, True)]
)
def test_a_pubrec_that_fails_frees_its_packet_id_in_5_0(code: int, is_over: bool) -> None:
    engine = Engine()
    for peer, frees in ((connected5(engine, b"five"), is_over), (connected(engine, b"three"), False)):
        session = peer.link.session
        assert session is not None
        session.expect().accept(7, Publication(b"t", b"x", 2), False)
        send(peer.link, PUBREC, 7, code)
        assert session.inbound is not None
        assert (session.inbound.get(7) is None) == frees


def test_a_message_that_is_sent_again_while_its_puback_waits_gets_two() -> None:
    engine = Engine()
    peer = connected(engine)
    made: list[Promise] = []

    def ingest(publication: Publication) -> None:
        publication.promise = Promise()
        publication.promise.join()
        made.append(publication.promise)

    engine.ingest = ingest
    for _ in range(2):
        peer.send(Publish(b"t", b"x", 1, packet_id=3))
    for promise in made:
        promise.keep()
    assert read_ids(peer) == [3] * 2


def test_a_connection_that_has_ended_and_what_it_was_owed_do_not_keep_each_other() -> None:
    peer = connected(Engine())
    held = peer.link.held = HeldAnswers(peer.link)
    held.add(Promise(), PUBACK, 1, 0)
    peer.drop()
    assert peer.link.held is None
    assert held.is_empty()
