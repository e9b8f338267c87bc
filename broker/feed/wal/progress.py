"""Where a feed stands: what was delivered, what may be acknowledged, what comes again and must be skipped.  Pure.

A server that loses its connection to us sends again from what it had been told to forget.  Within one process
nothing is delivered twice all the same: transactions are skipped up to the last one delivered whole, and of the
one that was cut, as many changes as were delivered.  Decoding is deterministic, so a change's place in its
transaction names it.

Invariant: `safe_lsn` never covers a change that was not handed to the outlet.
"""

from __future__ import annotations

from protocol.pgoutput import lsn_text


class Progress:
    """Delivery of one slot's transactions, kept across connections and lost with the process.

    Attributes:
        commit_lsn: of the last transaction delivered whole.
        open_lsn: where the transaction committed whose changes are coming; 0 between transactions.
        partial: the last transaction of which changes were delivered, by its commit_lsn, and how many.
        safe_lsn: everything before it was handed to the outlet; what may be acknowledged once that is durable.
    """

    def __init__(self) -> None:
        self.commit_lsn = 0
        self.safe_lsn = 0
        self.partial = (0, 0)
        self.open_lsn = 0
        self._changes = 0
        self._skip = 0
        self._skip_all = False

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has begun whose COMMIT has not come."""
        return self.open_lsn != 0

    @property
    def count(self) -> int:
        """Changes of the open transaction that `is_new` has counted."""
        return self._changes

    @property
    def is_skipping(self) -> bool:
        """Whether the next change is known already, so that `is_new` will say no."""
        return self._skip_all or self._changes < self._skip

    @property
    def place(self) -> tuple[int, int]:
        """The last transaction of which anything was delivered, and of how many changes; 0 is all of them."""
        return self.partial if self.partial[0] > self.commit_lsn else (self.commit_lsn, 0)

    @property
    def here(self) -> bytes:
        """The change that `is_new` counted last: its transaction's position, and its number there, from 1."""
        return f"{lsn_text(self.open_lsn)}/{self._changes}".encode()

    @property
    def next_here(self) -> bytes:
        """What `here` will be when the next change is counted."""
        return f"{lsn_text(self.open_lsn)}/{self._changes + 1}".encode()

    def resume(self, commit_lsn: int, changes: int) -> None:
        """Go on behind the `place` where an earlier process was stopped."""
        if changes:
            self.partial = (commit_lsn, changes)
            self.commit_lsn = commit_lsn - 1
        else:
            self.commit_lsn = commit_lsn

    def connected(self) -> None:
        """A new connection: the transaction that was open, if any, comes again from its start."""
        self.open_lsn = 0

    def begin(self, commit_lsn: int) -> None:
        """A transaction's changes follow; it committed at `commit_lsn`."""
        self.open_lsn = commit_lsn
        self._changes = 0
        self._skip_all = commit_lsn <= self.commit_lsn
        self._skip = self.partial[1] if commit_lsn == self.partial[0] else 0

    def is_new(self) -> bool:
        """Count the next change; whether it has to be delivered."""
        self._changes += 1
        if self._skip_all or self._changes <= self._skip:
            return False
        self.partial = (self.open_lsn, self._changes)
        return True

    def commit(self, end_lsn: int) -> bool:
        """The open transaction is complete.  Whether it was delivered now, not skipped as known."""
        delivered = not self._skip_all
        self.commit_lsn = max(self.commit_lsn, self.open_lsn)
        self.safe_lsn = max(self.safe_lsn, end_lsn)
        self.open_lsn = 0
        return delivered

    def idle_until(self, wal_end: int) -> None:
        """The server has sent everything up to `wal_end`, between two transactions."""
        self.safe_lsn = max(self.safe_lsn, wal_end)
