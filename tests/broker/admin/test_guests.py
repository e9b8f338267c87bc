"""What a peer of the admin port costs the others: idle ones make room, heads come first, lengths are not doubtful."""

from __future__ import annotations

import json

import trio
from support.websockets import listening

from broker.admin.access import Access
from broker.admin.guests import CONNECTIONS_MAX, Guest, Guests
from broker.admin.http import BODIES_BYTES_MAX, BODY_BYTES_MAX, AdminServer
from broker.admin.site import open_admin, publish_routes, serve_http
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import AdminHttp

CONFIG = GatewayConfig(exchange=Exchange())


def test_the_longest_idle_of_the_address_with_most_makes_room() -> None:
    gone: list[str] = []

    def guest(address: str, name: str) -> Guest:
        return Guest(address, lambda: gone.append(name))

    guests = Guests(4)
    few = guest("10.0.0.1", "few")
    assert guests.enter(few)
    crowd = [guest("10.0.0.9", f"crowd {number}") for number in range(3)]
    assert all(guests.enter(one) for one in crowd)
    guests.asks(crowd[0])
    assert guests.enter(guest("10.0.0.2", "new"))
    assert gone == ["crowd 1"]
    guests.leave(crowd[1])
    assert guests.enter(guest("10.0.0.3", "newer"))
    assert len(gone) == 2


def test_where_all_are_being_answered_the_next_one_is_turned_away() -> None:
    guests = Guests(2)
    two = [Guest("a", lambda: None) for _ in range(2)]
    for one in two:
        assert guests.enter(one)
        guests.asks(one)
    assert not guests.enter(Guest("b", lambda: None))
    guests.leave(two[0])
    assert guests.enter(Guest("b", lambda: None))


async def asked(port: int, request: bytes) -> bytes:
    """The whole answer to bytes on a connection of their own."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = await stream.receive_some()
            assert more, answer
            answer += bytes(more)
        return answer


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /v1/mesh/publish HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


async def test_a_crowd_of_silent_connections_keeps_nobody_out() -> None:
    opened = open_admin(AdminHttp(0))
    port = opened[0].socket.getsockname()[1]
    async with listening(CONFIG, dialects=("exchange",)) as broker, trio.open_nursery() as nursery:
        admin = AdminServer(publish_routes(broker.gateway), Access(lambda: ()).check, broker.engine.counters)
        nursery.start_soon(serve_http, admin, opened)
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(CONNECTIONS_MAX + 50)]
        for stream in silent[::3]:
            await stream.send_all(b"POST / HT")
        body = json.dumps({"c": "ex:1001@balance", "d": "x"}).encode()
        with trio.fail_after(60):
            answer = await asked(
                port, head("Content-Type: application/json", f"Content-Length: {len(body)}") + body
            )
        assert answer.startswith(b"HTTP/1.1 200"), answer
        for stream in silent:
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


async def test_a_body_is_not_read_from_who_may_not_send_it_nor_one_of_doubtful_length() -> None:
    opened = open_admin(AdminHttp(0))
    port = opened[0].socket.getsockname()[1]
    async with listening(CONFIG, dialects=("exchange",)) as broker, trio.open_nursery() as nursery:
        access = Access(lambda: ("right",))
        admin = AdminServer(publish_routes(broker.gateway), access.check, broker.engine.counters)
        nursery.start_soon(serve_http, admin, opened)
        may = "Authorization: Bearer right"
        with trio.fail_after(60):
            refused = await asked(port, head(f"Content-Length: {BODY_BYTES_MAX}"))
            assert refused.startswith(b"HTTP/1.1 401"), refused
            refused = await asked(port, head(may, f"Content-Length: {BODY_BYTES_MAX + 1}"))
            assert refused.startswith(b"HTTP/1.1 413"), refused
            refused = await asked(port, head(may, "Content-Length: 2", "Transfer-Encoding: chunked"))
            assert refused.startswith(b"HTTP/1.1 400"), refused
        assert admin._bodies_bytes == 0
        nursery.cancel_scope.cancel()


async def test_bodies_together_have_a_limit() -> None:
    opened = open_admin(AdminHttp(0))
    port = opened[0].socket.getsockname()[1]
    async with listening(CONFIG, dialects=("exchange",)) as broker, trio.open_nursery() as nursery:
        admin = AdminServer(publish_routes(broker.gateway), Access(lambda: ()).check, broker.engine.counters)
        nursery.start_soon(serve_http, admin, opened)
        admin._bodies_bytes = BODIES_BYTES_MAX - 10
        with trio.fail_after(60):
            answer = await asked(port, head("Content-Length: 11") + b"12345678901")
        assert answer.startswith(b"HTTP/1.1 503"), answer
        nursery.cancel_scope.cancel()
