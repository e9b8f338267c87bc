"""What a handshake leads to: by its path, its subprotocols, its listener, and who it says that it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from support.websockets import ECONIA, masked, reader

from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.limits import DialectLimits
from broker.config.dialects.rowcast import Rowcast
from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.gateway.gateway import Gateway
from broker.gateway.identity import Identifier
from broker.links.listening.door import Door
from broker.links.server import Server
from broker.links.websocket.agreeing import Agreed, Agreeing, Newcomer, Outcome
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.event_stream_link import EventStreamLink
from broker.links.websocket.mqtt import MqttWebSocket
from broker.links.websocket.outbox import FramingOutbox
from broker.links.websocket.rowcast import RowcastLink
from broker.links.websocket.server import WebSocketServer
from protocol.dialects.base import Clock, Identity, Refusal

ALL = ("mqtt", "econia", "exchange", "rowcast")
HEAD = (
    "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{}\r\n"
)
HINT = (
    "This port speaks WebSocket on: /mqtt (MQTT, subprotocol mqtt), /exchange-stream (CONNMIX exchange),"
    " /rowcast (Rowcast), /{channel?}/{jwt} (Econia).\n"
)


def asks(path: str, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return HEAD.format(path, lines).encode()


class OutboxMaker:
    """As much as a link needs to be made; remembers how much its outbox may hold."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bytes_max = 0

    def dialect_outbox(self, bytes_max: int) -> Outbox:
        self.bytes_max = bytes_max
        return Outbox(self.engine.round, bytes_max, None)

    def mqtt_outbox(self, bytes_max: int) -> FramingOutbox:
        self.bytes_max = bytes_max
        return FramingOutbox(self.engine.round, bytes_max, None)


class Here:
    """A listener of these dialects, and who decides about its handshakes."""

    def __init__(
        self,
        nursery: trio.Nursery,
        dialects: tuple[str, ...],
        config: GatewayConfig,
        origins: tuple[str, ...],
        identifiers: Mapping[str, Identifier] | None,
    ) -> None:
        self.engine = Engine()
        listener = Listener(
            0, protocol="websockets", dialects=dialects, websockets_origins=origins,
            security=Security(allow_anonymous=True),
        )  # fmt: skip
        server = Server(self.engine, nursery)
        self.agreeing: Agreeing = WebSocketServer(server, Gateway(config, self.engine, identifiers)).agreeing
        self.newcomer = Newcomer(Door(listener, Limits()), "10.0.0.1:7", b"certified")

    def at_once(self, came: bytes) -> Any:
        return self.agreeing.at_once(self.newcomer, came)

    async def in_time(self, outcome: Any, came: bytes, stream: trio.abc.ReceiveStream) -> Outcome:
        return await self.agreeing.in_time(self.newcomer, outcome, came, stream)

    def link(self, outcome: Any) -> tuple[Any, OutboxMaker]:
        assert isinstance(outcome, Agreed)
        maker = OutboxMaker(self.engine)
        return outcome.link_for(maker), maker


CONFIG = GatewayConfig(econia=ECONIA, exchange=Exchange(), rowcast=Rowcast())


@asynccontextmanager
async def here(
    dialects: tuple[str, ...] = ALL, config: GatewayConfig = CONFIG, origins: tuple[str, ...] = (),
    identifiers: Mapping[str, Identifier] | None = None,
) -> AsyncIterator[Here]:  # fmt: skip
    async with trio.open_nursery() as nursery:
        yield Here(nursery, dialects, config, origins, identifiers)
        nursery.cancel_scope.cancel()


def said(outcome: object) -> tuple[int, str]:
    """Status and text of a refusal."""
    assert isinstance(outcome, bytes)
    head, _, body = outcome.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


@pytest.mark.parametrize(
    ("came", "kind", "subprotocol"),
    [
        (asks("/mqtt", Sec_WebSocket_Protocol="mqtt"), MqttWebSocket, b"mqtt"),
        (asks("/anything", Sec_WebSocket_Protocol="other, mqttv3.1"), MqttWebSocket, b"mqttv3.1"),
        (asks("/exchange-stream", Sec_WebSocket_Protocol="mqttv3.1,mqtt"), MqttWebSocket, b"mqtt"),
        (asks("/exchange-stream?a=b"), DialectLink, b""),
        (asks("/rowcast", Sec_WebSocket_Protocol="rowcast, token.x"), RowcastLink, b"rowcast"),
        (asks("/rowcast"), RowcastLink, b""),
        (asks("/" + reader("fill")), DialectLink, b""),
    ],
    ids=["mqtt", "mqtt elsewhere", "mqtt first", "exchange", "rowcast offered", "rowcast", "econia"],
)
async def test_path_and_subprotocol_say_what_is_spoken(came: bytes, kind: type, subprotocol: bytes) -> None:
    async with here() as port:
        outcome = port.at_once(came + b"rest")
        link, _ = port.link(outcome)
        assert link.peer == "10.0.0.1:7"
        assert type(link) is kind
        head = outcome.response.split(b"\r\n")
        assert (head[0], outcome.rest) == (b"HTTP/1.1 101 Switching Protocols", b"rest")
        offered = [line for line in head if line.startswith(b"Sec-WebSocket-Protocol: ")]
        assert offered == ([b"Sec-WebSocket-Protocol: " + subprotocol] if subprotocol else [])
        assert port.engine.counters.refused == {}


@pytest.mark.parametrize(
    ("dialects", "came", "status", "text"),
    [
        (ALL, asks("/mqtt"), 400, "MQTT over WebSocket needs the subprotocol mqtt"),
        (("exchange",), asks("/mqtt"), 404, "This port speaks WebSocket on: /exchange-stream (CONNMIX exchange).\n"),
        (("exchange",), asks("/mqtt", Sec_WebSocket_Protocol="mqtt"), 404, ""),
        (("mqtt",), asks("/exchange-stream"), 404, "This port speaks WebSocket on: /mqtt (MQTT, subprotocol mqtt).\n"),
        (ALL, asks("/one/too/many"), 404, HINT),
        (ALL, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405, HINT),
        (ALL, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, HINT),
        (ALL, b"\x10\x0c", 400, "this is no HTTP request, and a WebSocket begins with one"),
        (ALL, asks("/" + reader()), 400, "No allowed channels"),
        (ALL, asks("/nonsense"), 400, None),
    ],
    ids=[
        "no subprotocol", "no mqtt", "no mqtt asked", "no exchange", "path", "post", "page", "packet", "token",
        "forged",
    ],
)  # fmt: skip
async def test_refusal_says_why_and_is_counted(
    dialects: tuple[str, ...], came: bytes, status: int, text: str | None
) -> None:
    async with here(dialects) as port:
        found = said(port.at_once(came))
        assert found[0] == status
        assert not text or found[1] == text
        assert port.engine.counters.refused == {"handshake": 1}


@pytest.mark.parametrize(
    ("dialects", "size_max"), [(("mqtt",), 4096), (("mqtt", "exchange"), 4096 + 8192), (("exchange",), 4096 + 8192)]
)  # fmt: skip
async def test_head_has_room_for_a_token_where_one_may_be(dialects: tuple[str, ...], size_max: int) -> None:
    async with here(dialects) as port:
        came = asks("/exchange-stream", X="")
        came = asks("/exchange-stream", X="x" * (size_max - len(came)))
        assert len(came) == size_max
        first = port.at_once(came)
        assert isinstance(first, Agreed) or said(first)[0] == 404
        longer = asks("/exchange-stream", X="x" * (size_max - len(asks("/exchange-stream", X="")) + 1))
        assert said(port.at_once(longer)) == (431, f"the request's head is longer than {size_max} bytes")


@pytest.mark.parametrize(
    ("origin", "may"),
    [("https://a", True), ("https://b", False), (None, True)],
    ids=["ours", "other", "none"],
)
@pytest.mark.parametrize("path", ["/mqtt", "/exchange-stream"])
async def test_pages_of_other_origins_may_not_connect(path: str, origin: str | None, may: bool) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with here(origins=("https://a",)) as port:
        outcome = port.at_once(asks(path, Sec_WebSocket_Protocol="mqtt", **headers))
        if may:
            assert isinstance(outcome, Agreed)
        else:
            assert said(outcome) == (403, "this origin may not connect")


@pytest.mark.parametrize(("trusted", "peer"), [(("10.0.0.0/8",), "192.0.2.1:7"), ((), "10.0.0.1:7")])
async def test_peer_is_whom_a_trusted_proxy_has_seen(trusted: tuple[str, ...], peer: str) -> None:
    config = GatewayConfig(exchange=Exchange(), trusted_proxies=trusted)
    async with here(("mqtt", "exchange"), config) as port:
        for came in (asks("/mqtt", Sec_WebSocket_Protocol="mqtt", X_Forwarded_For="192.0.2.1"),
                     asks("/exchange-stream", X_Forwarded_For="192.0.2.1")):  # fmt: skip
            assert port.link(port.at_once(came))[0].peer == peer


@pytest.mark.parametrize(("trusted", "peer"), [(("10.0.0.0/8",), "2001:db8::9:7"), ((), "10.0.0.1:7")])
async def test_peer_of_a_stream_of_events_is_whom_a_trusted_proxy_has_seen(
    trusted: tuple[str, ...], peer: str
) -> None:
    config = GatewayConfig(rowcast=Rowcast(anonymous_subscribe=("a/#",)), trusted_proxies=trusted)
    async with here(("rowcast",), config) as port:
        asked = b"GET /rowcast/sse?topic=a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 2001:db8::9\r\n\r\n"
        outcome = await port.in_time(port.at_once(asked), b"", trio.testing.MemoryReceiveStream())
        assert port.link(outcome)[0].peer == peer


async def test_health_is_told_to_whoever_asks_without_a_handshake() -> None:
    async with here(("mqtt",)) as port:
        asked = b"GET /readyz?x HTTP/1.1\r\n\r\n"
        assert said(port.at_once(asked))[0] == 400
        port.agreeing.health = lambda path: (503, path)
        assert said(port.at_once(asked)) == (503, "/readyz")
        assert isinstance(port.at_once(asks("/mqtt", Sec_WebSocket_Protocol="mqtt")), Agreed)


@pytest.mark.parametrize("dialects", [("exchange",), ("mqtt",)])
async def test_pages_are_looked_for_on_listeners_of_the_exchange_alone(dialects: tuple[str, ...]) -> None:
    async def site(path: str) -> bytes | None:
        return b"page " + path.encode() if path.startswith("/there") else None

    plain = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
    async with here(dialects) as port:
        port.agreeing.site = site
        stream, _ = trio.testing.memory_stream_one_way_pair()[::-1]
        for path, expected in (("/there?a=b", b"page /there?a=b"), ("/nowhere", None)):
            begun = port.at_once(plain.format(path).encode())
            if dialects == ("mqtt",):
                assert said(begun)[0] == 426
                continue
            outcome = await port.in_time(begun, b"", stream)
            assert outcome == expected if expected else said(outcome)[0] == 426
        assert isinstance(port.at_once(asks("/exchange-stream")), Agreed) or dialects == ("mqtt",)


class Somewhere:
    """Knows tokens, and has to be asked."""

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        await trio.sleep(float(token.removeprefix("after-")) if token.startswith("after-") else 0)
        return (
            Identity("ann", claims={"mode": "r", "channels": ["fill"]}) if token != "bad" else Refusal.INVALID
        )


@pytest.mark.parametrize(
    ("token", "expected"), [("good", 101), ("bad", 400), ("after-9.9", 101), ("after-10.1", None)],
)  # fmt: skip
async def test_somebody_else_is_asked_whose_a_token_is_for_as_long_as_a_handshake_may_take(
    token: str, expected: int | None, autojump_clock: trio.testing.MockClock
) -> None:
    async with here(identifiers={"econia": Somewhere()}) as port:
        begun = port.at_once(asks("/" + token) + b"rest")
        assert callable(begun)
        outcome = await port.in_time(begun, b"", trio.testing.MemoryReceiveStream())
        if expected == 101:
            assert isinstance(outcome, Agreed)
            assert (outcome.rest, type(port.link(outcome)[0])) == (b"rest", DialectLink)
        else:
            assert outcome == b"" if expected is None else said(outcome)[0] == expected


async def test_settings_that_change_while_a_token_is_asked_about_are_those_that_count() -> None:
    """Connections that are open by then are told of them; this one is not, and would keep what it may not do."""

    class Reloaded:
        def __init__(self, after: GatewayConfig) -> None:
            self.after = after

        async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
            port.agreeing.adopt(self.after)
            return Identity("ann", claims={"mode": "r"})

    before = evolve(CONFIG, econia=evolve(ECONIA, channels_required=False))
    for after, status in (
        (before, 101),
        (evolve(before, econia=evolve(ECONIA, channels_required=True)), 400),
    ):
        async with here(identifiers={"econia": Reloaded(after)}, config=before) as port:
            begun = port.at_once(asks("/fill/token"))
            outcome = await port.in_time(begun, b"", trio.testing.MemoryReceiveStream())
            assert status == (101 if isinstance(outcome, Agreed) else said(outcome)[0])


async def test_a_stream_that_is_asked_for_before_a_reload_is_opened_by_what_holds_behind_it() -> None:
    before = evolve(CONFIG, rowcast=Rowcast(anonymous_subscribe=("price/#", "secret/#")))
    after = evolve(CONFIG, rowcast=Rowcast(anonymous_subscribe=("price/#",)))
    for topic, is_let in (("price/1", True), ("secret/1", False)):
        async with here(config=before) as port:
            begun = port.at_once(f"GET /rowcast/sse?topic={topic} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            port.agreeing.adopt(after)
            outcome = await port.in_time(begun, b"", trio.testing.MemoryReceiveStream())
            assert is_let == isinstance(outcome, Agreed)
            assert is_let or said(outcome)[0] == 401


async def test_nobody_is_asked_about_no_token() -> None:
    async with here(identifiers={"exchange": Somewhere()}) as port:
        assert isinstance(port.at_once(asks("/exchange-stream")), Agreed)


async def test_rest_of_a_request_is_waited_for_and_no_longer_than_a_handshake_may_take(
    autojump_clock: trio.testing.MockClock,
) -> None:
    whole = asks("/exchange-stream")
    async with here() as port, trio.open_nursery() as nursery:
        assert port.at_once(b"") is None
        assert port.at_once(whole[:-1]) is None
        for parts, lasts_s in (([whole[20:50], whole[50:] + b"rest"], 4.0), ([whole[20:50]], 10.0)):
            sender, receiver = trio.testing.memory_stream_one_way_pair()

            async def send(
                sender: trio.testing.MemorySendStream = sender, parts: list[bytes] = parts
            ) -> None:
                for part in parts:
                    await trio.sleep(2)
                    await sender.send_all(part)

            nursery.start_soon(send)
            begun = trio.current_time()
            outcome = await port.in_time(None, whole[:20], receiver)
            assert trio.current_time() - begun == pytest.approx(lasts_s)
            assert (
                outcome.rest == b"rest" if isinstance(outcome, Agreed) else (outcome, lasts_s) == (b"", 10.0)
            )


@pytest.mark.parametrize("how", ["end", "broken", "closed", "nonsense"])
async def test_peer_that_leaves_is_told_nothing_and_one_that_talks_nonsense_why(how: str) -> None:
    async with here() as port:
        sender, receiver = trio.testing.memory_stream_one_way_pair()
        if how == "end":
            await sender.aclose()
        elif how == "closed":
            receiver.close()
        elif how == "nonsense":
            await sender.send_all(b" no request\r\n\r\n")
        else:

            async def break_off() -> None:
                raise trio.BrokenResourceError

            receiver.receive_some_hook = break_off
        outcome = await port.in_time(None, b"GET", receiver)
        if how == "nonsense":
            assert said(outcome)[0] == 400
        else:
            assert outcome == b""
        assert port.engine.counters.refused == ({"handshake": 1} if how == "nonsense" else {})


@pytest.mark.parametrize(
    ("dialects", "origin", "kind"),
    [(ALL, "", EventStreamLink), (ALL, "https://b", 403), (("mqtt",), "", 426)],
    ids=["stream", "origin", "no rowcast"],
)
async def test_stream_of_events_is_a_plain_get_below_the_path_of_rowcast(
    dialects: tuple[str, ...], origin: str, kind: Any
) -> None:
    config = GatewayConfig(econia=ECONIA, exchange=Exchange(), rowcast=Rowcast(anonymous_subscribe=("#",)))
    header = f"Origin: {origin}\r\n" if origin else ""
    async with here(dialects, config, origins=("https://a",)) as port:
        begun = port.at_once(f"GET /rowcast/sse?topic=a HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
        outcome = (
            await port.in_time(begun, b"", trio.testing.MemoryReceiveStream()) if callable(begun) else begun
        )
        if isinstance(outcome, Agreed):
            link, maker = port.link(outcome)
            assert (type(link), maker.bytes_max) == (kind, config.outbox_bytes_max)
            assert outcome.response.startswith(b"HTTP/1.1 200 ")
        else:
            assert said(outcome)[0] == kind


async def test_limits_are_the_dialects_or_those_of_all() -> None:
    config = GatewayConfig(
        exchange=Exchange(limits=DialectLimits(message_bytes_max=77)),
        econia=ECONIA,
        outbox_bytes_max=5000,
        message_bytes_max=66,
    )
    async with here(("mqtt", "exchange", "econia"), config) as port:
        for path, size_max in (("/exchange-stream", 77), ("/" + reader("fill"), 66)):
            for size in (size_max, size_max + 1):
                link, maker = port.link(port.at_once(asks(path)))
                assert maker.bytes_max == 5000
                with port.engine.turn:
                    link.received(masked(0x81, b" " * size))
                assert (link.close_reason == f"a message may have {size_max} bytes") is (size > size_max)
        _, maker = port.link(port.at_once(asks("/mqtt", Sec_WebSocket_Protocol="mqtt")))
        assert maker.bytes_max == Limits().outbox_bytes_max


async def test_settings_that_were_adopted_are_gone_by() -> None:
    async with here(("mqtt", "exchange")) as port:
        port.agreeing.adopt(GatewayConfig(exchange=Exchange(path="/other")))
        assert said(port.at_once(asks("/exchange-stream")))[0] == 404
        assert isinstance(port.at_once(asks("/other")), Agreed)


async def test_token_that_is_shown_to_rowcast_is_the_links() -> None:
    async with here() as port:
        for headers, token in (({"Authorization": "Bearer abc"}, "abc"), ({}, "")):
            link, _ = port.link(port.at_once(asks("/rowcast", **headers)))
            assert (link.dialect.token, link.dialect.node) == (token, "-")
