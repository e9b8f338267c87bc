"""What members of groups were given and have not acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.mqtt.outbound import AWAIT_PUBCOMP

if TYPE_CHECKING:
    from broker.core.session import Session


class Unfinished:
    """A message that a member was given."""

    def __init__(self, session: Session, sequence: int, reply: bytes, now: float) -> None:
        self.session = session
        self.sequence = sequence
        self.reply = reply
        self.told_at = now


def owed_to(session: Session) -> set[int]:
    """Places in the log of what a session has not acknowledged."""
    outbound = session.outbound
    messages = [entry.message for entry in outbound.inflight()]
    messages += [waiting.message for waiting in outbound.queued()]
    return {getattr(message, "sequence", 0) for message in messages}


def received_by(session: Session) -> set[int]:
    """Of QoS 2, those that the client has said it has."""
    return {
        getattr(entry.message, "sequence", 0)
        for entry in session.outbound.inflight()
        if entry.state == AWAIT_PUBCOMP
    }
