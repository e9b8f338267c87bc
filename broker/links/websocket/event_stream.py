"""Server-sent events: one topic filter of the dialect `rowcast`, to read only, for whoever's proxy knows no WebSocket.

What is asked for, and the answer's head; `event_stream_link` is the connection from then on.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

import h11
from attrs import frozen

from broker.gateway.gateway import Gateway
from broker.links.websocket.handshake import HandshakeRefused
from protocol.dialects.base import NEVER, Clock, Identity
from protocol.dialects.event_stream import EventStreamDialect
from protocol.dialects.rowcast import Read, RowcastRules
from protocol.grants import grants_of
from protocol.mqtt.reserved import CHANNEL_PREFIX, SHARE_PREFIX
from protocol.mqtt.topics import is_valid_topic_filter

RESPONSE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n"
    b"X-Accel-Buffering: no\r\n"
)

NOT_ALLOWED: Final = "this may not be subscribed to\n"


@frozen
class StreamRequest:
    """What was asked: the subscription, the token that was shown, where the page comes from, and by whom."""

    read: Read
    token: str
    origin: str
    forwarded_for: str


def stream_request(head: bytes, path: str) -> StreamRequest | None:
    """The request for a stream below `path`; None if it is another.

    Raises:
        HandshakeRefused: it is one, and wrong.
    """
    target = head.split(b" ", 2)[1:2]
    if not head.startswith(b"GET ") or target[0].split(b"?")[0] != path.encode() + b"/sse":
        return None
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HandshakeRefused(400, f"not a valid HTTP request: {error}") from None
    assert isinstance(request, h11.Request)
    headers: dict[bytes, str] = {}
    for name, value in request.headers:
        line = value.decode("latin-1")
        headers[name] = f"{headers[name]},{line}" if name in headers else line  # each proxy may add its own
    query = parse_qs(urlsplit(request.target.decode("latin-1")).query)
    topics = query.get("topic", [])
    topic = topics[0].encode(errors="replace") if len(topics) == 1 else b""
    if not is_valid_topic_filter(topic) or topic.startswith((CHANNEL_PREFIX, SHARE_PREFIX)):
        raise HandshakeRefused(400, "one topic filter is wanted, percent-encoded: ?topic=orders%2F%23\n")
    since = headers.get(b"last-event-id") or query.get("since", [None])[0]
    scheme, _, token = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = query.get("token", [""])[0]
    return StreamRequest(
        Read("", topic, since, state=True),
        token.strip(),
        headers.get(b"origin", ""),
        headers.get(b"x-forwarded-for", ""),
    )


async def admit_stream(
    asked: StreamRequest, rules: RowcastRules, gateway: Gateway, clock: Clock, now: float
) -> EventStreamDialect:
    """The machine for a stream.  Raises: HandshakeRefused: its token is not good, or does not allow it."""
    grants, expires_at = rules.anonymous, NEVER
    if asked.token:
        found = await gateway.identify("rowcast", asked.token, clock)
        if not isinstance(found, Identity):
            raise HandshakeRefused(
                401, f"the token is refused: {found.value}\n", {"WWW-Authenticate": "Bearer"}
            )
        grants, expires_at = grants_of(found.claims, found.account), found.expires_at
    dialect = EventStreamDialect(clock, rules, now, asked.read, grants, expires_at)
    if not dialect.may_be():
        raise HandshakeRefused(403 if asked.token else 401, NOT_ALLOWED)
    return dialect


def response_to(asked: StreamRequest) -> bytes:
    """The head of the stream."""
    if not asked.origin:
        return RESPONSE + b"\r\n"
    return RESPONSE + b"Access-Control-Allow-Origin: " + asked.origin.encode("latin-1") + b"\r\n\r\n"
