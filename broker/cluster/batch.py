"""What goes to the log together: some messages of one node, or rows of one feed, whole or not at all.

Hot: compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from broker.cluster import record
from broker.cluster.names import CLIENTS, Names
from protocol.nats import jetstream, wire

if TYPE_CHECKING:
    from broker.core.promise import Promise
    from broker.core.publication import Publication


ACK_S: Final = 3.0
"""Longest wait for an acknowledgement before a batch is sent again."""

RETRY_S: Final = 0.2

SOON_S: Final = 0.002
"""Until NATS has done with a write that it has acknowledged; then twice as long each time."""


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
        self.promise: Promise | None = None
        """Joined for the log, whose part is kept when it has this."""

    def clients(self) -> set[bytes]:
        """Who is not acknowledged something before the log has this."""
        publication = self.publication
        return {publication.client_id} if publication.client_id and publication.packet_id else set()

    def is_for_others(self, is_dead: bool) -> bool:
        """Whether its client, or another node, says a client's message again, if anybody does.

        Args:
            is_dead: so is the life of this node that had the client.
        """
        publication = self.publication
        if publication.message_id and not publication.packet_id:  # a will
            return is_dead
        return publication.packet_id > 0 or publication.retain

    def size(self) -> int:
        """Bytes that it counts for while it waits."""
        return len(self.block) + len(self.publication.payload)


def described(
    publication: Publication,
    names: Names,
    node: bytes,
    number: int,
    message_id: bytes,
    now: float,
    unix_now: float,
) -> Waiting:
    """A client's message for the log; see `record.describe`."""
    subject = names.message(CLIENTS, publication.retain, publication.topic)
    value = record.describe(publication, node, number, now, unix_now, names.is_long(subject))
    block = b"NATS/1.0\r\n%b: %b\r\n%b: %b\r\n" % (jetstream.MSG_ID, message_id, record.HEADER, value)
    return Waiting(publication, subject, block, number)


def encoded(
    batch: list[Waiting], sender: bytes, batch_number: int, reply: bytes, condition: bytes = b""
) -> bytes:
    """As it is sent.

    Args:
        sender, batch_number: name the batch; no two that are under way in a cluster have the same name.
        reply: where the acknowledgement of all of it is to come.
        condition: headers that say when it is taken.
    """
    if len(batch) == 1:
        one = batch[0]
        return wire.publish(one.subject, one.publication.payload, reply, one.block, condition + b"\r\n")
    mark = b"%b: %b.%d\r\n%b: " % (jetstream.BATCH_ID, sender, batch_number, jetstream.BATCH_SEQUENCE)
    last = len(batch)
    sent: list[bytes] = []
    for number, one in enumerate(batch, 1):
        payload = one.publication.payload
        if 1 < number < last:
            sent.append(wire.publish(one.subject, payload, b"", one.block, b"%b%d\r\n\r\n" % (mark, number)))
        elif number == 1:
            said = b"%b%b1\r\n\r\n" % (condition, mark)
            sent.append(wire.publish(one.subject, payload, b"", one.block, said))
        else:
            said = b"%b%d\r\n%b: 1\r\n\r\n" % (mark, number, jetstream.BATCH_COMMIT)
            sent.append(wire.publish(one.subject, payload, reply, one.block, said))
    return b"".join(sent)
