"""One WebSocket of the admin port: text in, frames out, pings in between, and no peer that is waited for for ever."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from support.websockets import masked

from broker.admin.http import HttpError, Request
from broker.admin.sockets import SEND_TIMEOUT_S, AdminSocket
from protocol.websocket import PING_FRAME, close_frame, pong_frame, text_frame

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89


def request(**headers: str) -> Request:
    return Request("GET", "/api", {}, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def opening(**changes: str) -> Request:
    return request(**{"sec_websocket_key": KEY, "sec_websocket_version": "13", **changes})


async def opened(rest: bytes = b"", **settings: Any) -> tuple[AdminSocket, trio.abc.Stream]:
    """A connection whose handshake was read by its peer."""
    ours, theirs = trio.testing.memory_stream_pair()
    page = AdminSocket(ours, 100, **settings)
    await page.open(opening(), rest)
    answer = await theirs.receive_some()
    assert answer.startswith(b"HTTP/1.1 101 ")
    return page, theirs


@pytest.mark.parametrize(
    "changes",
    [{"sec_websocket_key": ""}, {"sec_websocket_key": "short"}, {"sec_websocket_version": "8"}],
)
async def test_what_is_no_handshake_is_refused(changes: dict[str, str]) -> None:
    ours, _ = trio.testing.memory_stream_pair()
    with pytest.raises(HttpError, match="not a WebSocket handshake of version 13"):
        await AdminSocket(ours, 100).open(opening(**changes), b"")


async def test_what_came_with_the_request_is_read_first() -> None:
    page, theirs = await opened(masked(TEXT, b"one") + masked(TEXT, b"two")[:3])
    await theirs.send_all(masked(TEXT, b"two")[3:])
    assert [await page.next_text(), await page.next_text()] == ["one", "two"]


async def test_pings_are_answered_between_messages() -> None:
    page, theirs = await opened()
    await theirs.send_all(masked(PING, b"p") + masked(TEXT, b"one"))
    assert await page.next_text() == "one"
    assert await theirs.receive_some() == pong_frame(b"p")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (masked(CLOSE, b"\x03\xe8bye"), close_frame(1000, "bye")),
        (masked(BINARY, b"x"), close_frame(1003, "messages must be text")),
    ],
)
async def test_a_goodbye_and_what_is_no_text_are_the_end(sent: bytes, answer: bytes) -> None:
    page, theirs = await opened()
    await theirs.send_all(sent + masked(TEXT, b"late"))
    assert await page.next_text() is None
    assert await theirs.receive_some() == answer


@pytest.mark.parametrize(("sent", "code"), [(masked(TEXT, b"x" * 101), 1009), (masked(0xC1, b"x"), 1002)])
async def test_a_message_that_is_too_long_or_none_ends_it_with_its_code(sent: bytes, code: int) -> None:
    page, theirs = await opened()
    await theirs.send_all(sent)
    assert await page.next_text() is None
    assert (await theirs.receive_some())[2:4] == code.to_bytes(2, "big")


async def test_a_peer_that_leaves_is_the_end() -> None:
    page, theirs = await opened()
    await theirs.aclose()
    assert await page.next_text() is None


async def test_a_silent_peer_is_asked_once_and_has_gone_after_as_long_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    page, theirs = await opened(silence_max_s=5.0)
    began = trio.current_time()
    assert await page.next_text() is None
    assert trio.current_time() - began == pytest.approx(10.0)
    assert (await theirs.receive_some()).startswith(PING_FRAME)


async def test_a_peer_that_answers_the_ping_stays(autojump_clock: trio.testing.MockClock) -> None:
    page, theirs = await opened(silence_max_s=5.0)

    async def answer() -> None:
        await theirs.receive_some()
        await theirs.send_all(masked(0x8A, b""))
        await trio.sleep(4.0)
        await theirs.send_all(masked(TEXT, b"here"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await page.next_text() == "here"


async def test_a_peer_that_takes_nothing_has_gone(autojump_clock: trio.testing.MockClock) -> None:
    ours, _ = trio.testing.lockstep_stream_pair()
    page = AdminSocket(ours, 100)
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await page.send(text_frame(b"x"))
    assert trio.current_time() - began == pytest.approx(SEND_TIMEOUT_S)


async def test_two_who_send_do_not_mix_their_frames(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    page = AdminSocket(ours, 100)
    frames = [text_frame(b"a" * 50), text_frame(b"b" * 50)]
    data = b""
    async with trio.open_nursery() as nursery:
        for frame in frames:
            nursery.start_soon(page.send, frame)
        while len(data) < len(b"".join(frames)):
            data += await theirs.receive_some(7)
    assert data in (frames[0] + frames[1], frames[1] + frames[0])
