"""What a history remembers of messages that its ring has dropped: all above one number, or it says why not."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from broker.core.row_source import RowReader
from broker.core.traces import DIGEST_BYTES, FOREIGN, PAGE_TRACES_MAX, Traces, digest

PLACE = b"orders\0k"


class Source:
    """Finds again every row but those whose payload is `gone`."""

    def complete(self, place: bytes, payload: bytes) -> bytes:
        return b"" if payload == b"gone" else place + b"7"

    def open(self) -> AbstractAsyncContextManager[RowReader]:
        raise NotImplementedError


def of(traces: Traces, number: int) -> list[int]:
    return [one for page in traces.pages_behind(number) for one in page.numbers if one > number]


def test_a_trace_has_number_topic_digest_and_place() -> None:
    traces = Traces(10, 4, {"orders": Source()})
    traces.add(5, b"a/b", b"payload", PLACE)
    (page,) = traces.pages_behind(4)
    assert (page.numbers, page.topics) == ([5], [b"a/b"])
    assert page.marks == [digest(b"a/b", b"payload") + PLACE + b"7"]
    assert (traces.count, traces.lost_through) == (1, 4)


def test_what_no_source_has_ends_all_before_it() -> None:
    for place, payload in ((b"", b"x"), (b"other\0k", b"x"), (PLACE, b"gone")):
        traces = Traces(10, 0, {"orders": Source()})
        traces.add(1, b"t", b"x", PLACE)
        traces.add(2, b"t", payload, place)
        assert (traces.count, traces.lost_through, traces.lost_why) == (0, 2, FOREIGN)
        assert of(traces, 0) == []
        traces.add(3, b"t", b"x", PLACE)
        assert of(traces, 2) == [3]


def test_the_oldest_page_makes_room_and_its_end_is_where_the_loss_ends() -> None:
    count_max = 3 * PAGE_TRACES_MAX
    traces = Traces(count_max, 0, {"orders": Source()})
    for number in range(1, count_max + 2):
        traces.add(number, b"t", b"%d" % number, PLACE)
        assert of(traces, traces.lost_through) == list(range(traces.lost_through + 1, number + 1))
        assert traces.count == number - traces.lost_through <= count_max
    assert traces.lost_through == PAGE_TRACES_MAX
    assert traces.lost_why != FOREIGN


def test_a_saved_trace_is_the_same_afterwards() -> None:
    traces = Traces(1000, 0, {"orders": Source()})
    for number in range(1, PAGE_TRACES_MAX + 10):
        traces.add(number, "ä/b".encode(), bytes([number % 256]), PLACE + bytes([255]))
    again = Traces(1000, 0, {"orders": Source()})
    again.restore(traces.saved(), 3, "as it was")
    assert again.saved() == traces.saved()
    assert (again.count, again.lost_through, again.lost_why) == (traces.count, 3, "as it was")


def test_a_digest_knows_where_the_topic_ends() -> None:
    assert digest(b"a", b"b") != digest(b"ab", b"")
    assert len(digest(b"a", b"b")) == DIGEST_BYTES
