"""Every way into a running broker is given the one list of hostile values, over real sockets.

What may become of each: an answer, an error, the end of the connection it came over.  What may not: an exception that
nobody expected (they are counted), a broker that serves others no more, or one that says nothing to a request.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import trio
from support.hostile_values import JSON_TEXTS, TEXTS, VALUES
from support.mqtt_stream import StreamClient

from broker import Broker, Config, Listener
from broker.config.dialects.canton import Canton
from broker.config.dialects.econia import Econia
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.model import AdminHttp, Security
from broker.config.tokens import JwtConfig, TokenConfig
from broker.gateway.authentication import Rules, RulesError
from broker.gateway.identity import identity_in
from broker.storage.database import open_database
from broker.storage.errors import StorageError
from protocol.dialects.base import Clock
from protocol.mqtt import codec
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.packets import Connect, Packet, Publish, Pubrel, Subscribe, Unsubscribe, Will
from protocol.mqtt.v5 import codec as codec5
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import RESPONSE_TOPIC

SECRET = "s" * 32
TOKENS = TokenConfig(secrets=(SECRET,))
SECURITY = Security(allow_anonymous=True)
NAMES = ["econia", "exchange", "canton", "rowcast"]
CONFIG = Config(
    (
        Listener(0, "127.0.0.1", security=SECURITY),
        Listener(0, "127.0.0.1", protocol="websockets", dialects=("mqtt", *NAMES), security=SECURITY),
        Listener(0, "127.0.0.1", security=Security(tokens=True, token_config=TOKENS)),
    ),
    gateway=GatewayConfig(
        econia=Econia(JwtConfig(SECRET), channels_required=False),
        exchange=Exchange(jwt=JwtConfig(SECRET, account_claim="uid")),
        canton=Canton(JwtConfig(SECRET)),
        rowcast=Rowcast(anonymous_subscribe=("#",), anonymous_publish=("#",), tokens=TOKENS),
    ),
    admin=AdminHttp(0),
)


class World:
    def __init__(self, broker: Broker, bystander: StreamClient) -> None:
        self.broker = broker
        self.bystander = bystander
        self.mqtt, self.websocket, self.with_tokens = broker.ports

    async def is_well(self) -> None:
        """Others are served, and nothing happened that nobody expected."""
        counters = self.broker.app.engine.counters
        assert counters.unexpected == {}
        await self.broker.publish("bystander", b"here")
        with trio.fail_after(60):
            packet = await self.bystander.receive()
        assert isinstance(packet, Publish)
        assert packet.payload == b"here"


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with Broker(CONFIG) as broker:
        client = StreamClient(await trio.open_tcp_stream("127.0.0.1", broker.ports[0]))
        await client.connect(b"bystander")
        await client.subscribe(b"bystander", 0)
        found = World(broker, client)
        yield found
        await found.is_well()


async def says(port: int, data: bytes) -> None:
    """A peer that says this and reads whatever comes, until it is closed, or nothing more comes."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(data)
            await stream.send_eof()
            with trio.move_on_after(10) as patience:
                while await stream.receive_some(65536):
                    pass
            assert not patience.cancelled_caught, "it was not even closed"


def packets_with(value: bytes, level: int) -> list[Packet]:
    short = value[:60_000]
    properties = (
        Properties(texts={RESPONSE_TOPIC: short}, user=[(short, short)]) if level == 5 else Properties()
    )
    return [
        Publish(short, value, 0),
        Publish(short or b"t", value, 1, True, packet_id=1),
        Publish(b"t", value, 2, packet_id=2, properties=properties),
        Pubrel(2),
        Subscribe(3, ((short, 1), (b"$share/g/" + short, 2))),
        Unsubscribe(4, (short,)),
    ]


def connects_with(value: bytes, level: int) -> list[Connect]:
    short = value[:60_000]
    return [
        Connect(short, True, 0, level),
        Connect(b"c", True, 0, level, user_name=short, password=short),
        Connect(b"w", True, 0, level, Will(short, short, 1, True)),
    ]


def encoded(packet: Packet, level: int) -> bytes:
    """As a client would write it that checks nothing; b"" for what can't be written at all."""
    with suppress(ValueError, UnicodeError, OverflowError, AssertionError):
        return codec5.encode(packet) if level == 5 else codec.encode(packet)
    return b""


@pytest.mark.parametrize("level", [4, 5])
async def test_packets_of_mqtt(level: int) -> None:
    async with world() as found, trio.open_nursery() as nursery:
        limit = trio.CapacityLimiter(16)

        async def one(data: bytes) -> None:
            async with limit:
                await says(found.mqtt, data)

        begin = encoded(Connect(b"", True, 0, level), level)
        for value in VALUES:
            for connect in connects_with(value, level):
                nursery.start_soon(one, encoded(connect, level))
            for packet in packets_with(value, level):
                nursery.start_soon(one, begin + encoded(packet, level))
            nursery.start_soon(one, value)
            for kind in range(16):
                size = encode_variable(min(len(value), 1000))
                nursery.start_soon(
                    one, begin + bytes([kind << 4 | 2 * (kind in (6, 8, 10))]) + size + value[:1000]
                )


def requests_of(dialect: str) -> list[dict[str, Any]]:
    """Requests, in which each value is to be replaced."""
    found: dict[str, list[dict[str, Any]]] = {
        "econia": [{"event": "e", "payload": {"a": 1}}],
        "exchange": [
            {"op": "auth", "token": "t"},
            {"op": "subscribe", "channel": "BTC@depth"},
            {"op": "subscribe", "channels": ["BTC@depth"]},
        ],
        "canton": [
            {"type": "auth", "token": "t"},
            {"type": "subscribe", "channel": "market_data", "symbols": ["BTC"], "aggregation": "1s"},
            {"type": "subscribe", "channels": [{"channel": "orders", "account_id": "a"}]},
        ],
        "rowcast": [
            {"id": 1, "connect": {"token": "t"}},
            {"id": 2, "subscribe": "a/+", "since": "now", "state": True},
            {"subscribe": [{"topic": "a/#", "since": "x/1"}, "b"]},
            {"id": 4, "publish": "a", "data": {"a": 1}, "qos": 1, "retain": True, "encoding": "json"},
            {"id": 5, "unsubscribe": "a/+"},
            {"ping": 1},
        ],
    }
    return found[dialect]


HERE = "here"


def with_a_place(value: Any) -> Iterator[Any]:
    """The value, each time with `HERE` in another place of it."""
    yield HERE
    if isinstance(value, dict):
        for key, member in value.items():
            for inner in with_a_place(member):
                yield value | {key: inner}
    elif isinstance(value, list):
        for place, member in enumerate(value):
            for inner in with_a_place(member):
                yield [*value[:place], inner, *value[place + 1 :]]


def hostile_requests(dialect: str) -> list[str]:
    forms = {json.dumps(form) for request in requests_of(dialect) for form in with_a_place(request)}
    found = TEXTS + [form.replace(json.dumps(HERE), text) for form in sorted(forms) for text in JSON_TEXTS]
    random.Random(11).shuffle(found)
    return found


@pytest.mark.parametrize("dialect", NAMES)
async def test_frames_of_each_dialect(dialect: str) -> None:
    token = jwt.encode(
        {"mode": "rw", "uid": "1", "account_id": "a", "sub": "a", "pub": ["#"]}, SECRET, "HS256"
    )
    login = {
        "econia": "",
        "exchange": json.dumps({"op": "auth", "token": token}),
        "canton": json.dumps({"type": "auth", "token": token}),
        "rowcast": "",
    }[dialect]
    kind = next(one for one in CONFIG.gateway.dialects if one.name == dialect)
    path = f"/{token}" if dialect == "econia" else kind.path
    texts = hostile_requests(dialect)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
    if login:
        request += frame(0x81, login.encode())
    said = [frame(0x81, text.encode()) for text in texts]
    said += [frame(first, value[:125]) for value in VALUES for first in (0x81, 0x82, 0x01, 0x88, 0x89, 0xC1)]
    async with world() as found, trio.open_nursery() as nursery:
        limit = trio.CapacityLimiter(16)

        async def one(data: bytes) -> None:
            async with limit:
                await says(found.websocket, request + data)

        for data in said:
            nursery.start_soon(one, data)


def frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65_536:
        head = bytes([first, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0xFF]) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


CLAIMS = [
    "exp",
    "nbf",
    "iat",
    "aud",
    "iss",
    "sub",
    "mode",
    "channels",
    "account_id",
    "uid",
    "roles",
    "pub",
    "subs",
]


def hostile_tokens() -> list[str]:
    found = [text for text in TEXTS if len(text) < 9000]
    jws = jwt.api_jws.PyJWS()
    for claim in CLAIMS:
        for text in JSON_TEXTS:
            payload = (
                '{"mode":"rw","account_id":"a","uid":1,"sub":"a",' + f'"{claim}":{text}' + "}"
            ).encode()
            if len(payload) < 6000:
                found.append(jws.encode(payload, SECRET, algorithm="HS256"))
    for headers in ({"kid": [1]}, {"alg": "none"}, {"kid": "x" * 3000}, {"typ": None}, {"crit": ["b64"]}):
        with suppress(jwt.PyJWTError):
            found.append(jws.encode(b"{}", SECRET, algorithm="HS256", headers=headers))
    return found


async def test_claims_of_tokens() -> None:
    async with world() as found:
        gateway = found.broker.app.operation._gateway
        assert gateway is not None
        clock = Clock(0.0)
        for token in hostile_tokens():
            for name in NAMES:
                gateway.identify_at_once(name, token, clock)
                await gateway.identify(name, token, clock)
            text = token.encode(errors="replace")[:60_000]
            await says(found.with_tokens, encoded(Connect(b"", True, 0, user_name=b"u", password=text), 4))


HOOK_BODIES = ["{}", '{"uid":{}}', '{"uid":1,"exp":{}}', '{"uid":1,"expires_in":{}}']


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_answers_of_a_hook(text: str) -> None:
    for body in HOOK_BODIES:
        identity_in(body.replace("{}", text).encode(), Clock(0.0), 0.0)


HEADS = [
    b"%b\r\n\r\n",
    b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n",
    b"POST /v1/mesh/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: %b\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nAccept: %b\r\n\r\n",
    b"GET /rowcast HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nOrigin: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n",
]


async def test_bodies_and_headers_of_http() -> None:
    async with world() as found:
        url = f"http://127.0.0.1:{found.broker.app.admin_port}"
        paths = [
            "/v1/mesh/publish",
            "/api/v1/clients/kick",
            "/api/v1/retained/clear",
            "/api/v1/feeds/acknowledge",
        ]
        json_type = {"Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            for path in paths:
                bodies = [*VALUES, *(b'{"c":"ex:1@order","d":%b}' % text.encode() for text in JSON_TEXTS)]
                for name in ("c", "client", "peer", "topic", "feed"):
                    bodies += [b'{"%b":%b,"d":"1"}' % (name.encode(), text.encode()) for text in JSON_TEXTS]
                for body in bodies:
                    answer = await client.post(path, content=body, headers=json_type)
                    assert answer.status_code in (200, 400, 404), (path, body[:60], answer.text)
                    assert answer.json() is not None
            for text in TEXTS:
                for query in ("search", "offset", "limit", "filter"):
                    answer = await client.get("/api/v1/clients", params={query: text[:5000]})
                    assert answer.status_code in (200, 400), (text[:60], answer.text)
        for value in VALUES:
            for head in HEADS:
                short = value[:2000]
                data = head % ((short,) * head.count(b"%b"))
                await says(found.broker.app.admin_port, data)
                await says(found.websocket, data)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize(
    "frame", [b"%b", b"user:%b\n", b"user:$7$%b\n", b"topic read %b\n", b"user %b\ntopic %b a\n"]
)
def test_password_and_acl_files(tmp_path: Path, value: bytes, frame: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(frame % ((value,) * frame.count(b"%b")))
    for security in (Security(password_file=path), Security(acl_file=path)):
        with suppress(RulesError):
            Rules(security)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_token_and_persistence_files(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(value)
    for config in (TokenConfig(secret_files=(path,)), TokenConfig(keys=(path,)), TokenConfig(jwks_file=path)):
        with suppress(RulesError):
            Rules(Security(tokens=True, token_config=config))
    if value:
        with pytest.raises(StorageError):
            open_database(path)
