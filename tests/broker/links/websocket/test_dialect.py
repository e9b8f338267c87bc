"""A client that takes what it is owed is asked whether it lives, however much that is; rows that come together."""

from __future__ import annotations

import pytest

from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked
from broker.config.tokens import JwtConfig
from broker.core.engine import Engine
from broker.core.history import History
from broker.core.outbox import Outbox
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.gateway.gateway import Gateway
from broker.gateway.identity import JwtVerifier
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.following import CONFLATE_ABOVE_BYTES
from broker.links.websocket.readers import Readers
from broker.outlet import EngineOutlet
from protocol.dialects.base import Clock
from protocol.websocket import PING_FRAME

JWT = JwtConfig("s" * 32)
INTERVAL_S = 30.0
PONG = b"\x8a\x80\0\0\0\0"


class Client:
    """Behind a kernel that takes a little at a time, so that something is always owed."""

    def __init__(self) -> None:
        self.engine = Engine()
        exchange = Exchange(jwt=JWT, ping_interval_s=INTERVAL_S)
        gateway = Gateway(GatewayConfig(exchange=exchange), self.engine, {"exchange": JwtVerifier(JWT)})
        self.wire = b""
        self.room = 0
        self.outbox = Outbox(self.engine.round, 10**6, self._send)
        dialect = exchange.open(Asked(), None, Clock(0.0), 0.0)
        readers = Readers(History(Positions("e"), []), lambda _: None, lambda *_: None, lambda *_: None)
        self.link = DialectLink(dialect, gateway, self.outbox, "peer", 65536, lambda *_: None, readers)
        self.link.open()
        self.says(b'{"op":"subscribe","channel":"BTC@trades"}')

    def _send(self, data: bytes) -> int:
        taken = data[: self.room]
        if not taken:
            raise BlockingIOError
        self.room -= len(taken)
        self.wire += taken
        return len(taken)

    def says(self, text: bytes) -> None:
        self.link.received(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
        self.engine.flush()

    def takes(self, count: int) -> None:
        self.room = count
        if self.outbox.blocked:
            self.outbox.writable()
        self.engine.flush()


@pytest.mark.parametrize("answers", [True, False])
def test_who_is_always_owed_something_is_asked_and_stays_if_it_answers(answers: bool) -> None:
    client = Client()
    client.takes(10)
    asked = 0
    for second in range(1, 200):
        client.engine.now = float(second)
        client.engine.publish(Publication(b"$ws/exchange/BTC@trades", b"x" * 100))
        client.engine.flush()
        client.takes(102 if second > 1 else 20)
        assert client.outbox.pending_bytes
        client.link.tick(float(second))
        if client.wire.count(PING_FRAME) > asked and answers:
            asked = client.wire.count(PING_FRAME)
            client.link.received(PONG)
            client.engine.flush()
        if client.link.closing:
            break
    assert bool(client.link.closing) is not answers
    assert client.link.close_reason == ("" if answers else "no answer to pings")
    assert asked >= 5 or not answers


@pytest.mark.parametrize("room", [0, 10, 40_000, 10**9])
@pytest.mark.parametrize("owed", [0, CONFLATE_ABOVE_BYTES - 350, CONFLATE_ABOVE_BYTES])
@pytest.mark.parametrize("channel", ["BTC@trades", "BTC@ticker", "BTC@depth"])
@pytest.mark.parametrize("since", ["", ',"since":"now"'], ids=["live", "followed"])
def test_several_rows_at_once_come_as_they_would_one_by_one(
    room: int, owed: int, channel: str, since: str
) -> None:
    """Whether the client is quick, becomes slow in their midst or was slow before."""
    together, singly = Client(), Client()
    topic = b"$ws/exchange/" + channel.encode()
    rows = [b'{"s":"BTC","n":%d}' % number + b" " * 100 for number in range(6)]
    for client in (together, singly):
        client.says(b'{"op":"subscribe","channel":"%s"%s}' % (channel.encode(), since.encode()))
        client.takes(10**6)
        client.room = 0
        client.outbox.push(bytes(owed))
        client.engine.flush()
        client.room = room
    EngineOutlet(together.engine, None).publish_run(topic, rows, 0)
    for row in rows:
        EngineOutlet(singly.engine, None).publish(topic, row, 0, False)
    for client in (together, singly):
        client.engine.flush()
        client.takes(room)
        client.takes(10**9)
    assert together.wire == singly.wire
    assert together.wire.count(b'"n":') >= 1
    assert together.link.closing == singly.link.closing


@pytest.mark.parametrize("channel", ["BTC@trades", "BTC@ticker", "BTC@depth"])
def test_who_reads_gets_what_comes_after_more_than_is_conflated_came_in_one_turn(channel: str) -> None:
    """The kernel takes all of it at once, so that nothing says later that it takes more."""
    client = Client()
    client.says(b'{"op":"subscribe","channel":"%s"}' % channel.encode())
    client.takes(10**9)
    topic = b"$ws/exchange/" + channel.encode()
    rows = [b'{"n":"a%d"}' % number + b" " * 10_000 for number in range(20)]
    for row in [*rows, b'{"n":"last"}']:
        client.engine.publish(Publication(topic, row))
    client.engine.flush()
    assert client.wire.count(b'"n":"a') == len(rows)
    client.engine.publish(Publication(topic, b'{"n":"after"}'))
    client.engine.flush()
    assert client.wire.endswith(b'{"n":"after"}')
    assert client.wire.count(b'"n":"last"') == 1
    assert not client.link.closing
    assert not client.engine.counters.dropped_outbox_full
