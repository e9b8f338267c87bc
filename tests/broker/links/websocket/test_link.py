"""One WebSocket: messages in their order, one goodbye, and no more than it may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.interpreted import interpreted_only
from support.websockets import masked

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.links.websocket.farewell import all_owed
from broker.links.websocket.link import CONTROL_FRAMES_PER_S_MAX, LOST, WebSocketLink
from protocol.websocket import close_frame, pong_frame, text_frame
from protocol.websocket_reader import FrameReader

pytestmark = interpreted_only

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


class Noting(WebSocketLink):
    """Takes note of what comes; `wait` as a message makes it wait, `bug` fails."""

    def __init__(self) -> None:
        engine = Engine()
        self.ends = 0
        self.pauses = 0
        super().__init__(
            engine,
            Outbox(engine.round, 1 << 20, lambda data: 0),
            FrameReader(1000),
            "10.0.0.1:5",
        )
        self.came: list[str | bytes] = []
        self.on_close = self._ended
        self.on_pause = self._paused

    def text(self, text: str) -> None:
        self.came.append(text)
        if text == "wait":
            self.wait()
        if text == "bug":
            raise ArithmeticError

    def binary(self, data: bytes) -> None:
        self.came.append(data)

    def last_words(self, code: int) -> list[bytes]:
        return [text_frame(b"bye")] if code == 1001 else []

    def _ended(self) -> None:
        self.ends += 1

    def _paused(self) -> None:
        self.pauses += 1

    def owed(self) -> bytes:
        return all_owed(self.outbox)


@given(st.lists(st.sampled_from([(TEXT, b"a"), (TEXT, b"wait"), (BINARY, b"b")])), st.integers(1, 20))
def test_messages_come_in_their_order_however_they_are_cut_and_whoever_waits(
    messages: list[tuple[int, bytes]], size: int
) -> None:
    link = Noting()
    data = b"".join(masked(*message) for message in messages)
    for start in range(0, len(data), size):
        link.received(data[start : start + size])
    answers = 0
    while link.waits:
        answers += 1
        link.resume()
    assert answers == messages.count((TEXT, b"wait"))
    assert link.came == [one.decode() if kind == TEXT else one for kind, one in messages]


def test_what_comes_while_it_waits_is_not_looked_at() -> None:
    link = Noting()
    link.received(masked(TEXT, b"wait") + masked(TEXT, b"a"))
    link.received(masked(TEXT, b"b"))
    assert (link.came, link.waits, link.pauses) == (["wait"], True, 1)
    link.resume()
    assert (link.came, link.waits, link.pauses) == (["wait", "a", "b"], False, 2)
    link.resume()
    assert link.pauses == 2


def test_a_goodbye_is_answered_with_its_own_code_once() -> None:
    link = Noting()
    link.received(masked(CLOSE, (4000).to_bytes(2, "big") + b"why") + masked(TEXT, b"late"))
    link.close(1001, "going")
    assert link.closing == 4000
    assert link.heard_close
    assert link.ends == 1
    assert link.came == []
    assert link.owed() == close_frame(4000, "why")


def test_our_own_goodbye_has_last_words_before_it_and_waits_for_theirs() -> None:
    link = Noting()
    link.close(1001, "going")
    link.close(1011, "again")
    assert (link.closing, link.close_reason, link.ends) == (1001, "going", 1)
    assert not link.hears_close(masked(TEXT, b"late") + masked(PING, b"x"))
    assert link.hears_close(masked(CLOSE, (1001).to_bytes(2, "big")))
    assert link.came == []
    assert link.owed() == text_frame(b"bye") + close_frame(1001, "going")


def test_a_peer_that_just_goes_is_lost_and_gets_no_goodbye() -> None:
    link = Noting()
    link.lost()
    link.lost()
    assert (link.closing, link.ends, link.owed()) == (LOST, 1, b"")


@pytest.mark.parametrize(("first", "code"), [(0x01, 1002), (0xC1, 1002), (0x81, 1009)])
def test_what_is_no_websocket_ends_it_with_a_code_and_nothing_after_it_counts(first: int, code: int) -> None:
    link = Noting()
    link.received(
        masked(first, b"x" * (2000 if code == 1009 else 1)) + masked(first, b"y") + masked(TEXT, b"a")
    )
    assert link.closing == code
    assert link.heard_close
    link.received(masked(TEXT, b"b"))
    assert link.came == []


def test_a_ping_is_answered_and_is_an_answer_of_the_connection() -> None:
    link = Noting()
    link.received(masked(PING, b"x"))
    assert link.outbox.answer_bytes == len(pong_frame(b"x"))
    assert link.owed() == pong_frame(b"x")


@pytest.mark.parametrize("kind", [PING, PONG])
def test_more_pings_and_pongs_than_anybody_needs_end_it(kind: int) -> None:
    link = Noting()
    for second in range(3):
        link.engine.now = float(second)
        link.received(masked(kind, b"") * CONTROL_FRAMES_PER_S_MAX)
        assert link.closing == 0
    link.received(masked(kind, b"") * (CONTROL_FRAMES_PER_S_MAX + 1))
    assert link.closing == 1008


def test_a_bug_ends_this_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)
    link = Noting()
    link.received(masked(TEXT, b"bug") + masked(TEXT, b"a"))
    assert (link.closing, link.close_reason) == (1011, "internal error")
    assert link.engine.counters.link_bugs == 1
    assert link.came == ["bug"]


def test_a_piece_of_a_frame_is_no_sign_of_life() -> None:
    link = Noting()
    link.engine.now = 5.0
    link.received(masked(TEXT, b"a")[:-1])
    assert link.last_received == 0.0
    link.received(masked(TEXT, b"a")[-1:])
    assert link.last_received == 5.0


def test_a_peer_that_left_while_an_answer_was_awaited_is_lost_once_all_was_looked_at() -> None:
    link = Noting()
    link.received(masked(TEXT, b"wait"))
    assert not link.leaves_something()
    link.received(masked(TEXT, b"a"))
    assert link.leaves_something()
    link.departed = True
    assert link.closing == 0
    link.resume()
    assert link.came == ["wait", "a"]
    assert link.closing == LOST


def test_who_asked_too_much_may_close_and_rests_no_more() -> None:
    link = Noting()
    rests: list[bool] = []
    link.outbox.rest = rests.append  # type: ignore[method-assign, assignment]
    link.rests = True
    link.received(masked(TEXT, b"a"))
    assert link.came == []
    link.close(1000, "")
    assert rests == [False]
    assert not link.rests
