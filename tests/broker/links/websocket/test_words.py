"""What a reader that follows from a position is told: the answer, lists in frames, and where it is then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.core.history import History, Missed
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.links.websocket.words import ChannelWords, RowcastWords, frame_of, text_in
from protocol.dialects.base import Subscribe
from protocol.dialects.rowcast import Read
from protocol.websocket import text_frame

READ = Read("", b"a/\xc3\xa9", "e/0")


def history(number: int = 7) -> History:
    return History(Positions("e", number))


def missed(reason: str = "") -> Missed:
    return Missed("e/7", reason, [], False)


def said(frame: bytes) -> Any:
    return json.loads(text_in(frame))


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_the_text_of_a_frame_begins_behind_a_head_of_any_length(size: int) -> None:
    assert text_in(text_frame(b"x" * size)) == b"x" * size


def test_a_publication_has_one_frame_for_all_and_its_own_position() -> None:
    where = history()
    one, other = Publication(b"a", b"1"), Publication(b"a", b"2")
    frame = frame_of(one, where)
    assert frame_of(one, where) is frame
    assert said(frame) == {"topic": "a", "at": "e/8", "data": 1}
    assert said(frame_of(other, where))["at"] == "e/9"


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("lists", [b"", b"state", b"missed"])
def test_an_answer_of_rowcast_says_where_the_reader_is_once_nothing_follows(
    more: bool, fresh: bool, lists: bytes
) -> None:
    words = RowcastWords(READ, history())
    first = said(words.first(missed(), "e/3", lists, b"1,2", fresh, more))
    following = said(words.next(lists, b"1,2", fresh, more))
    for found in (first, following):
        assert found.pop("subscribed") == "a/\u00e9"
        assert found.pop("at", None) == (None if more else "e/7")
        assert found.pop("more", False) == more
        assert found.pop("fresh", False) == (fresh and bool(lists))
        assert found.pop("state", None) == ([1, 2] if lists == b"state" else None)
        assert found.pop("missed", None) == ([1, 2] if lists == b"missed" else None)
    assert first == {"recovered": True}
    assert following == {}


def test_what_could_not_be_recovered_is_told_with_its_reason() -> None:
    found = said(RowcastWords(READ, history()).first(missed("it is too old"), "", b"", b"", False, False))
    assert found["recovered"] is False
    assert "it is too old" in json.dumps(found)


def test_messages_of_rowcast_stand_in_lists_with_commas_between() -> None:
    words = RowcastWords(READ, history())
    messages = words.separator.join(words.message(Publication(b"a", b"%d" % n)) for n in (1, 2))
    messages += words.separator + words.value(b"b", b"3", True)
    assert json.loads(b"[" + messages + b"]") == [
        {"topic": "a", "at": "e/8", "data": 1},
        {"topic": "a", "at": "e/9", "data": 2},
        {"topic": "b", "retained": True, "data": 3},
    ]


def channel_words() -> ChannelWords:
    wanted = Subscribe("trades", answer='{"type":"subscribed"', subscription="s1")
    return ChannelWords(READ, history(), wanted)


def test_a_dialect_without_positions_gets_its_own_answer_with_a_place_in_it() -> None:
    words = channel_words()
    answer = said(words.first(missed(), "e/3", b"missed", b"", False, False))
    assert (answer["type"], answer["at"], answer["recovered"]) == ("subscribed", "e/3", True)
    refused = said(words.refusal("nothing is kept"))
    assert refused["recovered"] is False
    assert "nothing is kept" in json.dumps(refused)


def test_then_each_message_follows_by_itself_as_if_it_came_now() -> None:
    words = channel_words()
    one, other = Publication(b"a", b'{"n":1}'), Publication(b"a", b'{"n":2}')
    frames = words.message(one) + words.separator + words.message(other)
    assert words.message(one) is words.message(one)
    alone = text_in(words.message(one))
    assert json.loads(alone)["n"] == 1
    assert json.loads(alone)["at"] == "e/8"
    answered = words.first(missed(), "e/3", b"missed", frames, False, True)
    assert answered.endswith(frames)
    assert words.next(b"missed", frames, False, False) == frames
    assert words.next(b"", b"", False, False) == b""
    assert words.value(b"a", b'{"n":0}', True) == text_frame(b'{"n":0}')


def test_a_frame_for_one_kind_of_reader_is_not_that_of_the_other() -> None:
    publication = Publication(b"a", b'{"n":1}')
    where = history()
    mine = RowcastWords(READ, where).message(publication)
    theirs = channel_words().message(publication)
    assert json.loads(mine) == {"topic": "a", "at": "e/8", "data": {"n": 1}}
    assert text_in(theirs) != mine
