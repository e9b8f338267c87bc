"""One peer's WebSocket after its handshake: bytes in, messages to a subclass, frames owed.  Knows no socket.

Invariant: `closing` is set by the first close, whoever asked for it, and nothing is sent after its close frame.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from broker.core.engine import Engine
from broker.core.outbox import Outbox, nothing
from broker.core.receiver import Receiver
from broker.links.barrier import barrier
from protocol.dialects.base import Meter
from protocol.websocket import CloseCode, close_frame, pong_frame
from protocol.websocket_reader import (
    Binary,
    Event,
    FrameReader,
    PeerClose,
    Ping,
    Pong,
    Text,
    WebSocketError,
)

logger = logging.getLogger("broker.links")

CONTROL_FRAMES_PER_S_MAX: Final = 50
"""Pings and pongs.  Browsers send none of their own, libraries one in seconds; each ping costs us a pong."""

KERNEL_SEND_BYTES: Final = 128 * 1024
"""What the kernel may hold for one dialect client (Linux doubles it).  Left to itself it takes megabytes, in which
a client that doesn't read would hide, and market data grow old."""

LOST: Final = 1006
"""Stands for the end of a connection without a close frame (RFC 6455 §7.1.5); never sent."""


class WebSocketLink(Receiver):
    """The broker's end of one WebSocket; a receiver, so that a dialect's link is one object.

    Args:
        engine: the broker.
        outbox: the bytes owed to this peer; everything pushed into it is whole frames.
        reader: what its bytes go through.
        peer: for log lines.

    Attributes:
        on_close: asks the shell to send what is owed and to hang up; called once.
        on_pause: tells the shell that `waits` has changed: read no more, or go on.
    """

    def __init__(self, engine: Engine, outbox: Outbox, reader: FrameReader, peer: str) -> None:
        super().__init__(plain=False)
        self.engine = engine
        self.outbox = outbox
        self.peer = peer
        self.last_received = engine.now
        self.closing = 0
        """The close code that was sent, or LOST; 0 while the connection is open."""
        self.close_reason = ""
        """Ours; a peer's own may be any text."""
        self.heard_close = False
        """Nothing that matters can come any more: the peer's close frame has come, or what came was broken."""
        self.waits = False
        """An answer from elsewhere has to come before anything else is read."""
        self.rests = False
        """It asked too much for now: nothing more is read until it may go on."""
        self.departed = False
        """The peer has gone, and what it sent before is still to be looked at."""
        self.on_close: Callable[[], None] = nothing
        self.on_pause: Callable[[], None] = nothing
        self._reader = reader
        self._control_frames: Meter | None = None

    # --- for a subclass ------------------------------------------------------------------------------------

    def open(self) -> None:
        """The handshake is complete, and its answer owed."""
        raise NotImplementedError

    def text(self, text: str) -> None:
        """A text message came."""
        raise NotImplementedError

    def binary(self, data: bytes) -> None:
        """A binary message came, or a piece of one."""
        raise NotImplementedError

    def last_words(self, code: int) -> list[bytes]:
        """Frames to send ahead of our close frame with this code."""
        return []

    def ended(self) -> None:
        """The connection is over, `closing` says why; the shell calls this, once, when nothing is being delivered."""
        raise NotImplementedError

    def push(self, frames: bytes) -> None:
        """Owe the peer whole frames."""
        self.outbox.push(frames)

    def wait(self) -> None:
        """Read no more until `resume`."""
        self.waits = True
        self.on_pause()

    def resume(self) -> None:
        """What was waited for has come."""
        if self.waits:
            self.waits = False
            self.read_on()
            if not self.waits:
                self.on_pause()

    # --- what the shell calls ------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes came, any number of frames or pieces of them.  Never raises for what a peer sends."""
        if not self.heard_close:
            self._reader.feed(data)
            self.read_on()

    def read_on(self) -> None:
        """Handle what has come, up to where an answer has to be waited for."""
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            self._read_on()
        if self.departed and not self.waits and not self.rests:
            self.lost()

    def hears_close(self, data: bytes) -> bool:
        """Whether the peer, too, has said goodbye; takes what it sends after ours, or nothing to begin with."""
        self.received(data)
        return self.heard_close

    def leaves_something(self) -> bool:
        """Whether the peer, which has gone, sent something before that has to wait."""
        return (self.waits or self.rests) and not self.closing and self._reader.has_more()

    def lost(self) -> None:
        """The peer has gone without a goodbye, and all that it sent has been looked at."""
        self.heard_close = True
        if not self.closing:
            self._end(LOST)

    def close(self, code: int, reason: str) -> None:
        """Close with this code, once what is owed already has been sent."""
        if self.closing:
            return
        with barrier(self.engine.counters, self.peer):
            for frames in self.last_words(code):
                self.push(frames)
        self.close_reason = reason
        self.push(close_frame(code, reason))
        self._end(code)

    def close_for_a_bug(self) -> None:
        """A bug of ours ends this connection, and is no matter of whoever publishes or ticks."""
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    # --- reading -------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        try:
            while not self.waits and not self.rests and not self.heard_close:
                event = self._reader.next_event()
                if event is None:
                    return
                self.last_received = self.engine.now  # a frame, not a piece of one
                if not self.closing:
                    self._handle(event)
                elif isinstance(event, PeerClose):
                    self.heard_close = True
        except WebSocketError as error:
            self.heard_close = True
            self.close(error.code, error.reason)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Text):
            self.text(event.text)
        elif isinstance(event, Binary):
            self.binary(event.data)
        elif isinstance(event, Ping):
            self._answer(event.payload)
        elif isinstance(event, Pong):
            self._count_control_frame()
        elif isinstance(event, PeerClose):
            self.heard_close = True
            # RFC 6455 §5.5.1: the answer echoes the code.
            self.push(close_frame(event.code, event.reason))
            self._end(event.code)

    def _answer(self, payload: bytes) -> None:
        self._count_control_frame()
        # Not as an answer of the link that is carried: a pong is a frame already.
        frame = pong_frame(payload)
        self.outbox.answer_bytes += len(frame)
        self.push(frame)

    def _count_control_frame(self) -> None:
        now = self.engine.now
        if self._control_frames is None:
            self._control_frames = Meter(CONTROL_FRAMES_PER_S_MAX, now)
        if not self._control_frames.allows(now):
            raise WebSocketError(
                CloseCode.POLICY_VIOLATION, f"more than {CONTROL_FRAMES_PER_S_MAX} pings and pongs a second"
            )

    def _end(self, code: int) -> None:
        self.closing = code
        self.waits = False
        if self.rests:
            self.rests = False
            self.outbox.rest(False)
        on_close = self.on_close
        self.on_close = nothing
        self.on_pause = nothing
        on_close()
