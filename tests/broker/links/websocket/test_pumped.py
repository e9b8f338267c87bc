"""A WebSocket in the pump: read while it may be, told when its peer has gone, and let go once all was looked at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support.interpreted import interpreted_only
from support.peer import OPEN_DOOR
from support.websockets import masked

from broker.core.engine import Engine
from broker.links.readiness import GONE, NEWS
from broker.links.websocket.link import LOST, WebSocketLink
from broker.links.websocket.outbox import FramingOutbox
from broker.links.websocket.pumped import RECEIVES_OF_DEPARTED_MAX, PumpedWebSocket
from protocol.websocket import text_frame
from protocol.websocket_reader import FrameReader

pytestmark = interpreted_only


class Link(WebSocketLink):
    """Notes texts; `wait` makes it wait."""

    def __init__(self, engine: Engine, outbox: Any) -> None:
        super().__init__(engine, outbox, FrameReader(1000), "10.0.0.1:5")
        self.came: list[str] = []

    def text(self, text: str) -> None:
        self.came.append(text)
        if text == "wait":
            self.wait()


class Pump:
    """Takes note of what is asked of it."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.taken: list[object] = []
        self.asked: list[str] = []

    def take(self, connection: object) -> None:
        self.taken.append(connection)


class Connection(PumpedWebSocket):
    """One whose pump looks at nothing by itself."""

    def look_again(self) -> None:
        self.looked += 1

    def end_soon(self) -> None:
        self.ends += 1

    looked = ends = 0


class Case:
    def __init__(self) -> None:
        self.pump = Pump()
        ours, self.client = socket.socketpair()
        ours.setblocking(False)
        self.parted: list[object] = []
        self.over: list[object] = []
        self.may_stay = True
        pump: Any = self.pump
        self.connection = Connection(
            pump, ours, OPEN_DOOR, self.parted.append, self.over.append, lambda link: self.may_stay
        )
        self.link = Link(self.pump.engine, self.connection.dialect_outbox(1 << 20))
        self.connection.adopt(self.link)

    def say(self, *texts: str) -> None:
        self.client.send(b"".join(masked(0x81, text.encode()) for text in texts))
        self.connection.readable()


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case()
    yield made
    made.client.close()
    made.connection.sock.close()


def test_it_is_read_and_what_it_is_owed_leaves_by_its_socket(case: Case) -> None:
    assert case.pump.taken == [case.connection]
    case.say("a", "b")
    assert case.link.came == ["a", "b"]
    case.link.push(text_frame(b"x"))
    case.pump.engine.flush()
    assert case.client.recv(100) == text_frame(b"x")


def test_while_an_answer_is_awaited_nothing_is_read_and_only_its_end_is_news(case: Case) -> None:
    assert case.connection.events() != GONE
    case.say("wait", "a")
    assert case.link.came == ["wait"]
    assert case.connection.looked == 1
    assert case.connection.events() == GONE
    case.link.resume()
    assert case.link.came == ["wait", "a"]
    assert case.connection.looked == 2
    assert case.connection.events() != GONE


def test_a_peer_that_goes_while_it_waits_stays_until_all_was_looked_at(case: Case) -> None:
    case.say("wait")
    case.client.send(masked(0x81, b"last"))
    case.client.close()
    case.connection.readable()
    assert case.link.departed
    assert case.connection.events() == NEWS
    assert case.connection.ends == 0
    case.connection.readable()  # told once more, there is nothing to do
    case.link.resume()
    assert case.link.came == ["wait", "last"]
    assert (case.link.closing, case.connection.ends, case.parted) == (LOST, 1, [])


@pytest.mark.parametrize(("left", "may_stay"), [(b"", True), (masked(0x81, b"last"), False)])
def test_who_left_nothing_or_may_not_stay_is_gone_at_once(case: Case, left: bytes, may_stay: bool) -> None:
    case.may_stay = may_stay
    case.say("wait")
    case.client.send(left)
    case.client.close()
    case.connection.readable()
    assert (case.link.came, case.link.closing, case.connection.ends) == (["wait"], LOST, 1)


def test_of_a_peer_that_has_gone_only_so_much_is_kept(case: Case) -> None:
    received: list[bytes] = []
    case.say("wait")
    case.connection.sock = SimpleNamespace(recv=lambda size: received.append(b"x") or b"x")  # type: ignore[assignment, func-returns-value]
    case.connection.readable()
    assert len(received) == RECEIVES_OF_DEPARTED_MAX
    case.connection.sock = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]


def test_a_goodbye_is_left_to_who_says_it_and_a_loss_ends_at_once(case: Case) -> None:
    case.link.close(1000, "bye")
    assert case.parted == [case.connection]
    assert case.connection.ends == 0
    other = Case()
    other.connection.stop()
    assert (other.parted, other.connection.ends, other.link.closing) == ([], 1, LOST)
    other.client.close()
    other.connection.sock.close()


def test_where_nobody_says_its_goodbye_it_ends_at_once(case: Case) -> None:
    def bug(connection: PumpedWebSocket) -> None:
        raise ArithmeticError

    case.connection._part = bug
    with pytest.raises(ArithmeticError):
        case.link.close(1000, "bye")
    assert case.connection.ends == 1


def test_the_pump_tells_when_it_has_let_go(case: Case) -> None:
    case.connection.gone()
    assert case.over == [case.link]


def test_mqtt_leaves_in_frames() -> None:
    case = Case()
    outbox = case.connection.mqtt_outbox(1000)
    assert isinstance(outbox, FramingOutbox)
    assert case.connection.outbox is outbox
    case.client.close()
    case.connection.sock.close()
