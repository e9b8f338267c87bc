"""Rows by TCP and UDP: in whatever pieces they come, and however a peer leaves; a port that is taken is waited for."""

from __future__ import annotations

import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from support.polling import until

from broker.config.feeds import FeedConfig, Route, Source
from broker.config.market import Intake, MarketConfig, RowsConfig
from broker.core import barrier as barriers
from broker.core.engine import Engine
from broker.feed.status import FeedStatus
from broker.marketdata.intake import sockets
from broker.marketdata.intake.lines import LINE_BYTES_MAX
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.intake.sockets import serve_tcp, serve_udp
from broker.marketdata.market import Market

Serve = Callable[[IntakeRows, Market, list[int]], Awaitable[None]]


class Served:
    """A source that is open, and what came by it."""

    def __init__(self, kind: str, host: str = "127.0.0.1", port: int = 0, csv: tuple[str, ...] = ()) -> None:
        self.status = FeedStatus("s")
        self.topics: list[str] = []
        self.ports: list[int] = []
        self.market = Market(MarketConfig(), Engine(), {})
        feed = FeedConfig("s", "", kind, (Source("s", ("s",)),), (Route("s", ("{id}",)),))
        outlet: Any = self
        lines = RowsConfig(columns=csv, format="csv") if csv else RowsConfig()
        self.rows = IntakeRows(Intake(kind, feed, host, port, rows=lines), self.market, outlet, self.status)
        self.place = b""

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool, added: object = None) -> None:
        if topic == b"bug":
            raise RuntimeError
        self.topics.append(topic.decode())

    def flush(self) -> None: ...

    async def until(self, *topics: str) -> None:
        await until(lambda: len(self.topics) >= len(topics))
        assert self.topics == list(topics)


@asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1", csv: tuple[str, ...] = ()) -> AsyncIterator[Served]:
    served = Served("tcp" if serve is serve_tcp else "udp", host, csv=csv)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, served.rows, served.market, served.ports)
        await until(lambda: bool(served.ports))
        yield served
        nursery.cancel_scope.cancel()


def row(id: str) -> bytes:
    return b'{"id":"%b"}' % id.encode()


async def connect(served: Served) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", served.ports[0])


async def test_lines_are_rows_in_whatever_pieces_they_come() -> None:
    async with serving(serve_tcp) as served:
        assert served.status.state == "live"
        stream = await connect(served)
        await stream.send_all(row("a") + b"\r\n\n[" + row("b") + b"," + row("c") + b"]\n" + row("d")[:4])
        await served.until("a", "b", "c")
        await stream.send_all(row("d")[4:] + b"\nnot json\n" + row("e") + b"\n")
        await served.until("a", "b", "c", "d", "e")
        assert served.status.dropped == {"not_json": 1}


async def test_a_line_that_is_too_long_is_counted_as_often_as_there_is_one() -> None:
    async with serving(serve_tcp) as served:
        stream = await connect(served)
        long = b"x" * (LINE_BYTES_MAX + 1) + b"\n"
        await stream.send_all(long + row("a") + b"\n" + long + row("b") + b"\n")
        await served.until("a", "b")
        assert served.status.dropped == {"line_too_long": 2}


async def test_peers_have_lines_of_their_own_and_may_come_again() -> None:
    async with serving(serve_tcp) as served:
        one, other = await connect(served), await connect(served)
        await one.send_all(row("a")[:5])
        await other.send_all(row("b") + b"\n")
        await served.until("b")
        await one.send_all(row("a")[5:] + b"\n")
        await served.until("b", "a")
        await one.aclose()
        await other.send_all(row("c") + b"\n")
        again = await connect(served)
        await served.until("b", "a", "c")
        await again.send_all(row("d") + b"\n")
        await served.until("b", "a", "c", "d")


async def test_a_peer_that_breaks_off_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(serve_tcp) as served:
        stream = await connect(served)
        await stream.send_all(row("a") + b"\n")
        await served.until("a")
        await leave(stream, is_reset=True)
        await until(lambda: "source s: disconnected" in caplog.text)
        assert served.market.engine.counters.link_bugs == 0


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_last_line_needs_no_end(is_reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(serve_tcp) as served:
        stream = await connect(served)
        await stream.send_all(row("a") + b"\n" + row("b"))
        await served.until("a")
        await leave(stream, is_reset)
        await served.until("a", "b")
        assert served.status.dropped == {}


@pytest.mark.parametrize("line", [row("b")[:-1], b'{"id":"b","x":{}', b"7"], ids=["cut", "inner", "no-row"])
async def test_a_last_line_that_is_cut_off_is_counted(line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(serve_tcp) as served:
        stream = await connect(served)
        await stream.send_all(row("a") + b"\n" + line)
        await served.until("a")
        await leave(stream, is_reset=False)
        await until(lambda: "source s: disconnected" in caplog.text)
        assert served.topics == ["a"]
        assert sum(served.status.dropped.values()) == 1


async def test_a_cell_that_may_be_cut_off_is_no_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(serve_tcp, csv=("id", "price")) as served:
        stream = await connect(served)
        await stream.send_all(b"a,150.40\nb,150.4")
        await served.until("a")
        await leave(stream, is_reset=False)
        await until(lambda: "source s: disconnected" in caplog.text)
        assert served.topics == ["a"]
        assert served.status.dropped == {"line_cut_off": 1}


async def leave(stream: trio.SocketStream, is_reset: bool) -> None:
    if is_reset:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


@pytest.mark.parametrize("serve", [serve_tcp, serve_udp])
async def test_what_nobody_expected_costs_its_row_alone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    async with serving(serve) as served:
        if serve is serve_tcp:
            stream = await connect(served)
            await stream.send_all(b"\n".join([row("a"), row("bug"), row("b"), b""]))
        else:
            await send(served, row("a"), row("bug"), row("b"))
        await served.until("a", "b")
        assert served.market.engine.counters.link_bugs == 1


async def test_more_peers_than_there_may_be_wait_for_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CONNECTIONS_MAX", 1)
    async with serving(serve_tcp) as served:
        one, other = await connect(served), await connect(served)
        await one.send_all(row("a") + b"\n")
        await served.until("a")
        await other.send_all(row("c") + b"\n")
        await one.send_all(row("b") + b"\n")
        await served.until("a", "b")
        await one.aclose()
        await served.until("a", "b", "c")


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return False
    return True


async def send(served: Served, *datagrams: bytes) -> None:
    family = trio.socket.AF_INET6 if ":" in served.rows.intake.host else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
        for data in datagrams:
            await sock.sendto(data, (served.rows.intake.host, served.ports[0]))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_datagram_is_one_message(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 here")
    async with serving(serve_udp, host) as served:
        assert served.status.state == "live"
        await send(served, row("a") + b"\n", b"[" + row("b") + b"," + row("c") + b"]", b"{", row("d"))
        await served.until("a", "b", "c", "d")
        assert served.status.dropped == {"not_json": 1}


async def test_a_long_datagram_is_whole() -> None:
    async with serving(serve_udp) as served:
        await send(served, json.dumps({"id": "a", "note": "x" * 65_000}).encode())
        await served.until("a")


@pytest.mark.parametrize(
    ("serve", "kind"), [(serve_tcp, socket.SOCK_STREAM), (serve_udp, socket.SOCK_DGRAM)], ids=["tcp", "udp"]
)
async def test_a_port_that_is_taken_is_said_and_tried_again(
    serve: Serve, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "TRY_AGAIN_S", 0.02)
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        served = Served("tcp" if serve is serve_tcp else "udp", port=port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, served.rows, served.market, served.ports)
            await until(lambda: served.status.state == "waiting")
            assert served.status.problem == f"can't listen on 127.0.0.1:{port}: Address already in use"
            assert "trying again in 0.02 s" in caplog.text
            taken.close()
            await until(lambda: served.status.state == "live")
            assert (served.status.problem, served.ports) == ("", [port])
            nursery.cancel_scope.cancel()
