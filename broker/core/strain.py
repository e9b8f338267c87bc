"""What is known of a peer that has much before it to read, and how long whoever publishes waits for it.

Hot: compiled with the outboxes, which keep it.
"""

from __future__ import annotations

from typing import Final

EASED_BYTES: Final = 32 * 1024
"""An outbox that is owed less is not waited for."""

READS_WITHIN_S: Final = 3.0
"""Who takes nothing for so long is not waited for, until it has caught up."""

READS_AGAIN_WITHIN_S: Final = 5.0
"""The same for who has been seen to read.  The kernel lets the sender know of a reader in steps as large as its buffer,
and a busy one that reads 300 kB/s needs seconds for a step."""

SLICE_BYTES: Final = 64 * 1024
"""So much more is given to who is being waited for before it is waited for again."""


class Strain:
    """What is known of an outbox whose reader has much before it."""

    def __init__(self) -> None:
        self.pending_bytes = 0
        """At the last look at which it was less."""
        self.since = 0.0
        """When that was; 0 before the first look."""
        self.patience_s = READS_WITHIN_S
        self.due_bytes = 0
        """Owed so much, it is to be waited for."""
