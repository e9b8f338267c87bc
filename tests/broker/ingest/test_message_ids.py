"""The ids by which a message that is sent again is known."""

from __future__ import annotations

import pytest

from broker.core.publication import Publication
from broker.ingest import message_ids
from broker.ingest.message_ids import MessageIds, is_unknown, prefix_of


def message(packet_id: int, payload: bytes = b"1", dup: bool = False, client: bytes = b"ada") -> Publication:
    made = Publication(b"t", payload, 1, client_id=client)
    made.packet_id, made.dup = packet_id, dup
    return made


def test_a_repetition_has_the_id_of_the_message_and_the_next_message_another() -> None:
    ids = MessageIds()
    first = ids.of(message(7), 100)
    assert ids.of(message(7, dup=True), 200) == first
    assert ids.of(message(7), 300) != first
    assert ids.of(message(8), 400) != first


def test_ids_go_up_though_the_clock_goes_back() -> None:
    ids = MessageIds()
    made = [ids.of(message(7), now_ns) for now_ns in (500, 500, 100)]
    assert made == sorted(set(made))


def test_a_repetition_after_a_start_is_asked_for_and_found_if_it_is_the_same() -> None:
    old = MessageIds().of(message(7), 100)
    for newest, is_same in (
        (old, True),
        (None, False),
        (f"{prefix_of(message(7))}{100:016x}:00000000", False),
    ):
        ids = MessageIds()
        asked = ids.of(message(7, dup=True), 200)
        assert is_unknown(asked)
        own = ids.found(message(7, dup=True), asked, newest)
        assert own == (old if is_same else asked.removeprefix("?"))
        assert ids.of(message(7, dup=True), 300) == own


def test_a_repetition_with_other_contents_is_a_message_of_its_own() -> None:
    ids = MessageIds()
    first = ids.of(message(7), 100)
    other = ids.of(message(7, b"2", dup=True), 200)
    assert other != first
    assert not is_unknown(other)


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    if message_ids.__file__.endswith(".so"):
        pytest.skip("a compiled limit can't be set")
    monkeypatch.setattr(message_ids, "REMEMBERED_MAX", 2)
    ids = MessageIds()
    for packet_id in (1, 2, 3):
        ids.of(message(packet_id), packet_id)
    assert is_unknown(ids.of(message(1, dup=True), 9))
    assert not is_unknown(ids.of(message(3, dup=True), 9))


def test_a_client_id_says_what_it_likes_and_ends_nothing() -> None:
    assert prefix_of(message(7, client="a:b ü".encode())) == "a%3Ab%20%C3%BC:7:"


def test_ids_of_clients_that_publish_in_turn_have_their_own_names() -> None:
    ids = MessageIds()
    for client_id, name in [(b"ada", "ada"), (b"a b", "a%20b"), (b"ada", "ada"), (b"ada", "ada")] * 2:
        publication = Publication(b"t", b"x", 1, False, client_id)
        publication.packet_id = 7
        assert ids.of(publication, 1).startswith(f"{name}:7:")
        assert prefix_of(publication) == f"{name}:7:"
