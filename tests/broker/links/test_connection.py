"""One socket: how much is taken from it at a time, and what the end of what came means."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.interpreted import interpreted_only

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.limits import RECEIVE_BYTES_MAX
from broker.core.outbox import Outbox
from broker.links.connection import (
    FEW_BYTES,
    FEW_ENOUGH,
    FEW_WRONG,
    RECEIVE_BYTES_FEW,
    RECEIVE_BYTES_MANY,
    Connection,
)
from broker.links.listening.door import Door
from broker.links.pump import Pump
from broker.links.readiness import GONE, READABLE

pytestmark = interpreted_only


class Noted(Connection):
    """Knows what it was told; each piece counts as so many packets."""

    def __init__(self, pump: Pump, sock: socket.socket, door: Door) -> None:
        super().__init__(pump, sock, door)
        self.told: list[bytes] = []
        self.packets = 1

    def received(self, data: bytes) -> None:
        self.told.append(data)
        self.pump.engine.counters.packets_received += self.packets

    def lost(self) -> None:
        self.told.append(b"")

    def stop(self) -> None:
        self.told.append(b"stop")


@pytest.fixture
def ends() -> Iterator[tuple[Noted, socket.socket]]:
    here, there = socket.socketpair()
    pump = Pump(Engine(), lambda _: None, lambda _: None)
    here.setblocking(False)
    with here, there:
        yield Noted(pump, here, Door(Listener(port=0, security=Security()), Limits(), True)), there
    pump.close_all()


def test_many_small_packets_are_taken_fewer_at_a_time(ends: tuple[Noted, socket.socket]) -> None:
    connection, peer = ends
    for packets, receives in ((FEW_BYTES // 20, RECEIVE_BYTES_MANY), (3, RECEIVE_BYTES_MAX)):
        connection.packets = packets
        peer.send(bytes(FEW_BYTES))
        connection.readable()
        assert connection.receive_bytes == receives


def test_of_one_that_sends_little_little_is_looked_for_and_more_is_taken_all_the_same(
    ends: tuple[Noted, socket.socket],
) -> None:
    connection, peer = ends
    assert connection.receive_bytes == RECEIVE_BYTES_FEW
    sizes = (
        (25, RECEIVE_BYTES_FEW),
        (300, RECEIVE_BYTES_MAX),
        (30, RECEIVE_BYTES_MAX),
        (30, RECEIVE_BYTES_FEW),
        (RECEIVE_BYTES_FEW, RECEIVE_BYTES_MAX),
        *[(30, RECEIVE_BYTES_MAX)] * (FEW_ENOUGH - FEW_WRONG - 1),
        (800, RECEIVE_BYTES_MAX),
        (30, RECEIVE_BYTES_MAX),
        (30, RECEIVE_BYTES_FEW),
        (8000, RECEIVE_BYTES_MAX),
    )
    for size, receives in sizes:
        peer.send(bytes(size))
        connection.readable()
        assert connection.receive_bytes == receives, size
    assert [len(data) for data in connection.told] == [size for size, _ in sizes]


def test_where_what_has_come_is_no_whole_record_yet_more_is_looked_for(
    ends: tuple[Noted, socket.socket],
) -> None:
    connection, _ = ends
    connection.readable()
    assert connection.receive_bytes == RECEIVE_BYTES_MAX


def test_the_end_and_a_broken_socket_are_a_loss_and_nothing_to_read_is_nothing(
    ends: tuple[Noted, socket.socket],
) -> None:
    connection, peer = ends
    connection.readable()
    assert connection.told == []
    peer.close()
    connection.readable()
    connection.sock.close()
    connection.readable()
    assert connection.told == [b"", b""]


def test_what_meets_a_bug_of_ours_is_lost(ends: tuple[Noted, socket.socket]) -> None:
    connection, _ = ends
    connection.failed(ArithmeticError("nobody expected this"))
    assert connection.told == [b""]


def test_one_is_asked_whether_it_is_there_while_it_is_paused(ends: tuple[Noted, socket.socket]) -> None:
    connection, _ = ends
    connection.outbox = Outbox(connection.pump.engine.round, 1000, connection.sock.send, connection)
    connection.pump.take(connection)
    sock = connection.sock
    assert isinstance(sock, socket.socket)
    found = []
    for is_paused in (True, False, True):
        connection.outbox.pause(is_paused)
        found.append((connection.events(), sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)))
    assert found == [(GONE, 1), (READABLE, 0), (GONE, 1)]
    connection.outbox.rest(True)
    assert connection.events() == 0
