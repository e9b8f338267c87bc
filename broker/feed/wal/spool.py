"""Changes of transactions that have not committed yet, in temporary files.

The server streams a large transaction while it runs; nothing of it may be delivered before its commit.  Memory
stays flat: a transaction costs one file, whatever its size.  Files have no name, so nothing is left behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Final

from protocol.pgoutput import DELETE, INSERT, UPDATE

BUFFER_BYTES: Final = 64 * 1024
LENGTH_BYTES: Final = 4
_UNDONE_BY_ABORT: Final = frozenset({INSERT, UPDATE, DELETE, 0x4D, 0x54})
"""Changes of an aborted subtransaction are forgotten; descriptions of tables in it are not sent again."""


class Spool:
    """One transaction's messages in their order, without those of subtransactions that were aborted."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=BUFFER_BYTES)  # noqa: SIM115 (closed by `close`)
        self._aborted: set[int] = set()
        self.size_bytes = 0

    def add(self, data: bytes) -> None:
        """Write one message of the transaction to the file."""
        self._file.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        self.size_bytes += len(data) + LENGTH_BYTES

    def abort(self, subxid: int) -> None:
        """Leave out what this subtransaction wrote."""
        self._aborted.add(subxid)

    def messages(self) -> Iterator[bytes]:
        """Read it back from the start.  A message's bytes 1 to 4 are its subtransaction."""
        self._file.seek(0)
        buffer = self._file.read(BUFFER_BYTES)
        start = 0
        while start < len(buffer):
            message = start + LENGTH_BYTES
            end = message + int.from_bytes(buffer[start:message], "big")
            if message > len(buffer) or end > len(buffer):
                more = self._file.read(max(BUFFER_BYTES, end - len(buffer)))
                assert more, "a message is written whole"
                buffer = buffer[start:] + more
                start = 0
                continue
            start = end
            data = buffer[message:end]
            if not self._aborted or not self._is_undone(data):
                yield data
            if end == len(buffer):
                buffer = self._file.read(BUFFER_BYTES)
                start = 0

    def _is_undone(self, data: bytes) -> bool:
        return data[0] in _UNDONE_BY_ABORT and int.from_bytes(data[1:5], "big") in self._aborted

    def close(self) -> None:
        """Give up the file."""
        self._file.close()


class Spools:
    """The streamed transactions of one connection, by transaction id."""

    def __init__(self) -> None:
        self._open: dict[int, Spool] = {}

    def of(self, xid: int) -> Spool:
        """The spool of this transaction, a new one if it has none."""
        spool = self._open.get(xid)
        if spool is None:
            spool = self._open[xid] = Spool()
        return spool

    def abort(self, xid: int, subxid: int) -> None:
        """Forget a transaction, or one of its subtransactions."""
        if xid != subxid:
            self.of(xid).abort(subxid)
        elif xid in self._open:
            self._open.pop(xid).close()

    def take(self, xid: int) -> Spool:
        """The transaction has committed: its spool, which the caller closes."""
        return self._open.pop(xid, None) or Spool()

    @property
    def size_bytes(self) -> int:
        """How much is spooled altogether."""
        return sum(spool.size_bytes for spool in self._open.values())

    def close(self) -> None:
        """Give up all files."""
        for spool in self._open.values():
            spool.close()
        self._open.clear()
