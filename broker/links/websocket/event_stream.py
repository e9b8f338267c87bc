"""Server-sent events: one topic filter of the dialect `rowcast`, to read only, for whoever's proxy knows no WebSocket.

A link as any other of the dialect; what it is owed leaves as events instead of frames.  The event's id is the message's
position, so that a browser's own reconnect gives it back as `Last-Event-ID`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

import h11
from attrs import frozen

from broker.gateway.gateway import Gateway
from broker.links.websocket.handshake import Refused
from broker.links.websocket.rowcast import RowcastLink
from protocol.dialects.base import NEVER, Clock, Identity
from protocol.dialects.rowcast import EventStreamDialect, Read, RowcastRules
from protocol.grants import grants_of
from protocol.json_members import elements_of, members_of
from protocol.mqtt.topics import is_valid_topic_filter

RESPONSE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n"
    b"X-Accel-Buffering: no\r\n"
)
TEXT_FRAME: Final = 0x81


@frozen
class StreamRequest:
    """What was asked: the subscription, the token that was shown, and where the page comes from."""

    read: Read
    token: str
    origin: str


def stream_request(head: bytes, path: str) -> StreamRequest | None:
    """The request for a stream below `path`; None if it is another.

    Raises:
        Refused: it is one, and wrong.
    """
    target = head.split(b" ", 2)[1:2]
    if not head.startswith(b"GET ") or target[0].split(b"?")[0] != path.encode() + b"/sse":
        return None
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(400, f"not a valid HTTP request: {error}") from None
    assert isinstance(request, h11.Request)
    headers = {name: value.decode("latin-1") for name, value in request.headers}
    query = parse_qs(urlsplit(request.target.decode("latin-1")).query)
    topics = query.get("topic", [])
    topic = topics[0].encode(errors="replace") if len(topics) == 1 else b""
    if not is_valid_topic_filter(topic) or topic.startswith((b"$ws/", b"$share/")):
        raise Refused(400, "one topic filter is wanted, percent-encoded: ?topic=orders%2F%23\n")
    since = headers.get(b"last-event-id") or query.get("since", [None])[0]
    scheme, _, token = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = query.get("token", [""])[0]
    return StreamRequest(Read("", topic, since, state=True), token.strip(), headers.get(b"origin", ""))


async def admit_stream(
    asked: StreamRequest, rules: RowcastRules, gateway: Gateway, clock: Clock, now: float
) -> EventStreamDialect:
    """The machine for a stream.  Raises: Refused: its token is not good, or does not allow it."""
    grants, expires_at = rules.anonymous, NEVER
    if asked.token:
        found = await gateway.identify("rowcast", asked.token, clock)
        if not isinstance(found, Identity):
            raise Refused(401, f"the token is refused: {found.value}\n", {"WWW-Authenticate": "Bearer"})
        grants, expires_at = grants_of(found.claims, found.account), found.expires_at
    dialect = EventStreamDialect(clock, rules, now, asked.read, grants, expires_at)
    if not dialect.may_be():
        raise Refused(403 if asked.token else 401, "this may not be subscribed to\n")
    return dialect


def response_to(asked: StreamRequest) -> bytes:
    """The head of the stream."""
    if not asked.origin:
        return RESPONSE + b"\r\n"
    return RESPONSE + b"Access-Control-Allow-Origin: " + asked.origin.encode("latin-1") + b"\r\n\r\n"


class EventStreamLink(RowcastLink):
    """The broker's end of one stream."""

    def open(self) -> None:
        self._sends_frames = False
        super().open()

    def received(self, data: bytes) -> None:
        """Nothing that matters can come."""
        self.last_received = self.engine.now

    def hears_close(self, data: bytes) -> bool:
        return True

    def push(self, frames: bytes) -> None:
        if frames[:1] == b"H":
            self.outbox.push(frames)  # the response
        elif frames[0] == TEXT_FRAME:
            short = frames[1]
            self.outbox.push(events_of(frames[2 if short < 126 else 4 if short == 126 else 10 :]))


def events_of(text: bytes) -> bytes:
    """A text of the dialect as events."""
    if text.startswith(b'{"topic":'):
        return _event(text)
    members = members_of(text.decode()) or {}
    if "subscribed" not in members:
        return _other(text, members)
    events = []
    if members.get("recovered", (True, ""))[0] is False:
        events.append(
            b"event: gap\ndata: " + text + b"\n\n" if b"\n" not in text else b"event: gap\ndata: {}\n\n"
        )
    for name in ("state", "missed"):
        if name in members:
            events += [_event(one.encode()) for one in elements_of(members[name][1])]
    if "at" in members:
        events.append(b"id: " + str(members["at"][0]).encode() + b"\n\n")
    return b"".join(events)


def _event(text: bytes) -> bytes:
    members = members_of(text.decode())
    position = b""
    if members is not None and "at" in members:
        position = b"id: " + str(members["at"][0]).encode() + b"\n"
    # A payload may be JSON over several lines: each is a line of data, which the browser joins again.
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return position + b"".join([b"data: " + line + b"\n" for line in lines]) + b"\n"


def _other(text: bytes, members: dict[str, tuple[object, str]]) -> bytes:
    if "gap" in members or "skipped" in members:
        return (b"event: gap\ndata: " if "gap" in members else b"event: skipped\ndata: ") + text + b"\n\n"
    if "closing" in members:
        retry = members.get("retry_ms")
        return b"" if retry is None else b"retry: " + retry[1].encode() + b"\n\n"
    return b": still here\n\n"
