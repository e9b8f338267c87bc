"""wss: dialects and MQTT through TLS, with and without a client's certificate."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio_websocket
from support.certificates import Authority
from support.websockets import ECONIA, closed_with, masked, reader

from broker import Broker
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import Config, Listener, Security, Tls
from broker.core.publication import Publication
from broker.gateway.channels import topic_of

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")

CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04ws-1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    made.issue("client", "/CN=device 7")
    return made


@asynccontextmanager
async def secured(authority: Authority, with_identity: bool = False) -> AsyncIterator[Broker]:
    folder: Path = authority.folder
    tls = Tls(
        folder / "server.crt",
        folder / "server.key",
        cafile=authority.ca,
        require_certificate=with_identity,
        use_identity_as_username=with_identity,
    )
    listener = Listener(
        0,
        host="127.0.0.1",
        protocol="websockets",
        dialects=("mqtt", "econia"),
        tls=tls,
        security=Security(allow_anonymous=not with_identity),
    )
    async with Broker(Config((listener,), gateway=GatewayConfig(econia=ECONIA))) as broker:
        yield broker


def connect(  # type: ignore[no-untyped-def]
    authority: Authority, broker: Broker, path: str, *subprotocols: str, certificate: bool = False
):
    context = ssl.create_default_context(cafile=authority.ca)
    if certificate:
        context.load_cert_chain(authority.folder / "client.crt", authority.folder / "client.key")
    return trio_websocket.open_websocket(
        "127.0.0.1", broker.ports[0], path, use_ssl=context, subprotocols=subprotocols
    )


async def test_a_dialect_is_spoken_over_tls(authority: Authority) -> None:
    async with secured(authority) as broker, connect(authority, broker, "/" + reader("fill_event")) as ws:
        texts = [f"{number} " + "x" * 3000 for number in range(100)]
        for text in texts:
            broker.app.engine.publish(Publication(topic_of("econia", "fill_event"), text.encode()))
            broker.app.engine.flush()
        with trio.fail_after(60):
            assert [await ws.get_message() for _ in texts] == texts


async def test_mqtt_is_spoken_over_tls(authority: Authority) -> None:
    async with secured(authority) as broker, connect(authority, broker, "/mqtt", "mqtt") as ws:
        await ws.send_message(CONNECT + b"\x82\x06\x00\x01\x00\x01t\x00")
        with trio.fail_after(60):
            received = b""
            while len(received) < 9:
                received += await ws.get_message()
            assert received == b"\x20\x02\x00\x00" + b"\x90\x03\x00\x01\x00"
            await broker.publish("t", b"x" * 100_000)
            received = b""
            while len(received) < 100_000:
                received += await ws.get_message()
        assert received.endswith(b"x" * 100_000)


async def test_the_certificates_name_is_the_mqtt_user(authority: Authority) -> None:
    async with (
        secured(authority, with_identity=True) as broker,
        connect(authority, broker, "/mqtt", "mqtt", certificate=True) as ws,
    ):
        await ws.send_message(CONNECT)
        assert await ws.get_message() == b"\x20\x02\x00\x00"
        assert broker.app.engine.sessions[b"ws-1"].user_name == b"device 7"


async def test_plain_websocket_on_a_tls_port_is_cut_off(authority: Authority) -> None:
    async with secured(authority) as broker:
        stream = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
        await stream.send_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        with trio.fail_after(60):
            while await stream.receive_some():
                pass


@pytest.mark.parametrize(("path", "subprotocols"), [("/" + reader("a"), ()), ("/mqtt", ("mqtt",))])
async def test_at_the_end_of_the_broker_tls_clients_are_told(
    authority: Authority, path: str, subprotocols: tuple[str, ...]
) -> None:
    async with trio.open_nursery() as nursery:
        async with secured(authority) as broker:
            context = ssl.create_default_context(cafile=authority.ca)
            ws = await trio_websocket.connect_websocket(
                nursery, "127.0.0.1", broker.ports[0], path, use_ssl=context, subprotocols=list(subprotocols)
            )
        assert await closed_with(ws) == 1001


async def test_a_peer_that_breaks_the_rules_over_tls_is_told_its_code(authority: Authority) -> None:
    async with secured(authority) as broker, connect(authority, broker, "/" + reader("a")) as ws:
        await ws._stream.send_all(masked(0x89, b"?") + masked(0x83, b""))
        assert await closed_with(ws) == 1002
        assert broker.app.engine.counters.link_bugs == 0
