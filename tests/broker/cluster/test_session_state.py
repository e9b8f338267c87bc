"""What of a session goes to another node."""

from __future__ import annotations

from broker.cluster.session_state import are_promised, state_of
from broker.core.engine import Engine
from broker.core.promise import Promise
from broker.core.publication import Publication


def test_a_message_that_the_log_does_not_have_yet_is_not_taken_for_received() -> None:
    """Else the other node would answer its repetition with PUBREC, and nobody would have it."""
    session, _ = Engine().open_session(b"c", False)
    assert are_promised(session)
    waiting, had = (Publication(b"t", payload, 2, False, b"c") for payload in (b"1", b"2"))
    waiting.promise, had.promise = Promise(), Promise()
    waiting.promise.join()
    for packet_id, one in ((1, waiting), (2, had)):
        session.expect().accept(packet_id, one, False)
    assert not are_promised(session)
    assert [packet_id for packet_id, _ in state_of(session, b"", 0).inbound] == [2]
    waiting.promise.keep()
    assert are_promised(session)
    assert [packet_id for packet_id, _ in state_of(session, b"", 0).inbound] == [1, 2]
