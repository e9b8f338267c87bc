"""How long a round that sends to many waits for what else they will be owed.

Two messages that go to a thousand clients one behind the other are two thousand sends, or a thousand of both: the sends
are nine tenths of the work.  What comes while they are made leaves with those that are still to come.  But what comes
when half of them are made leaves with one half, and comes as late the next time: whoever publishes in step with its
readers never finds the other half.  So where many are sent to again and again, the round waits before its first send,
for a small part of the time that the sends take, and no longer than until something comes.

    few are sent to, or many for the first time in a while      not at all
    nothing came for many in so many rounds                     not at all, until it has been quiet for a while

Hot: compiled.
"""

from __future__ import annotations

from typing import Final

MANY: Final = 256
"""So many are worth it."""

EACH_S: Final = 0.0000005
"""For each send, of the 2 to 3 µs that it takes."""

WAIT_S_MAX: Final = 0.0005

OFTEN_S: Final = 0.02
"""Many are sent to again and again where no more than this is between two such rounds."""

VAIN_MAX: Final = 32
"""So many rounds in which nothing comes for many, and there are no more: two halves of a thousand meet in a dozen."""


class MoreToSend:
    """One pump's experience of it."""

    def __init__(self) -> None:
        self._before = -OFTEN_S
        self._vain = 0

    def wait_s(self, sends: int, now: float) -> float:
        """For how long a round is to wait that has so many sends before it.

        Args:
            now: monotonic seconds.
        """
        if sends < MANY:
            return 0.0
        is_often = now - self._before < OFTEN_S
        self._before = now
        if not is_often:
            self._vain = 0
            return 0.0
        if self._vain >= VAIN_MAX:
            return 0.0
        return min(sends * EACH_S, WAIT_S_MAX)

    def waited(self, pieces: int) -> None:
        """How much more is owed then; an answer to somebody is nothing to have waited for."""
        self._vain = 0 if pieces >= MANY else self._vain + 1
