"""What the log is told of QoS 2 that has ended here: packet ids whose PUBREL came, of many clients in one message.

Without it nobody could tell, after a crash of this node, whether a client that repeats a PUBLISH means the message that
the log has under that packet id, or uses the id again for another one that says the same.  So PUBCOMP waits for it.

The payload is `message_ids.prefix_for` of each, a line each.  What stands before it in the log under such an id has
ended; what stands behind it has not.

Hot: compiled.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from broker.cluster.batch import Waiting
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.ingest.message_ids import prefix_for

BYTES_MAX: Final = 4096
"""Of one message, or one packet id of a client whose name is longer; there may be more in a batch."""


class Finished(Waiting):
    """One message, which grows until it is sent."""

    def __init__(self, subject: bytes, block: bytes, number: int) -> None:
        super().__init__(Publication(subject, b""), subject, block, number)
        self._clients: set[bytes] = set()
        self._promises: list[Promise] = []
        self.promise = Promise()
        self.promise.join()
        self.promise.on_kept = self._keep

    def add(self, client_id: bytes, packet_id: int) -> Promise:
        """One more; what its PUBCOMP waits for."""
        line = prefix_for(client_id, packet_id).encode() + b"\n"
        self.publication.payload += line
        self._clients.add(client_id)
        promise = Promise()
        promise.join()
        self._promises.append(promise)
        return promise

    def clients(self) -> set[bytes]:
        """As `Waiting.clients`."""
        return self._clients

    def leave_out(self, client_ids: Set[bytes]) -> bool:
        """These clients say it again, elsewhere; whether anything is left."""
        gone = {prefix_for(one, 0).partition(":")[0].encode() for one in self._clients & client_ids}
        if gone:
            self._clients -= client_ids
            lines = self.publication.payload.splitlines(keepends=True)
            self.publication.payload = b"".join([one for one in lines if one.partition(b":")[0] not in gone])
        return bool(self._clients)

    def is_full(self) -> bool:
        """Whether the next packet id goes into another message."""
        return len(self.publication.payload) >= BYTES_MAX

    def _keep(self) -> None:
        for promise in self._promises:
            promise.keep()


def lines(payload: bytes) -> set[bytes]:
    """The packet ids that a message tells of."""
    return set(payload.split(b"\n"))
