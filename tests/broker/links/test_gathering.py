"""Whether a round to many waits for what else they will be owed, because they have yet to acknowledge."""

from __future__ import annotations

import pytest

from broker.core.counters import Counters
from broker.core.outbox import Outbox, Round
from broker.core.shell import Shell
from broker.links.gathering import EACH_S, MANY, OFTEN, PUBLISHERS_MAX, REST, VAIN_MAX, WAIT_S_MAX, Gathering
from broker.links.readiness import READABLE, Epoll

PUBLISHER = 7
OFTEN_S = OFTEN * (MANY + 1) * EACH_S


class Receiver(Shell):
    """Has so many messages to acknowledge, those included that it is owed."""

    def __init__(self, unacknowledged: int) -> None:
        self.unacknowledged = unacknowledged

    def is_behind(self, owed: int) -> bool:
        return self.unacknowledged > owed


class Asked(Epoll):
    """Where two receivers are ready, and who publishes soon is."""

    def __init__(self) -> None:
        super().__init__()
        self.timeout_s = 0.0
        self.everybody = [(1, READABLE), (2, READABLE)]
        self.poll = self.asked  # type: ignore[assignment]

    def asked(self, timeout_s: float, count_max: int) -> list[tuple[int, int]]:
        assert (timeout_s, count_max) == (0, 10)
        return self.everybody

    def among(self, fds: list[int], timeout_s: float, /) -> list[int]:
        assert fds
        self.timeout_s = timeout_s
        return fds


class Crowd:
    """Receivers, each of which is owed a message; many were sent to just before."""

    def __init__(self, unacknowledged: int = 2, count: int = MANY + 1) -> None:
        self.round = Round(Counters())
        self.receivers = [Receiver(unacknowledged) for _ in range(count)]
        self.outboxes = [Outbox(self.round, 1000, len, receiver) for receiver in self.receivers]
        self.ready = Asked()
        self.held_up: set[int] = set()
        self.gathering = Gathering(self.round, self.ready, lambda fd: fd not in self.held_up)
        self.gathering.published(PUBLISHER, count)
        self.now = 0.0
        assert not self.is_worth_waiting()

    def is_worth_waiting(self, messages: int = 1, after_s: float = OFTEN_S / 2) -> bool:
        """For a round in which each is owed so many messages, which are sent afterwards."""
        self.owe(messages)
        self.now += after_s
        return self.gathering.is_worth_waiting(self.now)

    def owe(self, messages: int = 1) -> None:
        for outbox in self.outboxes:
            for _ in range(messages):
                outbox.push_publish(b"head", b"id", b"payload", 7)

    def meet(self) -> None:
        """What was waited for comes, and all of it is sent."""
        self.owe()
        self.gathering.waited(len(self.outboxes))
        self.round.flush()

    def waits_in_vain(self) -> bool:
        """Whether it waits once more, for nothing."""
        if not self.is_worth_waiting():
            self.round.flush()
            return False
        self.gathering.waited(0)
        self.round.flush()
        return True


def crowd(unacknowledged: int = 3) -> Crowd:
    made = Crowd(unacknowledged)
    made.round.flush()
    return made


def test_where_all_have_more_to_acknowledge_it_waits() -> None:
    assert crowd().is_worth_waiting()


def test_who_has_acknowledged_all_is_sent_to_at_once() -> None:
    assert not crowd(unacknowledged=1).is_worth_waiting()


def test_where_some_have_acknowledged_all_nobody_waits() -> None:
    one = crowd()
    for receiver in one.receivers[len(one.receivers) // 2 :]:
        receiver.unacknowledged = 1
    assert not one.is_worth_waiting()


def test_who_is_owed_only_an_answer_is_not_waited_for() -> None:
    one = crowd()
    for outbox in one.outboxes:
        outbox.answer(b"answer")
    assert not one.is_worth_waiting(messages=0)


@pytest.mark.parametrize(("count", "wait_s"), [(50, 50 * EACH_S), (100, WAIT_S_MAX), (1000, WAIT_S_MAX)])
def test_it_waits_as_long_as_the_sends_take_and_never_long(count: int, wait_s: float) -> None:
    one = Crowd(count=count)
    one.gathering.hear()
    assert one.ready.timeout_s == wait_s


def test_seldom_is_not_worth_it() -> None:
    one = crowd()
    assert not one.is_worth_waiting(after_s=2 * OFTEN_S)
    assert one.is_worth_waiting()


def test_nobody_is_waited_for_who_has_gone() -> None:
    one = crowd()
    one.gathering.forget(PUBLISHER)
    assert not one.is_worth_waiting()


def test_those_are_waited_for_who_published_to_many_last() -> None:
    gathering = crowd().gathering
    for fd in (1, 2, 3, 1, 4, 5):
        gathering.published(fd, MANY + 1)
    assert gathering.publishers == [3, 1, 4, 5]
    assert len(gathering.publishers) == PUBLISHERS_MAX


def test_while_somebody_publishes_to_few_nobody_is_kept_waiting_for_others() -> None:
    one = crowd()
    one.gathering.published(PUBLISHER + 1, 1)
    for _ in range(REST):
        assert not one.waits_in_vain()
    assert one.waits_in_vain()


def test_waits_in_vain_end_and_are_tried_once_more_much_later() -> None:
    one = crowd()
    for tries in (VAIN_MAX, 1):
        for _ in range(tries):
            assert one.waits_in_vain()
        for _ in range(REST):
            assert not one.waits_in_vain()
    assert one.waits_in_vain()


def test_what_comes_once_makes_up_for_what_was_in_vain() -> None:
    one = crowd()
    for _ in range(VAIN_MAX - 1):
        assert one.waits_in_vain()
    assert one.is_worth_waiting()
    one.meet()
    for _ in range(VAIN_MAX):
        assert one.waits_in_vain()


@pytest.mark.parametrize(("comes", "waits"), [(1, True), (2, False)])
def test_what_comes_at_once_is_not_waited_for(comes: int, waits: bool) -> None:
    one = crowd()
    assert one.is_worth_waiting()
    assert not one.gathering.is_choosy
    one.meet()
    assert one.gathering.is_choosy
    assert one.is_worth_waiting(messages=comes) == waits
    assert one.gathering.is_choosy != waits


def test_who_met_before_is_waited_for_though_all_have_acknowledged_by_now() -> None:
    one = crowd()
    assert one.is_worth_waiting()
    one.meet()
    for receiver in one.receivers:
        receiver.unacknowledged = 1
    assert one.waits_in_vain()
    assert not one.waits_in_vain()


def test_after_a_wait_in_vain_everybody_is_heard_again() -> None:
    one = crowd()
    assert one.is_worth_waiting()
    one.meet()
    assert one.waits_in_vain()
    assert not one.gathering.is_choosy


def test_where_all_have_met_everybody_is_heard_once_and_then_who_publishes() -> None:
    one = crowd()
    assert one.is_worth_waiting()
    one.meet()
    assert one.gathering.next_to_hear(10) == [(1, READABLE), (2, READABLE)]
    assert one.gathering.is_choosy
    assert one.gathering.next_to_hear(10) == [(PUBLISHER, READABLE)]
    assert not one.gathering.is_choosy
    one.ready.everybody = []
    assert one.is_worth_waiting()
    one.meet()
    assert one.gathering.next_to_hear(10) == [(PUBLISHER, READABLE)]
    assert not one.gathering.is_choosy


def test_where_who_publishes_has_gone_since_all_met_nobody_is_waited_for() -> None:
    one = crowd()
    assert one.is_worth_waiting()
    one.meet()
    one.gathering.forget(PUBLISHER)
    one.ready.everybody = []
    assert one.gathering.next_to_hear(10) == []
    assert not one.gathering.is_choosy


def test_a_publisher_that_is_held_up_is_not_waited_for() -> None:
    one = crowd()
    one.gathering.published(PUBLISHER + 1, MANY + 1)
    one.held_up = {PUBLISHER}
    assert one.gathering.hear() == [(PUBLISHER + 1, READABLE)]
    one.held_up.add(PUBLISHER + 1)
    assert one.gathering.hear() == []
