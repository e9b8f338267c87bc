"""Parts of open transactions on disk."""

from __future__ import annotations

from broker.feed.wal.spool import Spools

ROW, RELATION = b"I", b"R"


def message(kind: bytes, subxid: int, text: bytes = b"") -> bytes:
    return kind + subxid.to_bytes(4, "big") + text


def test_messages_come_back_in_their_order() -> None:
    spools = Spools()
    wanted = [message(ROW, 7, b"x" * length) for length in (0, 1, 100_000)]
    for data in wanted:
        spools.of(7).add(data)
    spools.of(8).add(message(ROW, 8))
    assert list(spools.take(7).messages()) == wanted
    assert spools.size_bytes == 9


def test_changes_of_aborted_subtransactions_are_left_out_but_not_their_tables() -> None:
    spools = Spools()
    spools.of(7).add(message(ROW, 7))
    spools.of(7).add(message(RELATION, 9))
    spools.of(7).add(message(ROW, 9))
    spools.abort(7, 9)
    assert list(spools.take(7).messages()) == [message(ROW, 7), message(RELATION, 9)]


def test_aborted_transaction_is_forgotten() -> None:
    spools = Spools()
    spools.of(7).add(message(ROW, 7))
    spools.abort(7, 7)
    assert spools.size_bytes == 0
    assert list(spools.take(7).messages()) == []
    spools.abort(99, 99)
