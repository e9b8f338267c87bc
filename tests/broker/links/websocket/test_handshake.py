"""The opening request of a WebSocket: what is understood, and what every other request is told."""

from __future__ import annotations

import re

import pytest
import trio
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_one_way_pair, memory_stream_pair

from broker.links.websocket.handshake import (
    HandshakeRefused,
    accept,
    answer,
    by_h11,
    ordinary,
    peer_behind,
    read_head,
    understand,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HINT = "this is a WebSocket port"


def request(*extra: str, **replaced: str | None) -> bytes:
    headers: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    headers.update({name.replace("_", "-"): value for name, value in replaced.items()})
    lines = [
        "GET /fill_event/abc?x=1 HTTP/1.1",
        *(f"{n}: {v}" for n, v in headers.items() if v is not None),
        *extra,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def test_a_proper_request_is_understood() -> None:
    opening = understand(
        request(
            "Origin: https://example.org",
            "Sec-WebSocket-Protocol: mqtt, mqttv3.1",
            Connection="keep-alive, Upgrade",
        ),
        HINT,
    )
    assert opening.target == "/fill_event/abc?x=1"
    assert opening.path == "/fill_event/abc"
    assert opening.subprotocols == ("mqtt", "mqttv3.1")
    assert opening.origin == "https://example.org"
    assert opening.key == KEY.encode()


def test_neither_target_nor_key_shows_in_a_repr() -> None:
    shown = repr(understand(request(), HINT))
    assert "abc" not in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"\x16\x03\x01\x00\xee rubbish\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd\r\n\r\n", 400),
        (request(Upgrade=None), 426),
        (request(Upgrade="h2c"), 426),
        (request(Connection="close"), 426),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Sec_WebSocket_Version=None), 426),
        (request(Sec_WebSocket_Key=None), 400),
        (request(Sec_WebSocket_Key="short"), 400),
        (request(Sec_WebSocket_Key="AAAA"), 400),
    ],
)
def test_any_other_request_is_refused_with_a_status(head: bytes, status: int) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        understand(head, HINT)
    assert refused.value.status == status
    response = answer(refused.value)
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert refused.value.reason.encode() in response


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    with pytest.raises(HandshakeRefused):
        understand(data + b"\r\n\r\n", HINT)


def test_a_plain_browser_is_told_what_this_port_is() -> None:
    with pytest.raises(HandshakeRefused) as refused:
        understand(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", HINT)
    response = answer(refused.value)
    assert b"Upgrade: websocket\r\n" in response
    assert response.endswith(HINT.encode())


async def test_a_head_is_read_in_any_pieces_and_what_follows_is_kept() -> None:
    for size in (1, 7, 10_000):
        send, receive = memory_stream_one_way_pair()
        data = request() + b"\x81\x80abcd"
        for start in range(0, len(data), size):
            await send.send_all(data[start : start + size])
        await send.aclose()
        head, _ = await read_head(receive, 4096)
        assert head == request()


async def test_a_head_that_is_too_long_is_refused() -> None:
    send, receive = memory_stream_one_way_pair()
    await send.send_all(b"GET / HTTP/1.1\r\nX: " + b"x" * 5000)
    with pytest.raises(HandshakeRefused) as refused:
        await read_head(receive, 4096)
    assert refused.value.status == 431


@pytest.mark.parametrize(
    "data", [b"\x10\x10\x00\x04MQTT", b"get / HTTP/1.1", b"\x16\x03\x01", b"VERYLONGMETHOD /"]
)
async def test_what_is_no_http_is_refused_without_waiting_for_more(data: bytes) -> None:
    send, receive = memory_stream_one_way_pair()
    await send.send_all(data)
    with pytest.raises(HandshakeRefused) as refused:
        await read_head(receive, 4096)
    assert refused.value.status == 400


async def test_a_peer_that_leaves_before_its_request_is_complete_gets_no_answer() -> None:
    send, receive = memory_stream_one_way_pair()
    await send.send_all(b"GET / HT")
    await send.aclose()
    assert await read_head(receive, 4096) == (b"", b"")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("127.0.0.1:5000", "203.0.113.9", "203.0.113.9:5000"),
        ("10.1.2.3:5000", "203.0.113.9, 10.9.9.9", "203.0.113.9:5000"),
        ("127.0.0.1:5000", "6.6.6.6, 203.0.113.9", "203.0.113.9:5000"),
        ("198.51.100.7:5000", "203.0.113.9", "198.51.100.7:5000"),
        ("127.0.0.1:5000", "", "127.0.0.1:5000"),
        ("127.0.0.1:5000", "nonsense", "127.0.0.1:5000"),
        ("::1:5000", "2001:db8::9", "2001:db8::9:5000"),
        ("127.0.0.1:5000", "203.0.113.9:4711", "203.0.113.9:4711"),
        ("127.0.0.1:5000", "[2001:db8::9]", "2001:db8::9:5000"),
        ("127.0.0.1:5000", "[2001:db8::9]:4711", "2001:db8::9:4711"),
        ("127.0.0.1:5000", "2001:DB8:0:0::9", "2001:db8::9:5000"),
        ("127.0.0.1:5000", "fe80::9%eth0", "fe80::9:5000"),
        ("127.0.0.1:5000", "[fe80::9%eth0]:4711", "fe80::9:4711"),
        ("fe80::1%eth0:5000", "203.0.113.9", "203.0.113.9:5000"),
        ("127.0.0.1:5000", "::ffff:203.0.113.9", "203.0.113.9:5000"),
        ("127.0.0.1:5000", "203.0.113.9:1, [::ffff:10.9.9.9]:2", "203.0.113.9:1"),
        ("::1:5000", "2001:db8::9, [::1]:80, 10.1.1.1:81", "2001:db8::9:5000"),
        ("127.0.0.1:5000", "203.0.113.9, nonsense, 10.9.9.9", "10.9.9.9:5000"),
        *(
            ("127.0.0.1:5000", garbage, "127.0.0.1:5000")
            for garbage in (
                "unknown",
                "[]",
                "[",
                "[::1",
                "::1]:80",
                "1.2.3.4:",
                "1.2.3.4:x",
                "[1:2]",
                "_a:1",
                ",",
                "%",
            )
        ),
        ("", "203.0.113.9", ""),
    ],
)
def test_a_forwarded_address_is_believed_from_trusted_proxies_only(
    peer: str, forwarded_for: str, expected: str
) -> None:
    assert peer_behind(peer, forwarded_for, ("127.0.0.1", "::1", "fe80::/10", "10.0.0.0/8")) == expected


_PIECES = st.sampled_from(
    (
        *(
            b"GET",
            b" ",
            b"/x",
            b"HTTP/1.1",
            b"HTTP/1.0",
            b"\r\n",
            b"\n",
            b":",
            b": ",
            b"Host",
            b"host: y",
            b"Upgrade",
        ),
        *(
            b",",
            b"\t",
            b"Content-Length: 3",
            b"Transfer-Encoding: chunked",
            b"Connection: upgrade",
            b"\x00",
            b"\x7f",
        ),
        *(
            b"\xff",
            b"(",
            b"a",
            b"X-Y: z",
            b" folded",
            b"Expect: 100-continue",
            b"GET /x HTTP/1.1\r\nHost: x\r\n",
        ),
        *(b"\r\nA: b \t", b"GET  /"),
    )
)


@given(st.lists(_PIECES, max_size=12), st.booleans())
def test_what_is_read_as_ordinary_is_what_h11_reads(pieces: list[bytes], begins_well: bool) -> None:
    head = (b"GET /x HTTP/1.1\r\nHost: x\r\n" if begins_well else b"") + b"".join(pieces) + b"\r\n\r\n"
    head = head[: head.index(b"\r\n\r\n") + 4]
    read = ordinary(head)
    assert read is None or read == by_h11(head)


def test_a_browsers_request_is_ordinary() -> None:
    read = ordinary(
        request("User-Agent: Mozilla/5.0 (X11)", "Accept-Encoding: gzip, br", "Pragma:", "Cookie: a=b; c=d")
    )
    assert read is not None
    assert read[2][b"pragma"] == b""


@pytest.mark.parametrize("subprotocol", [None, "rowcast", "mqtt", "mqttv3.1"])
@pytest.mark.parametrize("key", ["dGhlIHNhbXBsZSBub25jZQ==", "x3JJHMbDL1EzLkh9GBhXDw=="])
async def test_answer_is_what_trio_websocket_would_say(key: str, subprotocol: str | None) -> None:
    offer = {} if subprotocol is None else {"Sec_WebSocket_Protocol": subprotocol}
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await ours.send_all(request(Sec_WebSocket_Key=key, **offer))
        proposal = await trio_websocket.wrap_server_stream(nursery, theirs)
        await proposal.accept(subprotocol=subprotocol)
        said = bytes(await ours.receive_some())
        nursery.cancel_scope.cancel()
    status, _, headers = accept(key.encode(), subprotocol).partition(b"\r\n")
    # Its versions differ in the words behind the number, and in how they spell this one.
    assert status == b"HTTP/1.1 101 Switching Protocols"
    assert said.startswith(b"HTTP/1.1 101 ")
    spelled = b"WebSocket" if subprotocol in ("mqtt", "mqttv3.1") else b"websocket"  # as libwebsockets does
    assert re.sub(rb"(?i)(?<=Upgrade: )websocket", spelled, said.partition(b"\r\n")[2]) == headers
