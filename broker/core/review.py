"""Rules have changed: what each client may do is decided again, a little at a time, and before it acts or gets more.

Invariant: a session whose `edition` is that of its review goes by the rules in force; any other is asked about before
its rights are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from broker.core.slicing import Work

if TYPE_CHECKING:
    from broker.core.engine import Engine
    from broker.core.session import Session

LOOK_STEPS: Final = 2
"""What it counts for that one session is looked at; see `Slicing`."""

DISMISS_STEPS: Final = 16
"""What a connection that ends counts for, beside those who get its will."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Judge:
    """Whoever knows the rules in force."""

    def decide(self, session: Session) -> bool:
        """Tell a session what it may do by now; False if its client may not even stay: it may do nothing then."""
        raise NotImplementedError

    def dismiss(self, session: Session) -> None:
        """End the connection of a client that may not stay."""
        raise NotImplementedError


class Review:
    """Which rules the sessions of one engine go by.

    Attributes:
        edition: counts up when the rules change.
        judge: whoever decides; without one nothing is forbidden but what a session was told.
        is_awaited: other rules are being read: whoever comes is decided about by those.
        may_wait: whoever comes may have to wait for others who do; if not, only for what takes long about itself.
    """

    def __init__(self) -> None:
        self.edition = 0
        self.is_awaited = False
        self.may_wait = True
        self.judge: Judge | None = None

    def renew(self, session: Session) -> None:
        """Let a session go by the rules in force, from now on.  Ends no connection, so it may be called anywhere."""
        judge = self.judge
        if judge is None or judge.decide(session):
            session.edition = self.edition

    def look_at(self, session: Session) -> bool:
        """As `renew`, and end the connection of a client that may not stay; False if that was so."""
        if session.edition == self.edition:
            return True
        self.renew(session)
        judge = self.judge
        if judge is None or session.edition == self.edition:
            return True
        judge.dismiss(session)
        self.renew(session)
        return False


class Reviewing(Work):
    """The rules are others: every session is looked at, unless they become others once more."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        engine.review.edition += 1
        engine.books.asks_all = True
        self._engine = engine
        self._edition = engine.review.edition
        self._sessions = list(reversed(engine.sessions.values()))  # taken from its end: the oldest first

    def go_on(self, steps: int) -> int:
        engine = self._engine
        review = engine.review
        if review.edition != self._edition:
            self.is_over = True
            return 0
        sessions = self._sessions
        counters = engine.counters
        used = 0
        while sessions and used < steps:
            session = sessions.pop()
            sent = counters.publishes_sent
            used += LOOK_STEPS
            if not session.has_ended and not review.look_at(session):
                used += DISMISS_STEPS + counters.publishes_sent - sent
        if not sessions:
            engine.books.asks_all = False
            self.is_over = True
        return used


class Settling(Work):
    """What decides who takes raw packets has changed: every session is asked."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._sessions = list(engine.sessions.values())

    def go_on(self, steps: int) -> int:
        sessions = self._sessions
        used = 0
        while sessions and used < steps:
            session = sessions.pop()
            if not session.has_ended:
                used += self._engine.settle_plain(session)
            used += 1
        self.is_over = not sessions
        return used
