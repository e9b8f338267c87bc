"""Rows by TCP, a JSON object a line, and by UDP, one or an array of them a datagram."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import trio

from broker.links.barrier import barrier
from broker.marketdata.intake.lines import Lines
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.market import Market

logger = logging.getLogger("broker.market")

READ_BYTES: Final = 64 * 1024
CONNECTIONS_MAX: Final = 64
TRY_AGAIN_S: Final = 5.0


async def serve_tcp(rows: IntakeRows, market: Market, opened: list[int] | None = None) -> None:
    """Take connections until cancelled.

    Args:
        opened: gets the port, once it is open.
    """
    intake = rows.intake
    while True:
        try:
            listeners = await trio.open_tcp_listeners(intake.port, host=intake.host)
        except OSError as error:
            await _wait(rows, f"can't listen on {intake.host}:{intake.port}: {error.strerror or error}")
            continue
        port = int(listeners[0].socket.getsockname()[1])
        _is_open(rows, f"tcp {intake.host}:{port}", port, opened)
        slots = trio.CapacityLimiter(CONNECTIONS_MAX)
        await trio.serve_listeners(partial(_serve_peer, rows, market, slots), listeners)


async def _serve_peer(
    rows: IntakeRows, market: Market, slots: trio.CapacityLimiter, stream: trio.SocketStream
) -> None:
    name, engine = rows.intake.feed.name, market.engine
    async with stream, slots:
        logger.info("source %s: connected", name)
        lines = Lines()
        try:
            while data := await stream.receive_some(READ_BYTES):
                too_long = lines.too_long
                found = lines.feed(bytes(data))
                with engine.turn:
                    for line in found:
                        with barrier(engine.counters, f"source {name}"):
                            rows.message(line)
                    for _ in range(lines.too_long - too_long):
                        rows.status.drop("line_too_long", name, engine.now)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        rest = lines.rest()
        if rest:
            with engine.turn, barrier(engine.counters, f"source {name}"):
                _take_unended(rows, rest, engine.now)
        logger.info("source %s: disconnected", name)


def _take_unended(rows: IntakeRows, line: bytes, now: float) -> None:
    """The last line of a peer that left without ending it: a row if nothing can be missing.

    What is cut off in the middle is no JSON any more, but may well be CSV, with another number in its last cell.
    """
    if rows.intake.rows.format == "json" and line.endswith((b"}", b"]")):
        rows.message(line)
    else:
        rows.status.drop("line_cut_off", rows.intake.feed.name, now)


async def serve_udp(rows: IntakeRows, market: Market, opened: list[int] | None = None) -> None:
    """Take datagrams until cancelled; as `serve_tcp`."""
    intake, engine = rows.intake, market.engine
    while True:
        family = trio.socket.AF_INET6 if ":" in intake.host else trio.socket.AF_INET
        with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
            try:
                sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4 * 1024 * 1024)
                await sock.bind((intake.host, intake.port))
            except OSError as error:
                await _wait(rows, f"can't listen on {intake.host}:{intake.port}: {error.strerror or error}")
                continue
            port = int(sock.getsockname()[1])
            _is_open(rows, f"udp {intake.host}:{port}", port, opened)
            while True:
                data = await sock.recv(READ_BYTES)
                with engine.turn, barrier(engine.counters, f"source {intake.feed.name}"):
                    rows.message(data.strip())


def _is_open(rows: IntakeRows, where: str, port: int, opened: list[int] | None) -> None:
    rows.status.enter("live")
    logger.info("source %s: listening on %s", rows.intake.feed.name, where)
    if opened is not None:
        opened.append(port)


async def _wait(rows: IntakeRows, problem: str) -> None:
    logger.error("source %s: %s; trying again in %g s", rows.intake.feed.name, problem, TRY_AGAIN_S)
    rows.status.enter("waiting", problem)
    await trio.sleep(TRY_AGAIN_S)
