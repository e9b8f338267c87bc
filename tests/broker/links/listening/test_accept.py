"""Where a listener listens: families, interfaces, loopback, unix sockets."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
import trio
from support.polling import until

from broker.config.model import Limits, Listener
from broker.core.engine import Engine
from broker.links.listening.accept import ListenError, accept_forever, open_sockets
from broker.links.listening.door import Door
from broker.links.listening.interfaces import interface_address
from broker.links.server import Server
from broker.links.tls_socket import Socket


def places(listener: Listener) -> list[str]:
    opened = open_sockets(listener)
    try:
        return [str(sock.getsockname()[0]) for sock in opened]
    finally:
        for sock in opened:
            sock.close()


needs_ipv6 = pytest.mark.skipif(
    interface_address("lo", socket.AF_INET6) is None, reason="no IPv6 on this machine's loopback"
)


def test_one_family_is_what_socket_domain_asks_for() -> None:
    assert places(Listener(0, socket_domain="ipv4")) == ["0.0.0.0"]


@pytest.mark.parametrize(("protocol", "said"), [("mqtt", ["ipv4", "ipv6"]), ("websockets", ["websockets"])])
@needs_ipv6
def test_the_log_names_families_of_mqtt_and_websockets_once(
    caplog: pytest.LogCaptureFixture, protocol: str, said: list[str]
) -> None:
    """As mosquitto."""
    caplog.set_level("INFO")
    places(Listener(0, protocol=protocol, local_only=True))
    assert [message.split()[1] for message in caplog.messages] == said


@needs_ipv6
def test_both_families_by_default_and_ipv6_alone_if_asked() -> None:
    assert places(Listener(0)) == ["0.0.0.0", "::"]
    assert places(Listener(0, socket_domain="ipv6")) == ["::"]
    assert places(Listener(0, local_only=True)) == ["127.0.0.1", "::1"]


def test_an_interface_stands_for_its_addresses() -> None:
    assert places(Listener(0, bind_interface="lo"))[0] == "127.0.0.1"
    assert places(Listener(0, "127.0.0.1", bind_interface="lo")) == ["127.0.0.1"]


def test_an_interface_that_is_not_there_or_elsewhere_is_told() -> None:
    with pytest.raises(ListenError, match="Interface nonesuch0 does not exist"):
        places(Listener(0, bind_interface="nonesuch0"))
    with pytest.raises(ListenError, match="does not match specified listener address"):
        places(Listener(0, "127.0.0.2", bind_interface="lo"))
    with pytest.raises(ListenError, match="does not exist"):
        places(Listener(0, bind_interface="a-name-that-is-far-too-long"))


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (Listener(0, "a" * 64), "a" * 64 + ", port 0: .*label"),
        (Listener(0, "a\udcff"), "a\udcff, port 0: .*"),
        (Listener(0, "a\0b"), "a\0b, port 0: .*"),
        (Listener(0, unix_path="/tmp/a\0b"), "Unable to listen on /tmp/a\0b: (stat: )?embedded null"),
        (Listener(0, unix_path="/tmp/" + "a" * 200), "Unable to listen on /tmp/a*: AF_UNIX path too long"),
    ],
)
def test_a_place_that_can_be_none_is_told(listener: Listener, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        open_sockets(listener)


def test_a_path_left_behind_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "mqtt.sock")
    for _ in range(2):
        (sock,) = open_sockets(Listener(0, unix_path=path))
        sock.close()


@pytest.mark.parametrize("backlog", [8, 0], ids=["has room", "is busy"])
def test_a_path_where_another_process_answers_is_left_to_it(tmp_path: Path, backlog: int) -> None:
    path = str(tmp_path / "mqtt.sock")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(path)
        other.listen(backlog)
        client.connect(path)
        with pytest.raises(ListenError, match=f"{path}: .*; stop the other program, or choose another path"):
            open_sockets(Listener(0, unix_path=path))
        other.accept()[0].close()
        with socket.socket(socket.AF_UNIX) as later:
            later.setblocking(False)
            later.connect(path)


async def test_a_burst_of_connections_that_need_a_handshake_is_not_more_than_may_connect() -> None:
    door = Door(Listener(0, max_connections=2), Limits(), connection_messages=False)
    (listening,) = open_sockets(Listener(0, "127.0.0.1"))
    handed_over: list[Socket] = []

    def take(sock: Socket, door: Door, peer: str, identity: bytes | None) -> None:
        door.enter()
        handed_over.append(sock)

    clients = [socket.create_connection(listening.getsockname()) for _ in range(5)]
    async with trio.open_nursery() as nursery:
        server = Server(Engine(), nursery)
        nursery.start_soon(server.pump.run)
        nursery.start_soon(accept_forever, listening, door, server, take)
        for client in clients[2:]:
            await trio.lowlevel.wait_readable(client)
            assert client.recv(1) == b""
        nursery.cancel_scope.cancel()
    for sock in (*clients, *handed_over):
        sock.close()
    assert len(handed_over) == 2


async def test_without_sockets_to_give_it_tries_again_when_there_may_be_some() -> None:
    door = Door(Listener(0), Limits(), connection_messages=False)
    (listening,) = open_sockets(Listener(0, "127.0.0.1"))
    accepted: list[Socket] = []
    refusals = 2

    class Exhausted(socket.socket):
        def _accept(self) -> tuple[int, object]:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super()._accept()  # type: ignore[misc, no-any-return]

    with Exhausted(fileno=listening.detach()) as short_of_sockets:
        clients = [socket.create_connection(short_of_sockets.getsockname()) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            server = Server(Engine(), nursery)
            nursery.start_soon(server.pump.run)
            nursery.start_soon(
                accept_forever, short_of_sockets, door, server, lambda sock, *_: accepted.append(sock)
            )
            await until(lambda: len(accepted) >= 3)
            nursery.cancel_scope.cancel()
    assert refusals == 0
    for sock in (*clients, *accepted):
        assert isinstance(sock, socket.SocketType)
        if sock in accepted:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        sock.close()
