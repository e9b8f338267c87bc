"""A listener's connections are taken as they come: one at a time, more where many come, none where there is no room."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.interpreted import interpreted_only

from broker.config.model import Limits, Listener
from broker.core.engine import Engine
from broker.core.limits import ACCEPTS_PER_WAKE_MAX
from broker.links.listening.acceptor import FULLS_MAX, FULLS_MIN, Acceptor, peer_name
from broker.links.listening.door import Door
from broker.links.tls_socket import Socket

pytestmark = interpreted_only


class Waiting:
    """A listening socket on which so many connections wait, and after them a fault, if there is one."""

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

    def __init__(self) -> None:
        self.count = 0
        self.fault: OSError | None = None
        self.looked = 0
        self._others: list[socket.socket] = []

    def fileno(self) -> int:
        return -1

    def _accept(self) -> tuple[int, object]:
        self.looked += 1
        if self.count == 0:
            raise self.fault or BlockingIOError
        self.count -= 1
        ours, theirs = socket.socketpair()
        self._others.append(ours)
        return theirs.detach(), ("::ffff:10.0.0.1", 5)

    def close(self) -> None:
        for one in self._others:
            one.close()


class Case:
    def __init__(self, **door: Any) -> None:
        self.engine = Engine()
        self.listening = Waiting()
        self.taken: list[tuple[Socket, str, bytes | None]] = []
        self.exhausted = 0
        self.door = Door(Listener(1883, max_connections=door.pop("max_connections", -1)), Limits(), **door)
        self.asked = 0
        """Of so many it was looked at once whether they had sent something."""
        self.have_sent = False
        self.unwatched: list[object] = []
        pump: Any = SimpleNamespace(
            engine=self.engine, read_at_once=self._read_at_once, unwatch=self.unwatched.append
        )
        self.acceptor = Acceptor(
            pump, cast("socket.socket", self.listening), self.door, self._take, self._on_exhausted
        )

    def _take(self, sock: Socket, door: Door, peer: str, identity: bytes | None) -> None:
        door.enter()
        self.taken.append((sock, peer, identity))

    def _on_exhausted(self) -> None:
        self.exhausted += 1

    def _read_at_once(self, sock: socket.SocketType) -> bool:
        assert sock is self.taken[-1][0]
        self.asked += 1
        return self.have_sent

    def asked_of(self, count: int) -> list[bool]:
        """So many come, each alone; which of them were asked."""
        asked = []
        for _ in range(count):
            before = self.asked
            self.wake(1)
            asked.append(self.asked > before)
        return asked

    def wake(self, waiting: int) -> int:
        """So many wait now; how many are taken."""
        before = len(self.taken)
        self.listening.count = waiting
        self.acceptor.readable()
        return len(self.taken) - before

    def close(self) -> None:
        self.listening.close()
        for sock, _, _ in self.taken:
            sock.close()


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case(connection_messages=False)
    yield made
    made.close()


def test_a_connection_is_handed_over_ready_to_be_served(case: Case) -> None:
    case.wake(1)
    ((sock, peer, identity),) = case.taken
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    assert (peer, identity) == ("10.0.0.1:5", None)


def test_where_one_comes_at_a_time_it_is_not_looked_for_a_second(case: Case) -> None:
    for _ in range(FULLS_MIN - 1):
        assert case.wake(1) == 1
    assert case.listening.looked == FULLS_MIN - 1


def test_where_many_come_more_are_taken_each_time_up_to_a_limit(case: Case) -> None:
    taken = [case.wake(1000) for _ in range(FULLS_MIN + 12)]
    assert taken[:FULLS_MIN] == [1] * FULLS_MIN
    assert taken[FULLS_MIN] == 2
    assert taken == sorted(taken)
    assert taken[-1] == ACCEPTS_PER_WAKE_MAX


def test_where_there_are_fewer_than_were_looked_for_it_begins_anew(case: Case) -> None:
    for _ in range(FULLS_MIN):
        case.wake(1000)
    assert case.wake(1) == 1  # two were looked for
    assert [case.wake(1000) for _ in range(FULLS_MIN)] == [1] * FULLS_MIN


def test_where_there_is_never_a_second_it_is_looked_for_more_and_more_seldom(case: Case) -> None:
    looks = []
    for _ in range(400):
        before = case.listening.looked
        assert case.wake(1) == 1
        looks.append(case.listening.looked - before)
    vain = [number for number, count in enumerate(looks) if count == 2]
    wanted = FULLS_MIN
    for first, second in pairwise([-1, *vain]):
        assert second - first == wanted + 1
        wanted = min(2 * wanted, FULLS_MAX)
    for _ in range(FULLS_MAX + 1):
        case.wake(1000)
    assert case.wake(1) == 1
    assert [case.wake(1000) for _ in range(FULLS_MIN + 1)][-1] == 2  # there were some, so it is as at first


def test_who_comes_alone_is_asked_at_once_what_they_have_sent(case: Case) -> None:
    case.have_sent = True
    assert case.asked_of(FULLS_MIN + 2) == [True] * (FULLS_MIN + 2)


def test_of_those_who_have_sent_nothing_yet_fewer_and_fewer_are_asked(case: Case) -> None:
    asked = case.asked_of(2 + 4 + 8 + 16 + 16 + 1)
    assert [i for i, was_asked in enumerate(asked) if was_asked] == [0, 2, 6, 14, 30, 46]
    case.have_sent = True
    asked = case.asked_of(15 + 3)
    assert [i for i, was_asked in enumerate(asked) if was_asked] == [15, 16, 17]


def test_of_many_who_come_at_once_none_is_asked(case: Case) -> None:
    for _ in range(FULLS_MIN):
        case.wake(1000)
    before = case.asked
    case.wake(1000)
    assert case.asked == before


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_system_that_has_no_more_sockets_is_told_of_and_who_listens(
    case: Case, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    case.listening.fault = OSError(number, "no more")
    case.wake(0)
    assert (case.exhausted, case.unwatched) == (1, [case.acceptor]), "it would be woken again at once"
    assert "system socket count has been exceeded" in caplog.text


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM])
def test_a_connection_that_was_gone_before_it_was_taken_is_no_matter(
    case: Case, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    case.listening.fault = OSError(number, "gone")
    case.wake(0)
    assert (case.exhausted, caplog.text) == (0, "")


def test_who_comes_when_all_places_are_taken_is_closed_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case(connection_messages=True, max_connections=1)
    with caplog.at_level(logging.INFO):
        assert case.wake(1) == 1
        assert case.wake(1) == 0
    case.close()
    assert caplog.messages == [
        "New connection from 10.0.0.1:5 on port 1883.",
        "Client connection from 10.0.0.1:5 denied: max_connections exceeded.",
    ]
    assert case.engine.counters.refused == {"max_connections": 1}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("10.0.0.1", 5), "10.0.0.1:5"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1:5"),
        (("::1", 5, 0, 0), "::1:5"),
        ("", "unix socket"),
    ],
)
def test_a_peer_is_shown_as_in_log_lines(address: object, name: str) -> None:
    ours, theirs = socket.socketpair()
    assert peer_name(ours, address) == name
    ours.close()
    theirs.close()
