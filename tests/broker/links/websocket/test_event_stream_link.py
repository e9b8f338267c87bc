"""What the dialect says becomes events that a browser joins again, each with the position that it hands back."""

from __future__ import annotations

import pytest
from support.interpreted import interpreted_only
from support.websockets import masked

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.links.websocket.event_stream_link import EventStreamLink, events_of
from broker.links.websocket.farewell import all_owed
from protocol.websocket import close_frame, text_frame


def test_what_was_missed_is_an_event_each() -> None:
    one, two = b'{"topic":"a","at":"e/1","data":[1,"]"]}', b'{"topic":"a","at":"e/2","data":2}'
    text = b'{"subscribed":"a","recovered":true,"missed":[%b,%b],"more":true}' % (one, two)
    assert events_of(text) == b"id: e/1\ndata: %b\n\nid: e/2\ndata: %b\n\n" % (one, two)


def as_a_browser_reads(events: bytes) -> list[tuple[str, str, str]]:
    """Kind, data and last id of each event, by the rules of the HTML standard, §9.2.6."""
    found: list[tuple[str, str, str]] = []
    data: list[str] = []
    kind, last_id = "message", ""
    text = events.decode().replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append((kind, "\n".join(data), last_id))
            kind, data = "message", []
        elif name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            last_id = value
    return found


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (
            b'{"topic":"a","at":"e/1","data":2}',
            [("message", '{"topic":"a","at":"e/1","data":2}', "e/1")],
        ),
        (b'{"topic":"a","data":2}', [("message", '{"topic":"a","data":2}', "")]),
        (
            b'{"topic":"a","at":"e/1","data":{\r\n"n":\r1,\n"m":2}}',
            [("message", '{"topic":"a","at":"e/1","data":{\n"n":\n1,\n"m":2}}', "e/1")],
        ),
        (b'{"gap":{"why":"x"}}', [("gap", '{"gap":{"why":"x"}}', "")]),
        (b'{"skipped":3}', [("skipped", '{"skipped":3}', "")]),
        (b'{"heartbeat":1}', []),
        (b'{"closing":1001}', []),
        (b'{"subscribed":"a","recovered":true,"at":"e/1"}', []),
        (b'{"subscribed":"a","recovered":false}', [("gap", '{"subscribed":"a","recovered":false}', "")]),
        (b'{"subscribed":"a","recovered":false,"x":[\n]}', [("gap", "{}", "")]),
        (b'{"subscribed":"a","recovered":false,"x":[\r]}', [("gap", "{}", "")]),
        (
            b'{"subscribed":"a","recovered":false,"state":[{"topic":"a","data":1}],"at":"e/1"}',
            [
                (
                    "gap",
                    '{"subscribed":"a","recovered":false,"state":[{"topic":"a","data":1}],"at":"e/1"}',
                    "",
                ),
                ("message", '{"topic":"a","data":1}', ""),
            ],
        ),
    ],
)
def test_a_browser_gets_what_was_said(text: bytes, events: list[tuple[str, str, str]]) -> None:
    assert as_a_browser_reads(events_of(text)) == events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b'{"closing":1001,"retry_ms":1500}', b"retry: 1500\n\n"),
        (b'{"closing":1001}', b""),
        (b'{"heartbeat":1}', b": still here\n\n"),
        (b'{"subscribed":"a","at":"e/1"}', b"id: e/1\n\n"),
    ],
)
def test_what_is_no_message_is_told_in_the_streams_own_words(text: bytes, events: bytes) -> None:
    assert events_of(text) == events


class Bare(EventStreamLink):
    """The link without what the dialect needs: only what leaves, and what comes."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.outbox = Outbox(self.engine.round, 1 << 20, lambda data: 0)
        self.last_received = 0.0


@interpreted_only
@pytest.mark.parametrize("size", [0, 60, 200, 70_000])
def test_a_frame_of_any_length_leaves_without_its_head(size: int) -> None:
    link = Bare()
    text = b'{"topic":"a","data":"%b"}' % (b"x" * size)
    link.push(text_frame(text))
    assert all_owed(link.outbox) == b"data: " + text + b"\n\n"


@interpreted_only
def test_the_response_leaves_as_it_is_and_close_frames_not_at_all() -> None:
    link = Bare()
    link.push(b"HTTP/1.1 200 OK\r\n\r\n")
    link.push(close_frame(1001, "going"))
    assert all_owed(link.outbox) == b"HTTP/1.1 200 OK\r\n\r\n"


@interpreted_only
def test_whatever_the_peer_sends_keeps_it_alive_and_means_nothing() -> None:
    link = Bare()
    link.engine.now = 5.0
    link.received(masked(0x81, b'{"publish":"a"}'))
    assert link.last_received == 5.0
    assert link.hears_close(b"")
