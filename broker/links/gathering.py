"""When many are sent to who have yet to acknowledge what they had before: whether to wait for their publisher's next.

A publisher with two groups of messages under way sends the next group when all have read the oldest.  So whoever is
sent to at once reads one group while the other is on its way, and each group is one send and one receive for each of
them: nearly all of the work.  Those who have not acknowledged are busy still; what comes when they are through could
as well leave with what has come by now, in half of the sends.  So before such a round's sends the pump waits for a
moment for those who publish to so many.  A few are sent to before: who reads one after the other begins with them.

Where that had both meet, all are sent to in one go, then all are heard once, whose acknowledgements have gathered; and
from then on only those who publish, until one of them does.

    receivers have acknowledged all they had before      not at all
    few are sent to, or seldom                           not at all
    somebody else publishes meanwhile, to few            not at all for so many rounds
    it was in vain again and again                       not at all for so many rounds
    their windows have no room for the next              not at all

Hot: compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.core.outbox import Outbox, Round
from broker.links.readiness import READABLE, Readiness

MANY: Final = 32
"""More than so many are worth it."""

EACH_S: Final = 0.00001
"""For each of them: about as long as a send and a receive take both ends."""

WAIT_S_MAX: Final = 0.001

OFTEN: Final = 5
"""No more than so many times the wait is between two such rounds; else the sends are not what takes long."""

VAIN_MAX: Final = 4
"""So many waits in vain, one after the other, and there are no more for `REST` rounds."""

REST: Final = 256
"""Rounds that send to many; then it is tried once more."""

PUBLISHERS_MAX: Final = 4
"""So many are waited for, those who published to many last."""

SAMPLES: Final = 4
"""So many of the receivers are looked at, and have to be behind."""

AHEAD: Final = 16
"""So many are sent to before the wait.  They get the next ones by a send of their own."""

AT_ONCE: Final = 128
"""So many are sent to before others are heard, where both met; 0.3 ms."""

PIECES: Final = 3
"""That a message at QoS 1 is in an outbox."""


class Gathering:
    """One pump's experience of it.

    Args:
        round: the outboxes that are to be sent to.
        ready: the pump's, which tells who has something to say.
        is_read: whether something may be received from this descriptor now; its publisher may be held up.
    """

    def __init__(self, round: Round, ready: Readiness, is_read: Callable[[int], bool]) -> None:
        self.publishers: list[int] = []
        """Descriptors of those who have published to many, the last one last."""
        self.is_choosy = False
        """It is `next_to_hear` that says who is heard next."""
        self._have_met = False
        """What came before the last sends to many left with what they were owed."""
        self._have_been_heard = False
        self._round = round
        self._ready = ready
        self._is_read = is_read
        self._others_publish = False
        self._before = -OFTEN * WAIT_S_MAX
        self._wait_s = 0.0
        self._vain = 0
        self._rests = 0
        self._each = 0
        """Messages that each was sent when they were in step last."""

    def published(self, fd: int, count: int) -> None:
        """What was received from this descriptor has become so many messages."""
        if count <= MANY:
            self._others_publish = True
        elif not self.publishers or self.publishers[-1] != fd:
            self.forget(fd)
            self.publishers.append(fd)
            if len(self.publishers) > PUBLISHERS_MAX:
                del self.publishers[0]

    def forget(self, fd: int) -> None:
        """It is another's from now on."""
        if fd in self.publishers:
            self.publishers.remove(fd)

    def is_worth_waiting(self, now: float) -> bool:
        """Whether to wait for those who publish before the first send of a round to many.

        Args:
            now: monotonic seconds.
        """
        self._wait_s = min(self._round.waiting() * EACH_S, WAIT_S_MAX)
        is_often = now - self._before < OFTEN * self._wait_s
        self._before = now
        had_met = self._have_met
        self._have_met = self.is_choosy = False
        if self._others_publish:
            self._others_publish = False
            self._rests = REST
        if self._rests > 0:
            self._rests -= 1
            return False
        if not is_often or not self.publishers:
            return False
        if not had_met:
            return self._are_behind()
        if self._owed(self._round.at(0)) < self._each:
            return True
        self._meet()  # all of it has come at once
        return False

    def next_to_hear(self, count_max: int) -> list[tuple[int, int]]:
        """After the sends with which all have met: once everybody, then only those who publish; as `poll` tells it."""
        if not self._have_been_heard:
            self._have_been_heard = True
            ready = self._ready.poll(0, count_max)
            if ready:
                return ready
        self.is_choosy = False
        return self.hear()

    def hear(self) -> list[tuple[int, int]]:
        """Who of those that publish has something to say within a moment; all others wait."""
        read = [fd for fd in self.publishers if self._is_read(fd)]
        if not read:
            return []  # all have gone, or are held up
        return [(fd, READABLE) for fd in self._ready.among(read, self._wait_s)]

    def waited(self, count: int) -> None:
        """So many messages came then."""
        if count > MANY:
            self._vain = 0
            self._meet()
            self._each = self._owed(self._round.at(0))
            return
        self._vain += 1
        if self._vain >= VAIN_MAX:
            self._vain = VAIN_MAX - 1
            self._rests = REST

    def _meet(self) -> None:
        self._have_met = self.is_choosy = True
        self._have_been_heard = False

    def _are_behind(self) -> bool:
        """Whether those who are to be sent to have something else to acknowledge, and take as much again."""
        waiting = self._round.waiting()
        for number in range(SAMPLES):
            outbox = self._round.at(number * waiting // SAMPLES)
            owed = self._owed(outbox)
            if owed == 0 or not outbox.shell.is_behind(owed):
                return False
        return True

    def _owed(self, outbox: Outbox) -> int:
        return outbox.pieces() // PIECES
