"""The socket to NATS in the pump: what it says when it ends, and that it does so once."""

from __future__ import annotations

import socket

import pytest

from broker.cluster.nats_socket import OUTGOING_BYTES_MAX, NatsSocket
from broker.core.engine import Engine
from broker.links.pump import Pump
from protocol.nats.connection import Connection, Subscriptions


class Pair:
    """A socket in a pump, and the server's end."""

    def __init__(self) -> None:
        self.why: list[str] = []
        self.pump = Pump(Engine(), lambda link: None, lambda link: None)
        mine, self.server = socket.socketpair()
        mine.setblocking(False)
        self.mine = mine
        self.nats = NatsSocket(self.pump, mine, Connection(Subscriptions(b"_INBOX.x")), self.why.append)
        self.pump.watch(self.nats)

    def serve(self) -> None:
        self.pump.serve_round(self.pump.ready.poll(1, 10))

    def close(self) -> None:
        self.pump.close_all()
        self.mine.close()
        self.server.close()


@pytest.fixture
async def pair() -> Pair:
    return Pair()


async def test_a_ping_is_answered_at_the_end_of_the_turn(pair: Pair) -> None:
    pair.server.sendall(b"PING\r\n")
    pair.serve()
    pair.nats.flush()
    assert pair.server.recv(100) == b"PONG\r\n"
    pair.close()


@pytest.mark.parametrize(
    ("said", "why"),
    [(b"", "the server closed the connection"), (b"HTTP/1.1 200\r\n", "no word of the protocol")],
)
async def test_why_it_has_ended_is_told_once(pair: Pair, said: bytes, why: str) -> None:
    pair.server.sendall(said)
    if not said:
        pair.server.shutdown(socket.SHUT_WR)
    pair.serve()
    pair.nats.lost()
    assert len(pair.why) == 1
    assert why in pair.why[0]
    assert not pair.nats.send(b"PING\r\n")
    pair.close()


async def test_a_server_that_takes_nothing_is_owed_so_much_and_no_more(pair: Pair) -> None:
    sent = 0
    while pair.nats.send(bytes(1024 * 1024)):
        sent += 1
    assert sent == OUTGOING_BYTES_MAX // (1024 * 1024)
    pair.nats.flush()
    assert pair.nats.outbox.blocked
    got = 0
    pair.server.settimeout(10)
    while got < sent * 1024 * 1024:
        got += len(pair.server.recv(1024 * 1024))
        pair.serve()
    assert pair.nats.send(b"PING\r\n")
    pair.close()


async def test_the_pump_ends_it_with_the_others(pair: Pair) -> None:
    pair.pump.close_all()
    assert pair.why == ["the broker is stopping"]
    pair.mine.close()
    pair.server.close()
