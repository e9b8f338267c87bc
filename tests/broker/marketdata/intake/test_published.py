"""What stands in a topic at the filter's `+`, of the first filter that matches as the broker matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.marketdata.intake.published import levels_of
from protocol.mqtt.topics import matches

levels = st.sampled_from(("a", "b", "", "c"))
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = st.tuples(
    st.lists(st.sampled_from(("a", "b", "+")), min_size=1, max_size=3), st.sampled_from(("", "/#"))
).map(lambda drawn: "/".join(drawn[0]) + drawn[1])


@given(st.lists(filters, min_size=1, max_size=3), topics)
def test_levels_are_those_of_the_first_filter_that_matches(wanted: list[str], topic: str) -> None:
    found = levels_of(tuple(wanted), topic)
    first = next((one for one in wanted if matches(one.encode(), topic.encode())), None)
    if first is None:
        assert found == {}
        return
    written, pattern = topic.split("/"), first.split("/")
    plus = [written[at] for at, level in enumerate(pattern) if level == "+"]
    expected = {f"+{number}": level for number, level in enumerate(plus, 1)}
    if pattern[-1] == "#":
        expected["#"] = "/".join(written[len(pattern) - 1 :])
    assert found == expected


@pytest.mark.parametrize("topic_filter", ["a/b/#", "a/+/#"])
def test_a_longer_filter_with_a_wildcard_at_its_end_does_not_match_a_short_topic(topic_filter: str) -> None:
    assert levels_of((topic_filter, "+"), "a") == {"+1": "a"}
