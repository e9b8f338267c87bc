"""What a channel with a state is made of: messages in an order, and at every moment one that says all.  Pure; compiled.

Invariant: whoever has `state()` and every message since, or `since(seq)` of the last that it got, knows what the
source knows.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Stream:
    """One symbol's messages of one calculator (and of one interval).

    Args:
        names: what templates may use, `symbol` and `interval` for instance.
        seq: what the message before the first would have.

    Attributes:
        seq: of the newest message; rises by one.
        prev: of the one before it.
    """

    def __init__(self, names: dict[str, str], seq: int) -> None:
        self.names = names
        self.seq = seq
        self.prev = seq

    def advance(self) -> None:
        """The next message is about to be published."""
        self.prev = self.seq
        self.seq += 1

    def state(self) -> list[bytes]:
        """What a new reader gets: it knows all then, up to `seq`.  JSON texts."""
        raise NotImplementedError

    def since(self, seq: int) -> list[bytes]:
        """What somebody needs who got every message up to `seq` and none behind it.

        It is `state()` if that was too long ago.
        """
        raise NotImplementedError


Publish = Callable[[Stream, bytes], None]
"""Takes the newest message of a stream, whose `seq` is the message's."""
