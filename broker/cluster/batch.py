"""What goes to the log together: some messages of one node, or rows of one feed, whole or not at all.

Hot: compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from protocol.nats import jetstream, wire

if TYPE_CHECKING:
    from broker.core.publication import Publication


def new_sender() -> bytes:
    """A name that nobody else has."""
    return uuid4().hex[:16].encode()


class Waiting:
    """One message on its way to the log."""

    def __init__(self, publication: Publication, subject: bytes, block: bytes, number: int) -> None:
        self.publication = publication
        self.subject = subject
        self.block = block
        """Its headers without the empty line at their end."""
        self.number = number

    def clients(self) -> set[bytes]:
        """Who is not acknowledged something before the log has this."""
        publication = self.publication
        return {publication.client_id} if publication.client_id and publication.packet_id else set()

    def size(self) -> int:
        """Bytes that it counts for while it waits."""
        return len(self.block) + len(self.publication.payload)


def encoded(batch: list[Waiting], sender: bytes, batch_number: int, reply: bytes) -> bytes:
    """As it is sent.

    Args:
        sender, batch_number: name the batch; no two that are under way in a cluster have the same name.
        reply: where the acknowledgement of all of it is to come.
    """
    if len(batch) == 1:
        one = batch[0]
        return wire.publish(one.subject, one.publication.payload, reply, one.block + b"\r\n")
    mark = b"%b: %b.%d\r\n%b: " % (jetstream.BATCH_ID, sender, batch_number, jetstream.BATCH_SEQUENCE)
    last = len(batch)
    sent: list[bytes] = []
    for number, one in enumerate(batch, 1):
        block = b"%b%b%d\r\n" % (one.block, mark, number)
        if number < last:
            sent.append(wire.publish(one.subject, one.publication.payload, b"", block + b"\r\n"))
        else:
            block = b"%b%b: 1\r\n\r\n" % (block, jetstream.BATCH_COMMIT)
            sent.append(wire.publish(one.subject, one.publication.payload, reply, block))
    return b"".join(sent)
