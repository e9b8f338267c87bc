"""How far a client has come: it is told each message once, and what it was too slow for in one go, when it can."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.parts import Part
from broker.links.websocket.cursors import Cursors


class Counting(Part):
    """Says numbers; what was missed is said as their range."""

    def publish(self) -> bytes:
        self.prev, self.seq = self.seq, self.seq + 1
        return b"%d" % self.seq

    def state(self) -> list[bytes]:
        return [b"all to %d" % self.seq]

    def since(self, seq: int) -> list[bytes]:
        return [b"%d to %d" % (seq + 1, self.seq)]


@dataclass
class Engine:
    now: float = 100.0


@dataclass
class Gateway:
    """Knows who wants to be served at an interval."""

    engine: Engine = field(default_factory=Engine)
    pacing: list[object] = field(default_factory=list)

    def join_pacing(self, client: object) -> None:
        if client not in self.pacing:
            self.pacing.append(client)

    def leave_pacing(self, client: object) -> None:
        self.pacing.remove(client)


class Client:
    def __init__(self) -> None:
        self.gateway = Gateway()
        self.cursors = Cursors(self)  # type: ignore[arg-type]

    def pace(self, now: float) -> None:
        raise AssertionError("the cursors do not call it")


def numbers(payloads: list[bytes]) -> list[int]:
    """What a client knows of these payloads."""
    found: list[int] = []
    for payload in payloads:
        first, _, last = payload.partition(b" to ")
        found += range(1 if first == b"all" else int(first), int(last or first) + 1)
    return found


@given(st.lists(st.sampled_from(["quick", "slow", "catch up"]), max_size=20), st.integers(0, 3))
def test_whatever_the_pace_nothing_is_missed_and_nothing_comes_twice(deeds: list[str], before: int) -> None:
    client, part = Client(), Counting(b"t", 0, False)
    for _ in range(before):
        part.publish()
    told = client.cursors.join(b"t", [part], 0.0)
    for deed in [*deeds, "catch up"]:
        if deed == "catch up":
            told += client.cursors.catch_up()
        else:
            payload = part.publish()
            if client.cursors.takes(part, deed == "quick"):
                told.append(payload)
    assert not client.cursors.is_behind()
    assert numbers(told) == list(range(1, part.seq + 1))


def test_a_part_that_came_to_be_later_begins_with_its_first_message() -> None:
    client, part = Client(), Counting(b"t", 0, False)
    assert client.cursors.join(b"t", [], 0.0) == []
    part.publish()
    assert client.cursors.takes(part, True)
    part.publish()
    assert not client.cursors.takes(part, False)
    assert client.cursors.catch_up() == [b"2 to 2"]


def test_who_is_behind_gets_the_rest_of_the_part_that_waited_longest() -> None:
    client = Client()
    parts = [Counting(b"%d" % number, 0, False) for number in range(3)]
    for part in parts:
        client.cursors.join(part.topic, [part], 0.0)
    for number in (1, 0, 2, 1):
        parts[number].publish()
        client.cursors.takes(parts[number], False)
    assert client.cursors.is_behind()
    assert [client.cursors.catch_up() for _ in range(4)] == [[b"1 to 2"], [b"1 to 1"], [b"1 to 1"], []]


@pytest.mark.parametrize("is_quick", [False, True])
def test_a_topic_at_an_interval_says_what_came_once_it_is_over(is_quick: bool) -> None:
    client, part = Client(), Counting(b"t", 0, False)
    assert client.cursors.join(b"t", [part], 5.0) == [b"all to 0"]
    assert client.gateway.pacing == [client]
    for _ in range(3):
        part.publish()
        assert not client.cursors.takes(part, is_quick)
    assert client.cursors.due(104.0) == []
    assert client.cursors.due(105.0) == [b"1 to 3"]
    assert client.cursors.due(200.0) == []
    part.publish()
    client.cursors.takes(part, True)
    assert client.cursors.due(109.9) == []
    assert client.cursors.due(110.0) == [b"4 to 4"]  # after the last time that there was something to say


def test_without_a_state_the_first_message_of_an_interval_comes_at_once() -> None:
    client, part = Client(), Counting(b"t", 0, False)
    client.cursors.join(b"t", [], 5.0)
    part.publish()
    client.cursors.takes(part, True)
    assert client.cursors.due(100.0) == [b"1 to 1"]
    part.publish()
    client.cursors.takes(part, True)
    assert client.cursors.due(104.9) == []
    assert client.cursors.due(105.0) == [b"2 to 2"]


def test_all_parts_of_a_topic_have_one_interval() -> None:
    client = Client()
    parts = [Counting(b"t", 0, False) for _ in range(2)]
    client.cursors.join(b"t", parts, 5.0)  # type: ignore[arg-type]
    for part in parts:
        part.publish()
        client.cursors.takes(part, True)
    assert client.cursors.due(105.0) == [b"1 to 1", b"1 to 1"]


def test_who_left_a_topic_is_told_no_more_of_it_and_keeps_the_others() -> None:
    client = Client()
    left, kept = Counting(b"left", 0, False), Counting(b"kept", 0, False)
    for part in (left, kept):
        client.cursors.join(part.topic, [part], 0.0)
        part.publish()
        client.cursors.takes(part, False)
    client.cursors.leave(b"left")
    assert client.cursors.catch_up() == [b"1 to 1"]
    assert client.cursors.catch_up() == []
    left.publish()
    assert client.cursors.join(b"left", [left], 0.0) == [b"all to 2"]


@pytest.mark.parametrize("how", ["leave", "end"])
def test_who_wants_nothing_at_an_interval_any_more_is_not_served_so(how: str) -> None:
    client = Client()
    for topic in (b"a", b"b"):
        client.cursors.join(topic, [], 5.0)
    client.cursors.join(b"c", [], 0.0)
    if how == "end":
        client.cursors.end()
    else:
        client.cursors.leave(b"a")
        assert client.gateway.pacing == [client]
        client.cursors.leave(b"b")
    client.cursors.leave(b"c")
    assert client.gateway.pacing == []
    assert client.cursors.paced == {}
