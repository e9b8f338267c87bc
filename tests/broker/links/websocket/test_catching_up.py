"""A reader that catches up becomes live, however much comes between its turns."""

from __future__ import annotations

import json

import pytest

from broker.config.history import HistoryRule
from broker.core.history import History
from broker.core.publication import Publication
from broker.links.websocket.catching_up import Subscription, is_same_row
from broker.links.websocket.words import RowcastWords, text_in
from broker.storage.history_file import history_for
from protocol.dialects.rowcast import Read


def publish(history: History, topic: bytes) -> None:
    history.rings[0].deliver(Publication(topic, b"1"), 0, False)


@pytest.mark.parametrize("topic", [b"row/1", b"row/2"])
@pytest.mark.parametrize("between", [1, 60, 700])
def test_what_comes_between_turns_keeps_nobody_from_being_live(topic: bytes, between: int) -> None:
    """Twenty thousand readers of a node that was restarted waited for ever, where a row came once in a round."""
    history = history_for([HistoryRule(("row/#",), count=10**6)], None, 0.0, 0.0, {})
    publish(history, topic)
    since = history.positions.at(0)
    missed = history.missed(b"row/1", since)
    words = RowcastWords(Read("", b"row/1", since), history)
    one = Subscription(words, history, None, missed, True, 10**6)
    seen: list[str] = []
    turns = 0
    while one.catching_up:
        turns += 1
        assert turns < 12
        for _ in range(between):
            publish(history, topic)
        said = json.loads(text_in(one.next_frame()))
        seen += [each["at"] for each in said.get("missed", ())]
    wanted = range(1, history.positions.number + 1) if topic == b"row/1" else ()
    assert seen == [history.positions.at(number) for number in wanted]


DEEP = b"[" * 100_000 + b"]" * 100_000
"""As a column of json may hold it."""


@pytest.mark.parametrize(
    ("state", "message", "same"),
    [
        (b'{"id":1}', b'{"id":1}', True),
        (b'{"id":1}', b'{"id":2}', False),
        (b'{"id":1}', b'{"id":1,"position":"e/9"}', True),
        (b'{"id":1}', b'{"id":1,"operation":"update"}', True),
        (b'{"id":1}', b'{"id":2,"operation":"update"}', False),
        (b'{"id":1}', b'{"id":1,"operation":', False),
        (b'{"id":1}', b'["position"]', False),
        pytest.param(DEEP, DEEP, True, id="deep"),
        pytest.param(DEEP, b'{"position":"e/9","d":%b}' % DEEP, False, id="deep with position"),
        (b'{"id":1}', b'{"position":' + b"9" * 5000 + b"}", False),
    ],
)
def test_a_row_that_was_read_is_held_against_the_row_that_was_published(
    state: bytes, message: bytes, same: bool
) -> None:
    assert is_same_row(state, message) is same


@pytest.mark.parametrize("depth", range(900, 1000, 10))
def test_rows_as_deep_as_can_be_read_are_compared_or_are_not_the_same(depth: int) -> None:
    row = b'"d":' + b"[" * depth + b"]" * depth
    assert is_same_row(b"{%b}" % row, b'{"position":"e/9",%b}' % row) in (True, False)
