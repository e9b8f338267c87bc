"""The line in which messages wait, beside a deque that has had the same done to it."""

from __future__ import annotations

import random
import sys
from collections import deque

import pytest

from protocol.mqtt.message import Message
from protocol.mqtt.waiting import TAKEN_MIN, WaitingLine
from protocol.mqtt.window import Queued


def queued(position: int) -> Queued:
    return Queued(Message(b"t", b"%d" % position), 1, False, position=position)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_first_in_first_out_whatever_comes_and_goes_between(seed: int) -> None:
    chance = random.Random(seed)
    line, model = WaitingLine(), deque[Queued]()
    for position in range(1, 20 * TAKEN_MIN):
        message = queued(position)
        line.append(message)
        model.append(message)
        while model and chance.random() < 0.5:
            assert line.oldest() is model[0]
            assert line.take() is model.popleft()
        assert line.count() == len(model)
        assert line.all() == list(model)
        behind = position - chance.randrange(2 * TAKEN_MIN)
        assert line.behind(behind) == [one for one in model if one.position > behind]


def test_one_made_of_others_has_them_in_their_order() -> None:
    messages = [queued(position) for position in range(1, 4)]
    line = WaitingLine(messages)
    messages.pop()
    assert [line.take().position for _ in range(line.count())] == [1, 2, 3]
    assert line.oldest() is None


def test_what_was_taken_is_kept_no_longer() -> None:
    line = WaitingLine()
    payload = bytes(100)
    references = sys.getrefcount(payload)
    line.append(Queued(Message(b"t", payload), 1, False))
    line.append(queued(2))
    line.take()
    assert sys.getrefcount(payload) == references


def test_what_waits_costs_no_more_for_what_went_before() -> None:
    line = WaitingLine([queued(1)])
    for position in range(2, 50 * TAKEN_MIN):
        line.append(queued(position))
        line.take()
    assert line.behind(0) == line.all()
    assert len(line._items) <= 2 * TAKEN_MIN
