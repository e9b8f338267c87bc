"""One stream of server-sent events: a link as any other of the dialect, whose texts leave as events instead of frames.

The event's id is the message's position, so that a browser's own reconnect gives it back as `Last-Event-ID`.
"""

from __future__ import annotations

from typing import Final

from broker.links.websocket.rowcast import RowcastLink
from protocol.json_members import elements_of, members_of

TEXT_FRAME: Final = 0x81


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
        is_one_line = b"\n" not in text and b"\r" not in text  # either ends a line of the stream
        events.append(b"event: gap\ndata: " + (text if is_one_line else b"{}") + b"\n\n")
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
