"""What a node owes the log for too long: who waits for it is sent elsewhere, and the rest waits."""

from __future__ import annotations

import pytest

from broker.cluster.batch import Waiting, described
from broker.cluster.names import Names
from broker.cluster.overdue import REFUSE_AFTER_S, Overdue
from broker.cluster.status import ClusterStatus
from broker.cluster.unsent import WAITING_MESSAGES_MAX, Unsent
from broker.core.engine import Engine
from broker.core.promise import Promise
from broker.core.publication import Publication
from protocol.mqtt.v5.reasons import ReasonCode


def waiting(publication: Publication) -> Waiting:
    one = described(publication, Names("shop"), b"n1-1234", 1, b"id", 0.0, 0.0)
    if publication.promise is not None:
        one.promise = publication.join_promise()
    return one


class Given:
    def __init__(self) -> None:
        self.waiting, self.engine = Unsent(), Engine()
        self.overdue = Overdue(self.engine, ClusterStatus(), self.waiting)
        self.up: list[Publication] = []
        self.overdue.on_given_up = lambda one: self.up.append(one.publication)

    def left_of(self, *owed: Publication) -> list[Publication]:
        """What waits when those who wait were sent elsewhere."""
        for one in owed:
            self.waiting.append(waiting(one))
        with self.engine.turn:
            self.overdue.send_elsewhere(self.waiting.all())
        return [one.publication for one in self.waiting.all()]


async def test_who_waits_for_an_answer_gets_one_and_the_rest_waits() -> None:
    given = Given()
    asked, said, will = (Publication(b"t", b"x", 1, False) for _ in range(3))
    answers: list[str] = []
    promise = asked.promise = Promise()
    promise.on_kept = lambda: answers.append("asked")
    will.promise, will.message_id = Promise(), b"will:1"
    will.promise.on_kept = lambda: answers.append("will")
    assert given.left_of(asked, said, will) == [said, will]
    assert answers == ["asked"]
    assert promise.code == ReasonCode.SERVER_BUSY
    assert given.up == [asked]


async def test_a_clients_message_comes_again_elsewhere_and_what_is_too_much_is_given_up() -> None:
    given = Given()
    own = Publication(b"t", b"x", 1, False, b"client")
    own.packet_id = 7
    said = [Publication(b"t", b"%d" % number, 1, False) for number in range(WAITING_MESSAGES_MAX + 2)]
    assert given.left_of(own, *said) == said[2:]
    assert given.up == [own, *said[:2]]


@pytest.mark.parametrize(
    ("since_s", "is_too_long"), [(REFUSE_AFTER_S - 1, False), (REFUSE_AFTER_S + 1, True)]
)
async def test_publishers_are_refused_until_the_log_takes_something(
    since_s: float, is_too_long: bool
) -> None:
    overdue = Given().overdue
    owed = [waiting(Publication(b"t", b"x"))]
    now = overdue.taken_at
    overdue.taken_at = now - since_s
    assert not overdue.is_too_long([])
    assert overdue.is_too_long(owed) is is_too_long
    assert overdue.refuses is is_too_long
    overdue.taken(now)
    assert not overdue.refuses
    assert not overdue.is_too_long(owed)
