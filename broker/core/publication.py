"""One outgoing message with every encoding that any receiver may want, each made at most once.

MQTT encodings come from `Message`; a WebSocket frame is kept under the name that those give it who all
send the same one: `RUN`, and `FRAME` and `POSITIONED` of `broker.links.websocket`.
"""

from __future__ import annotations

from typing import Final

from broker.core.parts import Part
from broker.core.promise import Promise
from protocol.mqtt.message import Message

RUN: Final = "run"
"""The name, at the first one of a run, of the frames of all of it; see `Receiver.deliver_run`."""


class Publication(Message):
    """A message on its way to all its receivers.

    Args:
        topic, payload, qos, retain: as `Message`.
        client_id: of its publisher; b"" for the feed, the broker itself and the embedding program.
        user_name: of its publisher, for `check_retain_source`.
        listener_port: where its publisher is connected, for `check_retain_source` with per-listener rules.
    """

    def __init__(
        self,
        topic: bytes,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        client_id: bytes = b"",
        user_name: bytes | None = None,
        listener_port: int = 0,
    ) -> None:
        super().__init__(topic, payload, qos, retain)
        self.client_id = client_id
        self.user_name = user_name
        self.listener_port = listener_port
        self.frames: dict[str, bytes] | None = None
        self.number = 0
        """Where a file has this message; 0 is not yet.  For whoever writes that file alone."""
        self.stored_as = 0
        """Its number among all that were retained; 0 was not."""
        self.live = 0
        """If retained: `Replaying.live` when it, or a message after it on its topic, was handed on."""
        self.sequence = 0
        """Its place in the order of all publications, once somebody asked; see `broker.core.history`."""
        self.part: Part | None = None
        """What it is the newest message of, on a topic with a state."""
        self.promise: Promise | None = None
        """What its acknowledgement waits for, if anything."""
        self.packet_id = 0
        """Under which its publisher sent it, at QoS 1 and 2."""
        self.message_id = b""
        """By which a log knows it again, where that is not made from its packet id."""
        self.dup = False
        """Its publisher may have sent it before."""
        self.is_requested = client_id != b""
        """Somebody published it, rather than a feed or the broker itself: tables take it."""
        self.is_ingested = False
        """Tables have been offered it already: at QoS 2 that is before its PUBREC."""

    def request(self) -> None:
        """Somebody has it published who is not a client, and is answered when what it is promised is kept."""
        self.is_requested = True
        if self.qos > 0:
            self.promise = Promise()  # who has to keep it joins

    def join_promise(self) -> Promise:
        """One more has to keep the promise of it, which is made if there is none."""
        promise = self.promise
        if promise is None:
            promise = self.promise = Promise()
        promise.join()
        return promise

    def frame(self, name: str) -> bytes | None:
        """The WebSocket frame of this name, if some receiver had it made already."""
        frames = self.frames
        return None if frames is None else frames.get(name)

    def keep_frame(self, name: str, frame: bytes) -> None:
        """Keep a frame for all others who send the same one."""
        if self.frames is None:
            self.frames = {}
        self.frames[name] = frame

    def forget_frame(self, name: str) -> None:
        """Nobody else sends it."""
        frames = self.frames
        if frames is not None and name in frames:
            del frames[name]
