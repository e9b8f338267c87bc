"""What a publication knows beside its message."""

from __future__ import annotations

from broker.core.publication import Publication


def test_a_frame_is_of_one_dialect_and_one_publication() -> None:
    one, other = Publication(b"t", b"1"), Publication(b"t", b"1")
    assert one.frame("exchange") is None
    one.keep_frame("exchange", b"frame")
    assert one.frame("exchange") == b"frame"
    assert one.frame("canton") is None
    assert other.frame("exchange") is None


def test_only_what_a_client_published_is_for_tables() -> None:
    assert Publication(b"t", b"", client_id=b"c").is_requested
    assert not Publication(b"t", b"").is_requested


def test_all_who_join_its_promise_have_to_keep_the_same_one() -> None:
    publication = Publication(b"t", b"x", 1)
    promise = publication.join_promise()
    assert publication.join_promise() is promise is publication.promise
    promise.keep()
    assert not promise.is_kept
    promise.keep()
    assert promise.is_kept
