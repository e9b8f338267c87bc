"""Lines are the same however their bytes come, and one that is too long costs itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.marketdata.intake.lines import Lines

MAX = 5
line = st.binary(max_size=8).map(lambda data: data.replace(b"\n", b"x"))


@given(st.lists(line, max_size=8), st.booleans(), st.data())
def test_pieces_make_the_same_lines_as_the_whole(
    written: list[bytes], is_ended: bool, data: st.DataObject
) -> None:
    text = b"\n".join(written) + (b"\n" if is_ended else b"")
    lines = Lines(MAX)
    found = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += lines.feed(text[:size])
        text = text[size:]
    ended = written if is_ended else written[:-1]
    assert found == [one.strip() for one in ended if one.strip() and len(one) <= MAX]
    assert lines.too_long == sum(len(one) > MAX for one in written)
    left = b"" if is_ended or not written else written[-1]
    assert lines.rest() == (left.strip() if len(left) <= MAX else b"")


def test_a_line_without_an_end_takes_no_more_than_it_may() -> None:
    lines = Lines(MAX)
    for _ in range(100):
        assert lines.feed(b"xxx") == []
    assert lines.too_long == 1
    assert lines._size <= MAX
    assert lines.feed(b"\nok\n") == [b"ok"]
