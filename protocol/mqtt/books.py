"""What the sessions of one broker keep together: the messages, and that something of them has changed.  Sans-IO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.mqtt.message import Message, MessageStore

UNSAVED_MAX: Final = 100_000
"""Client ids remembered as changed between two saves; where there are more, the next one looks at all."""


class Books:
    """Shared by all sessions; each works alone where nobody shares them."""

    def __init__(self) -> None:
        self.store = MessageStore()
        """Told about every message that is kept."""
        self.clock: Callable[[], float] | None = None
        """The broker's, for messages that expire; without one none does."""
        self.on_discarded: Callable[[int], None] | None = None
        """Told of what a queue lost: `TOO_LARGE` for its client, `EXPIRED` or `FORBIDDEN`."""
        self.may_get: Callable[[bytes, bytes], bool] | None = None
        """Whether a client, by its id, may get a message of a topic; asked where `Outbound.guarded` is set."""
        self.asks_all = False
        """It is asked for every client: rules have changed, and some do not know yet that they have any."""
        self.on_more: Callable[[bytes], None] | None = None
        """Told of a client for whom `Outbound.go_on` has to be called, in a later turn; without it all goes at once."""
        self.changes = 0
        """Counts up with every change of what a durable client is owed, so that a saver can tell."""
        self.last_position = 0
        """`Queued.position` of the message that was queued last."""
        self.unsaved: set[bytes] | None = None
        """Client ids of the durable sessions that changed since a snapshot began; None where nobody remembers."""

    def now(self) -> float:
        """The owner's clock in seconds; 0.0 without one."""
        clock = self.clock
        return 0.0 if clock is None else clock()

    def now_for(self, message: Message) -> float:
        """`now`, where it matters to how this message is written: it expires; otherwise 0.0, and nobody is asked."""
        return self.now() if message.expires_at != 0.0 else 0.0

    def discarded(self, why: int) -> None:
        """Tell the owner that a message is given up, and why."""
        on_discarded = self.on_discarded
        if on_discarded is not None:
            on_discarded(why)

    def next_position(self) -> int:
        """For a message that is put into a queue."""
        self.last_position += 1
        return self.last_position

    def note_unsaved(self, client_id: bytes) -> None:
        """Something of this client's session changed."""
        unsaved = self.unsaved
        if unsaved is not None:
            unsaved.add(client_id)
            if len(unsaved) > UNSAVED_MAX:
                self.unsaved = None
