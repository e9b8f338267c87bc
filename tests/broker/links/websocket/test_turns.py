"""Many requests at once take turns, with those of others in between; none is lost, and their order stays."""

from __future__ import annotations

import json
from itertools import product

from support.peer import connected
from support.websockets import masked

from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked
from broker.config.dialects.rowcast import Rowcast
from broker.config.tokens import JwtConfig
from broker.core.engine import Engine
from broker.core.history import History
from broker.core.limits import STEPS_MAX
from broker.core.outbox import Outbox
from broker.core.positions import Positions
from broker.gateway.gateway import Gateway
from broker.gateway.identity import JwtVerifier
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.readers import Readers
from broker.links.websocket.rowcast import RowcastLink
from broker.links.websocket.turns import COMMAND_STEPS
from protocol.dialects.base import Clock
from protocol.dialects.rowcast import RowcastDialect
from protocol.mqtt.packets import Subscribe

JWT = JwtConfig("s" * 32)
LISTS = 4
CHANNELS = 200


class Site:
    """A broker that paces, and the exchange's clients of it."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.engine.slicing.on_waiting = lambda: None
        self._exchange = Exchange(jwt=JWT)
        self._gateway = Gateway(
            GatewayConfig(exchange=self._exchange), self.engine, {"exchange": JwtVerifier(JWT)}
        )

    def client(self) -> tuple[DialectLink, list[bytes]]:
        """One, and what it is sent."""
        sent: list[bytes] = []

        def send(data: bytes) -> int:
            sent.append(data)
            return len(data)

        dialect = self._exchange.open(Asked(), None, Clock(0.0), 0.0)
        readers = Readers(History(Positions("e"), []), lambda _: None, lambda *_: None, lambda *_: None)
        outbox = Outbox(self.engine.round, 10**6, send)
        link = DialectLink(dialect, self._gateway, outbox, "peer", 65536, lambda *_: None, readers)
        link.open()
        return link, sent


def lists(count: int) -> bytes:
    frames = b""
    for number in range(count):
        names = [f"S{number}-{index}@depth" for index in range(CHANNELS)]
        text = json.dumps({"op": "subscribe", "channels": names}).encode()
        frames += b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text
    return frames


def test_long_lists_that_come_together_take_turns() -> None:
    site = Site()
    link, _ = site.client()
    assert COMMAND_STEPS * CHANNELS > STEPS_MAX
    link.received(lists(LISTS))
    for turn in range(1, LISTS):
        assert link.subscription_count() == turn * CHANNELS, "others have theirs in between"
        assert link.rests
        site.engine.flush()
        site.engine.slicing.turn()
    assert link.subscription_count() == LISTS * CHANNELS
    assert not link.rests
    assert not site.engine.slicing.waits()


def test_one_of_many_who_ask_at_once_waits_for_the_next_turn() -> None:
    site = Site()
    clients = [site.client()[0] for _ in range(5)]
    for link in clients:
        link.received(lists(2))
    assert [link.subscription_count() for link in clients] == [CHANNELS, 0, 0, 0, 0]
    before = CHANNELS
    while site.engine.slicing.waits():
        site.engine.slicing.turn()
        site.engine.flush()
        after = sum(link.subscription_count() for link in clients)
        assert after - before <= CHANNELS
        before = after
    assert [link.subscription_count() for link in clients] == [2 * CHANNELS] * 5
    assert not any(link.rests for link in clients)


def test_a_short_request_is_answered_however_much_others_have_asked_for_in_the_turn() -> None:
    site = Site()
    (greedy, _), (modest, sent) = site.client(), site.client()
    greedy.received(lists(2))
    text = b'{"op":"subscribe","channel":"BTC@depth"}'
    modest.received(bytes((0x81, 0x80 | len(text))) + bytes(4) + text)
    site.engine.flush()
    assert b"".join(sent).count(b'{"result":true}') == 1
    assert not modest.rests


def test_who_leaves_meanwhile_is_forgotten() -> None:
    site = Site()
    link, _ = site.client()
    link.received(lists(2))
    link.lost()
    link.ended()
    site.engine.slicing.turn()
    assert not site.engine.slicing.waits()
    assert site.engine.trie.count == 0


def test_few_requests_are_answered_at_once() -> None:
    site = Site()
    link, sent = site.client()
    text = b'{"op":"subscribe","channel":"BTC@depth"}'
    link.received((bytes((0x81, 0x80 | len(text))) + bytes(4) + text) * 20)
    site.engine.flush()
    assert b"".join(sent).count(b'{"result":true}') == 20
    assert not link.rests


def test_messages_whose_receivers_take_long_to_find_take_turns() -> None:
    engine = Engine()
    member = connected(engine, b"member")
    filters = tuple((b"/".join((*levels, b"+")), 0) for levels in product((b"+", b"t"), repeat=12))
    member.send(Subscribe(1, filters))
    engine.slicing.on_waiting = lambda: None
    rowcast = Rowcast(anonymous_publish=("#",))
    dialect = rowcast.open(Asked(), None, Clock(0.0), 0.0)
    assert isinstance(dialect, RowcastDialect)
    readers = Readers(History(Positions("e"), []), lambda _: None, lambda *_: None, lambda *_: None)
    gateway = Gateway(GatewayConfig(rowcast=rowcast), engine, {})
    link = RowcastLink(
        dialect, gateway, Outbox(engine.round, 10**6, len), "peer", 65536, lambda *_: None, readers
    )
    link.open()
    messages = 12
    topics = ["t/" * 12 + str(number) for number in range(messages)]
    said = [json.dumps({"publish": topic, "data": 1}).encode() for topic in topics]
    link.received(b"".join(masked(0x81, text) for text in said))
    found = engine.trie.misses
    assert 1 <= found <= 3, "others have their turns before the rest is looked for"
    while engine.slicing.waits():
        engine.flush()
        engine.slicing.turn()
        assert engine.trie.misses - found <= 3
        found = engine.trie.misses
    assert found == messages
