"""A stream of server-sent events: what it reads, how long it lives, and when it may be no more."""

from __future__ import annotations

from protocol.dialects.base import NEVER, Clock, Close, Send
from protocol.dialects.event_stream import EventStreamDialect
from protocol.dialects.rowcast import Read, RowcastRules
from protocol.grants import Grants

READ = Read("", b"price/#")
PRICES = Grants((b"price/#",))
RULES = RowcastRules(anonymous=PRICES)


def stream(grants: Grants = PRICES, expires_at: float = NEVER) -> EventStreamDialect:
    return EventStreamDialect(Clock(0.0), RULES, 0.0, READ, grants, expires_at)


def test_it_reads_what_the_request_asked_for_if_that_is_allowed() -> None:
    assert stream().may_be()
    assert not stream(Grants((b"price/a",))).may_be()
    assert stream().open(0.0) == (READ,)  # type: ignore[comparison-overlap]


def test_it_says_that_it_is_there_and_needs_no_answer_until_its_token_expires() -> None:
    one = stream(expires_at=1000.0)
    for now in range(25, 1000, 25):
        assert one.tick(float(now)) == (Send('{"ping":1}'),)
    assert one.tick(1000.0) == (Close(3001, "the token has expired"),)


def test_one_without_a_token_ends_once_it_needs_one() -> None:
    anonymous, with_token = stream(), stream(Grants((b"#",)))
    assert anonymous.adopt_anonymous(Grants((b"#",))) == ()
    assert with_token.adopt_anonymous(Grants()) == ()
    assert anonymous.adopt_anonymous(Grants((b"orders/#",))) == (Close(1008, "this needs a token by now"),)
