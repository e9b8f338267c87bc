"""What a sink says of itself on `$SYS`: only what is another than before, under a name that is one level."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from broker.reports.sink_topics import SinkTopics
from protocol.mqtt.topics import is_valid_topic_name


def sink(name: str = "rows") -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(name=name),
        state="live",
        problem="",
        waiting=[1, 2],
        unsettled=3,
        written=10,
        refused=1,
        dead_letters=2,
        dropped=3,
        retried=4,
    )


def test_first_all_is_told_and_then_what_changed() -> None:
    topics, one = SinkTopics(), sink()
    assert dict(topics.changed(one)) == {
        "$SYS/sink/rows/state": "live",
        "$SYS/sink/rows/problem": "",
        "$SYS/sink/rows/waiting": "5",
        "$SYS/sink/rows/written": "10",
        "$SYS/sink/rows/refused": "1",
        "$SYS/sink/rows/dead_letters": "2",
        "$SYS/sink/rows/dropped": "3",
        "$SYS/sink/rows/retried": "4",
    }
    assert topics.changed(one) == []
    one.unsettled = 0
    one.waiting = [1, 2, 3, 4, 5]
    assert topics.changed(one) == []
    one.state, one.problem = "waiting", "refused"
    assert topics.changed(one) == [("$SYS/sink/rows/state", "waiting"), ("$SYS/sink/rows/problem", "refused")]
    one.problem = ""
    assert topics.changed(one) == [("$SYS/sink/rows/problem", "")]


@pytest.mark.parametrize("name", ["a/b", "a+b", "a#b", "a\nb", "a\x7fb", "a\0b"])
def test_a_name_is_one_level_of_a_topic(name: str) -> None:
    for topic, _ in SinkTopics().changed(sink(name)):
        assert topic.startswith("$SYS/sink/a_b/")
        assert is_valid_topic_name(topic.encode())
