"""What a server usually answers to who publishes: told from all else without reading JSON.

Hot: compiled, and asked at every batch.

Source: docs.nats.io, "JetStream wire API", PubAck; an error stands before everything else in it.
"""

from __future__ import annotations

from protocol.nats import wire


class Usual:
    """Of one stream."""

    def __init__(self, stream: str) -> None:
        self._start = b'{"stream":"%b",' % stream.encode()

    def has_taken(self, message: wire.Message) -> bool:
        """Whether it says that what was sent is in the stream, and was not there before.

        If not, `jetstream.pub_ack` knows what it says.
        """
        payload = message.payload
        return (
            not message.block
            and payload.startswith(self._start)
            and payload.endswith(b"}")
            and payload.find(b'"seq":') > 0
            and payload.find(b'"duplicate"') < 0
            and payload.find(b'"error"') < 0
        )
