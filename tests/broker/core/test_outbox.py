"""Bytes owed to one peer: order, limits, a kernel that takes some, nothing, or breaks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from support.interpreted import interpreted_only

from broker.core import barrier as barriers
from broker.core.counters import Counters
from broker.core.limits import ANSWERS_OWED_BYTES_MAX, SEND_BYTES_MAX
from broker.core.outbox import Outbox, Round
from broker.core.pieces import LOOSE_MAX
from broker.core.shell import Shell
from broker.core.strain import READS_AGAIN_WITHIN_S, READS_WITHIN_S, SLICE_BYTES


class Kernel(Shell):
    """A socket's send: takes `room` bytes, then blocks; where it `fails`, every send does."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.taken = b""
        self.sends = 0
        self.fails = False
        self.events: list[str] = []

    def send(self, data: bytes) -> int:
        self.sends += 1
        if self.fails:
            raise ConnectionResetError
        if self.room == 0:
            raise BlockingIOError
        size = min(self.room, len(data))
        self.room -= size
        self.taken += data[:size]
        return size

    def outbox(self, round: Round) -> Outbox:
        outbox = self.of = Outbox(round, 1000, self.send, self)
        return outbox

    def blocked(self) -> None:
        self.events.append("blocked")

    def broken(self) -> None:
        self.events.append("broken")

    def look_again(self) -> None:
        self.events.append(f"hold {self.of.holds_reading}")


class Calling(Shell):
    """Does something when it is told that its outbox is blocked."""

    def __init__(self, on_blocked: Callable[[], None]) -> None:
        super().__init__()
        self._on_blocked = on_blocked

    def blocked(self) -> None:
        self._on_blocked()


def test_everything_pushed_in_a_round_leaves_in_one_send() -> None:
    kernel, round = Kernel(1000), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.push(b"one")
    outbox.push_publish(b"head", b"\0\1", b"payload", 7)
    outbox.push_publish(b"head", b"\0\2", b"\0payload", 7)
    assert kernel.sends == 0
    round.flush()
    assert (kernel.sends, kernel.taken) == (1, b"onehead\0\1payloadhead\0\2\0payload")
    assert outbox.pending_bytes == 0
    counters = round.counters
    assert (counters.bytes_sent, counters.publishes_sent, counters.publish_bytes_sent) == (30, 2, 14)


def test_a_round_knows_how_many_pieces_are_owed_by_those_it_will_send_to() -> None:
    round = Round(Counters())
    outboxes = [Kernel(1000).outbox(round) for _ in range(3)]
    assert round.pieces() == 0
    outboxes[0].push(b"one")
    outboxes[1].push(b"one")
    outboxes[1].push(b"two")
    assert round.pieces() == 3
    round.flush()
    assert round.pieces() == 0


def test_what_the_kernel_refuses_stays_in_order() -> None:
    kernel, round = Kernel(5), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.push(b"abcdefgh")
    round.flush()
    outbox.push(b"ij")
    round.flush()
    assert (kernel.taken, kernel.events, outbox.pending_bytes) == (b"abcde", ["blocked"], 5)
    kernel.room = 100
    outbox.writable()
    assert kernel.taken == b"abcdefghij"
    assert outbox.pending_bytes == 0


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_pushed_and_however_little_is_taken_the_order_stays(seed: int) -> None:
    random = Random(seed)
    kernel, round = Kernel(0), Round(Counters())
    outbox = kernel.outbox(round)
    owed = b""
    for number in range(300):
        piece = b"%d," % number * random.choice((1, 1, 9_000))
        if random.random() < 0.5:
            outbox.push(piece)
            owed += piece
        else:
            outbox.push_publish(b"<", b"id", piece, len(piece))
            owed += b"<id" + piece
        if random.random() < 0.5:
            kernel.room = random.choice((0, 1, 5, len(owed)))
            round.flush()
            outbox.writable()
            assert outbox.pending_bytes == len(owed) - len(kernel.taken)
    kernel.room = len(owed)
    outbox.writable()
    round.flush()
    assert kernel.taken == owed
    assert (outbox.pending_bytes, outbox.pieces()) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_very_many_small_messages_cost_a_slow_peer_little_more_than_their_bytes(seed: int) -> None:
    random = Random(seed)
    kernel, round = Kernel(0), Round(Counters())
    outbox = kernel.outbox(round)
    owed = b""
    for number in range(30_000):
        outbox.push_publish(b"%d" % number, b"", b",", 0)
        owed += b"%d," % number
        if number % 50 == 0:
            round.flush()
            assert outbox.pieces() <= 2 * LOOSE_MAX
        if number % 1_000 == 0:
            kernel.room = random.choice((0, 1, 500))
            outbox.writable()
            assert outbox.pending_bytes == len(owed) - len(kernel.taken)
    kernel.room = len(owed)
    outbox.writable()
    assert kernel.taken == owed
    assert (outbox.pending_bytes, outbox.pieces()) == (0, 0)


def test_a_kernel_that_takes_nothing_loses_nothing() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.push(b"abc")
    round.flush()
    assert (kernel.events, outbox.pending_bytes) == (["blocked"], 3)
    kernel.room = 100
    outbox.writable()
    assert kernel.taken == b"abc"


def test_a_large_debt_is_offered_in_pieces() -> None:
    kernel, round = Kernel(10**9), Round(Counters())
    outbox = kernel.outbox(round)
    piece = bytes(SEND_BYTES_MAX // 4)
    for _ in range(10):
        outbox.push(piece)
    round.flush()
    assert kernel.sends == 3
    assert kernel.taken == piece * 10


def test_a_broken_peer_is_told_once_and_owed_nothing_more() -> None:
    kernel, round = Kernel(100), Round(Counters())
    outbox = kernel.outbox(round)
    kernel.fails = True
    outbox.push(b"abc")
    round.flush()
    outbox.push(b"def")
    round.flush()
    assert (kernel.events, outbox.pending_bytes, kernel.sends) == (["broken"], 0, 1)


def test_drained_is_told_after_having_been_blocked() -> None:
    kernel, round = Kernel(2), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.on_drained = lambda: kernel.events.append("drained")
    outbox.push(b"abc")
    round.flush()
    kernel.room = 100
    outbox.writable()
    assert kernel.events == ["blocked", "drained"]


def test_who_has_more_is_told_though_the_kernel_took_all_at_once() -> None:
    kernel, round = Kernel(100), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.on_drained = lambda: kernel.events.append("drained")
    outbox.push(b"abc")
    outbox.more_waits = True
    round.flush()
    assert (kernel.taken, kernel.events) == (b"abc", ["blocked"])
    outbox.writable()
    assert kernel.events == ["blocked", "drained"]
    outbox.push(b"def")
    round.flush()
    assert (kernel.taken, kernel.events) == (b"abcdef", ["blocked", "drained"])


def test_a_task_takes_what_is_owed_and_is_woken_again() -> None:
    round, woken = Round(Counters()), []
    outbox = Outbox(round, 1000, None, Calling(lambda: woken.append(1)))
    outbox.push(b"abc")
    round.flush()
    outbox.push(b"def")
    round.flush()
    assert len(woken) == 1
    assert outbox.take() == b"abcdef"
    assert outbox.take() == b""
    outbox.push(b"g")
    round.flush()
    assert len(woken) == 2


def test_what_a_flush_causes_leaves_in_the_same_flush() -> None:
    kernel, round = Kernel(100), Round(Counters())
    second = kernel.outbox(round)
    first = Outbox(round, 1000, None, Calling(lambda: second.push(b"will")))
    first.push(b"x")
    round.flush()
    assert kernel.taken == b"will"


def test_what_many_are_owed_alike_is_joined_once() -> None:
    sent: dict[int, list[bytes]] = {}
    round = Round(Counters())

    def outbox(number: int) -> Outbox:
        sent[number] = []

        def send(data: bytes) -> int:
            sent[number].append(data)
            return len(data)

        return Outbox(round, 1000, send)

    outboxes = [outbox(number) for number in range(5)]
    messages = [b"one ", b"two ", b"three"]
    for number, owed in enumerate((messages, messages, messages[:2], messages[::-1], messages)):
        for message in owed:
            outboxes[number].push(message)
    round.flush()
    assert sent[0][0] is sent[1][0]
    whole = b"one two three"
    assert [b"".join(sends) for sends in sent.values()] == [
        whole,
        whole,
        b"one two ",
        b"threetwo one ",
        whole,
    ]
    for each in outboxes:
        each.push(b"four")  # nothing of before is left with anybody
    round.flush()
    assert [sends[1:] for sends in sent.values()] == [[b"four"]] * 5


def test_some_of_those_that_wait_can_be_sent_to_before_the_others() -> None:
    round = Round(Counters())
    kernels = [Kernel(100) for _ in range(4)]
    outboxes = [kernel.outbox(round) for kernel in kernels]
    for outbox in outboxes:
        outbox.push(b"a")
    round.flush_some(0, 2)
    assert [kernel.taken for kernel in kernels] == [b"a", b"a", b"", b""]
    assert round.waiting() == 2
    for outbox in outboxes:
        outbox.push(b"b")  # two of them wait already
    round.flush_some(2, round.waiting())
    assert [kernel.taken for kernel in kernels] == [b"ab", b"ab", b"", b""]
    round.flush_some(round.waiting() + 1, round.waiting())  # nobody
    round.flush()
    assert [(kernel.taken, kernel.sends) for kernel in kernels] == [(b"ab", 2)] * 2 + [(b"ab", 1)] * 2
    assert round.waiting() == 0


def test_who_got_something_last_can_be_sent_to_before_all_others() -> None:
    round = Round(Counters())
    first, last = Kernel(100), Kernel(100)
    outboxes = [kernel.outbox(round) for kernel in (first, last)]
    for outbox in outboxes:
        outbox.push(b"x")
    assert round.at(0) is outboxes[0]
    round.send_last(outboxes[0])
    assert (first.taken, last.taken) == (b"", b"")
    round.send_last(outboxes[1])
    assert (first.taken, last.taken) == (b"", b"x")
    outboxes[1].push(b"y")
    round.flush()
    assert (first.taken, last.taken) == (b"x", b"xy")
    round.send_last(outboxes[1])  # who is owed nothing
    assert last.sends == 2


def test_a_message_longer_than_the_limit_fits_where_hardly_anything_is_owed() -> None:
    outbox = Kernel(0).outbox(Round(Counters()))
    assert outbox.has_room(100_000)
    outbox.push(b"x" * 251)
    assert outbox.has_room(749)
    assert not outbox.has_room(750)


def test_what_can_wait_waits_above_the_limit_and_hears_when_all_has_left() -> None:
    kernel, round = Kernel(10_000), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.on_drained = lambda: kernel.events.append("drained")
    outbox.push(b"x" * 1000)
    assert not outbox.takes_more()
    round.flush()
    outbox.writable()
    assert kernel.events == ["blocked", "drained"]
    assert outbox.takes_more()


def test_unread_answers_hold_reading_until_half_of_them_have_left() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.answer(b"x" * ANSWERS_OWED_BYTES_MAX)
    round.flush()
    assert kernel.events == ["blocked"]
    outbox.answer(b"x")
    round.flush()
    assert kernel.events == ["blocked", "hold True"]
    kernel.room = ANSWERS_OWED_BYTES_MAX // 2
    outbox.writable()
    assert kernel.events[2:] == ["blocked"]
    kernel.room = 1
    outbox.writable()
    assert kernel.events[3:] == ["hold False", "blocked"]


def test_deliveries_do_not_hold_reading() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = kernel.outbox(round)
    outbox.push(b"x" * (2 * ANSWERS_OWED_BYTES_MAX))
    round.flush()
    outbox.answer(b"x")
    round.flush()
    assert not outbox.holds_reading


def strained(round: Round, kernel: Kernel) -> Outbox:
    """An outbox whose peer has yet to take 300 000 bytes."""
    outbox = kernel.outbox(round)
    outbox.push(bytes(300_000))
    round.flush()
    round.strain(outbox)
    return outbox


def test_who_never_reads_is_waited_for_once_however_many_slices_come() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = strained(round, kernel)
    assert round.awaits_readers(10.0)
    outbox.push(bytes(1000))
    round.strain(outbox)  # the next slice does not begin the waiting anew
    assert round.awaits_readers(10.0 + READS_WITHIN_S)
    assert not round.awaits_readers(10.1 + READS_WITHIN_S)
    round.strain(outbox)
    assert not round.is_strained


def test_who_has_read_is_waited_for_longer_and_not_for_ever() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = strained(round, kernel)
    assert round.awaits_readers(10.0)
    kernel.room = 100_000
    outbox.writable()
    assert round.awaits_readers(10.5)
    outbox.push(bytes(1000))
    round.strain(outbox)
    assert round.awaits_readers(10.5 + READS_AGAIN_WITHIN_S)
    assert not round.awaits_readers(10.6 + READS_AGAIN_WITHIN_S)


def test_who_is_waited_for_gets_a_slice_before_it_is_waited_for_again() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = strained(round, kernel)
    assert round.is_strained
    assert round.awaits_readers(10.0)
    assert not round.is_strained
    outbox.push(bytes(1000))
    round.strain(outbox)
    assert not round.is_strained
    outbox.push(bytes(SLICE_BYTES))
    round.strain(outbox)
    assert round.is_strained


def test_who_has_read_nearly_all_is_waited_for_as_early_as_ever() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = strained(round, kernel)
    assert round.awaits_readers(10.0)
    kernel.room = 250_000
    outbox.writable()
    for _ in range(2):
        assert not round.is_strained
        outbox.push(bytes(SLICE_BYTES))
        round.strain(outbox)
    assert round.is_strained


def test_nobody_waits_for_a_closed_connection() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = strained(round, kernel)
    outbox.close()
    assert not round.awaits_readers(10.0)


def test_what_the_kernel_was_not_given_yet_takes_no_room() -> None:
    kernel, round = Kernel(1_000_000), Round(Counters())
    outbox = kernel.outbox(round)
    size = outbox.limit_bytes
    outbox.push(bytes(size))
    assert not outbox.has_room(size)
    assert outbox.finds_room(size)
    kernel.room = 0
    outbox.push(bytes(size))
    assert not outbox.finds_room(size)
    assert outbox.blocked


def test_who_has_caught_up_is_not_waited_for_and_may_strain_again() -> None:
    kernel, round = Kernel(0), Round(Counters())
    outbox = strained(round, kernel)
    assert round.awaits_readers(10.0)
    assert not round.awaits_readers(10.1 + READS_WITHIN_S)
    kernel.room = 1_000_000
    outbox.writable()
    assert not round.awaits_readers(20.0)
    round.strain(outbox)
    assert round.is_strained


def test_whoever_traces_sees_whole_packets_and_nothing_follows_a_close() -> None:
    kernel, round = Kernel(1000), Round(Counters())
    outbox = kernel.outbox(round)
    traced: list[bytes] = []
    outbox.on_push = traced.append
    outbox.push_publish(b"head", b"\0\1", b"payload", 7)
    outbox.push_publish(b"head", b"\0\2", b"\0payload", 7)
    outbox.on_push = None
    assert traced == [b"head\0\1payload", b"head\0\2\0payload"]
    outbox.close()
    outbox.push_publish(b"head", b"\0\1", b"payload", 7)
    outbox.push_publish(b"head", b"\0\2", b"\0payload", 7)
    round.flush()
    assert (kernel.sends, outbox.pending_bytes) == (0, 0)


def test_a_rest_that_is_over_ends_no_pause_and_a_pause_no_rest() -> None:
    outbox = Kernel(0).outbox(Round(Counters()))
    outbox.rest(True)
    outbox.pause(True)
    outbox.rest(False)
    assert (outbox.holds_reading, outbox.is_paused) == (True, True)
    outbox.rest(True)
    outbox.pause(False)
    assert (outbox.holds_reading, outbox.is_paused) == (True, False)
    outbox.rest(False)
    assert not outbox.holds_reading


def test_the_end_of_one_that_is_paused_and_nothing_else_is_to_be_told() -> None:
    outbox = Kernel(0).outbox(Round(Counters()))
    told = []
    for act, on in ((outbox.pause, True), (outbox.rest, True), (outbox.rest, False), (outbox.pause, False)):
        act(on)
        told.append((outbox.holds_reading, outbox.hears_end))
    assert told == [(True, True), (True, False), (True, True), (False, False)]


@interpreted_only
def test_our_own_bug_in_one_flush_costs_that_peer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    round = Round(Counters())
    broken, other = Kernel(0), Kernel(10)
    monkeypatch.setattr(broken, "blocked", lambda: 1 // 0)
    failed: list[Exception] = []
    monkeypatch.setattr(broken, "failed", failed.append)
    for kernel in (broken, other):
        kernel.outbox(round).push(b"owed")
    round.flush()
    assert (broken.of.closed, other.taken, round.counters.link_bugs) == (True, b"owed", 1)
    assert [type(error) for error in failed] == [ZeroDivisionError], "its connection ends"


@interpreted_only
def test_a_connection_that_cannot_even_end_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    round = Round(Counters())
    broken, other = Kernel(0), Kernel(10)
    monkeypatch.setattr(broken, "blocked", lambda: 1 // 0)
    monkeypatch.setattr(broken, "failed", lambda error: {}[error])
    for kernel in (broken, other):
        kernel.outbox(round).push(b"owed")
    round.flush()
    assert (broken.of.closed, other.taken, round.counters.link_bugs) == (True, b"owed", 2)


@interpreted_only
def test_whoever_hands_on_the_bug_that_met_it_has_met_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    round, broken = Round(Counters()), Kernel(0)

    def raised(error: Exception) -> None:
        raise error

    monkeypatch.setattr(broken, "blocked", lambda: 1 // 0)
    monkeypatch.setattr(broken, "failed", raised)
    broken.outbox(round).push(b"owed")
    round.flush()
    assert round.counters.link_bugs == 1


@interpreted_only
def test_a_connection_ends_though_it_cannot_be_read_from_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Kernel(0)
    outbox = broken.outbox(Round(Counters()))
    outbox.answer(bytes(ANSWERS_OWED_BYTES_MAX + 1))
    outbox.flush()
    outbox.flush()
    assert outbox.holds_reading
    failed: list[Exception] = []
    monkeypatch.setattr(broken, "look_again", lambda: 1 // 0)
    monkeypatch.setattr(broken, "failed", failed.append)
    met = ArithmeticError()
    with pytest.raises(ZeroDivisionError):
        outbox.fail(met)
    assert failed == [met]
