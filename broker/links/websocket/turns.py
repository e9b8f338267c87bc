"""A dialect's requests by turns: a list of a thousand channels takes some ms, and one receive may bring several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.core.slicing import LEAST_STEPS, Work

if TYPE_CHECKING:
    from broker.links.websocket.dialect import DialectLink
    from protocol.websocket_reader import FrameReader

COMMAND_STEPS: Final = 8
"""What a request, and each thing that it makes the broker do, counts for; see `Slicing`."""


LONG_BYTES: Final = 256
"""What is shorter than this is done at once however much others have done in the turn."""


class NextTurn(Work):
    """Of a connection that rests until then, with more requests that have come."""

    def __init__(self, link: DialectLink) -> None:
        super().__init__()
        self._link = link

    def go_on(self, steps: int) -> int:
        """Read on; what that takes is counted by the link."""
        self.is_over = True
        self._link.go_on(self._link.engine.now)
        return 0


def must_wait(link: DialectLink, reader: FrameReader, data: bytes) -> bool:
    """Whether others have done as much as may be done in this turn, and this may be long; then it is left to the next.

    Else a round in which many send their lists would do one list of each.
    """
    if len(data) < LONG_BYTES or link.rests or link.closing or link.engine.slicing.allowance() > LEAST_STEPS:
        return False
    reader.feed(data)
    _rest(link, True)
    return True


def _rest(link: DialectLink, to_next_turn: bool) -> None:
    link.rests = True
    link.outbox.rest(True)
    if to_next_turn:
        link.engine.slicing.wait(NextTurn(link))


def rest_if_due(link: DialectLink, commands: int, has_more: bool) -> None:
    """Count a request that was so many commands; it rests where it asks too fast, or others have their turns first.

    What was charged since the request came counts, too: who gets its messages may take long to find.

    Args:
        has_more: something has come behind the request.
    """
    engine = link.engine
    slicing = engine.slicing
    slicing.used(COMMAND_STEPS * (1 + commands) + slicing.charged())
    has_had_its_turn = has_more and slicing.allowance() <= LEAST_STEPS
    if (has_had_its_turn or link.dialect.rests_until > engine.now) and not link.closing:
        _rest(link, has_had_its_turn)
