"""Another token on a `rowcast` connection: what waits under the old one is decided again."""

from __future__ import annotations

import json

import jwt
import pytest
from support.websockets import masked

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked
from broker.config.dialects.rowcast import Rowcast
from broker.config.tokens import TokenConfig
from broker.core.engine import Engine
from broker.core.history import History, Ring
from broker.core.outbox import Outbox
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.gateway.gateway import Gateway
from broker.gateway.tokens import TokenVerifier
from broker.links.websocket.following import FollowingLink
from broker.links.websocket.readers import Readers
from broker.links.websocket.rowcast import RowcastLink
from protocol.dialects.base import Clock
from protocol.dialects.rowcast import RowcastDialect

SECRET = "s" * 32
TOKENS = TokenConfig(secrets=(SECRET,))


class Slow:
    """A client of which nothing is taken until `read`."""

    def __init__(self, ring: bool, anonymous: tuple[str, ...] = ()) -> None:
        self.engine = Engine()
        config = GatewayConfig(rowcast=Rowcast(tokens=TOKENS, anonymous_subscribe=anonymous))
        self.gateway = gateway = Gateway(config, self.engine, {"rowcast": TokenVerifier(TOKENS)})
        positions = Positions("e")
        rings = [Ring(positions, b"#", 10**9, 10**6, 1e9)] if ring else []
        for one in rings:
            self.engine.subscribe(one, one.topic_filter, 0)
        self.line: list[FollowingLink] = []
        readers = Readers(History(positions, rings), self.line.append, lambda *_: None, lambda *_: None)
        self.takes = True
        self.wire = b""
        self.outbox = Outbox(self.engine.round, 200_000, self._send)
        assert config.rowcast is not None
        dialect = config.rowcast.open(Asked(), None, Clock(0.0), 0.0)
        assert isinstance(dialect, RowcastDialect)
        self.link = RowcastLink(dialect, gateway, self.outbox, "peer", 65536, lambda *_: None, readers)
        self.link.open()

    def _send(self, data: bytes) -> int:
        if not self.takes:
            raise BlockingIOError
        self.wire += data
        return len(data)

    def says(self, **members: object) -> None:
        self.link.received(masked(0x81, json.dumps(members).encode()))
        self.engine.flush()

    def shows(self, *readable: str) -> None:
        token = jwt.encode({"sub": "x", "subscribe": list(readable)}, SECRET, "HS256")
        self.says(connect={"token": token})

    def publish(self, topic: bytes, payload: bytes) -> None:
        self.engine.publish(Publication(topic, payload))
        self.engine.flush()

    def read(self) -> bytes:
        self.takes = True
        before = len(self.wire)
        for _ in range(100):
            if self.outbox.blocked:
                self.outbox.writable()
            for link in self.line[:]:
                self.line.remove(link)
                link.catch_up()
            self.engine.flush()
        return self.wire[before:]


@pytest.mark.parametrize(("ring", "conflate"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("leaves", [False, True], ids=["another token", "unsubscribe"])
async def test_what_waits_for_a_slow_reader_goes_with_its_subscription(
    ring: bool, conflate: bool, leaves: bool
) -> None:
    client = Slow(ring)
    client.shows("mine/#", "secret/#")
    client.says(subscribe=["mine/#", "secret/#"], conflate=conflate)
    client.takes = False
    client.publish(b"mine/1", b'"' + b"x" * 100_000 + b'"')  # from here on the rest waits
    client.publish(b"secret/1", b'"waits for later"' + b" " * 150_000)
    client.publish(b"secret/2", b'"waits for later, too"')
    client.publish(b"mine/2", b'"is mine"')
    owed = client.outbox.pending_bytes
    if leaves:
        client.says(unsubscribe="secret/#")
    else:
        client.shows("mine/#")
    sent = client.read()
    assert b'"unsubscribed":"secret/#"' in sent
    assert b"is mine" in sent
    told = sent[owed:]
    assert b"waits for later" not in told
    client.publish(b"secret/3", b'"after"')
    assert b"after" not in client.read()


@pytest.mark.parametrize("has_token", [False, True])
async def test_a_reload_that_lets_fewer_read_without_a_token_ends_what_they_read(has_token: bool) -> None:
    client = Slow(ring=True, anonymous=("price/#", "secret/#"))
    if has_token:
        client.shows("price/#", "secret/#")
    client.says(subscribe=["price/#", "secret/#"])
    client.takes = False
    client.publish(b"price/1", b'"' + b"x" * 100_000 + b'"')
    client.publish(b"secret/1", b'"waits for later"' + b" " * 150_000)
    owed = client.outbox.pending_bytes
    client.gateway.adopt(GatewayConfig(rowcast=Rowcast(tokens=TOKENS, anonymous_subscribe=("price/#",))))
    client.engine.flush()
    sent = client.read()
    assert (b'"unsubscribed":"secret/#"' in sent) != has_token
    assert (b"waits for later" in sent[owed:]) == has_token
    before = len(client.wire)
    client.publish(b"secret/2", b'"after"')
    client.publish(b"price/2", b'"a price"')
    told = client.wire[before:]
    assert (b"after" in told) == has_token
    assert b"a price" in told
