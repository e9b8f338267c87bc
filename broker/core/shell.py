"""Who owns the socket behind an outbox."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

ASK_AGAIN: Final = -1
"""See `Shell.hear_out`."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Shell:
    """Who owns the socket of an outbox, and is told what the outbox cannot see to.  This one does nothing.

    One object that has methods: a callback for each of them would be an object for each connection.
    """

    def blocked(self) -> None:
        """The kernel takes no more, or, where a task does the sending, there is something to take.  Once each time."""

    def broken(self) -> None:
        """A send failed; what the peer has sent is still to be read.  Once."""

    def failed(self, error: Exception) -> None:
        """A bug of ours met it, which ends the connection and nobody else's.  Raises `error` if others need it."""

    def look_again(self) -> None:
        """`Outbox.holds_reading` or `hears_end` has changed."""

    def hear_out(self) -> int:
        """Take what its peer has sent by now, because another connection takes its place.

        Returns:
            0 if that was all, so many bytes if there may be more, `ASK_AGAIN` if it is not known before the next turn.
        """
        return 0

    def is_behind(self, owed: int) -> bool:
        """Whether its peer has yet to acknowledge more than these messages, which wait for the next send.

        Only one whose window takes as many again.
        """
        return False

    def end_soon(self) -> None:
        """The connection is over: send once more what is owed, and close it."""


NOBODY: Final = Shell()
"""Where nobody is interested any more."""
