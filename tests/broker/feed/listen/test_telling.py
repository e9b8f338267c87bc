"""Which tables may have been silent: those of which a trigger that was there is not as it was."""

from __future__ import annotations

import pytest

from broker.config.feeds import Recovery
from broker.feed.listen.telling import Telling, Triggers


@pytest.mark.parametrize(
    ("known", "now", "silenced"),
    [
        (None, {"a": ["1"]}, []),
        ({"a": ["1"]}, {"a": ["1"]}, []),
        ({"a": ["1"]}, {"a": ["1", "2"]}, []),
        ({"a": ["1"]}, {"a": []}, ["a"]),
        ({"a": ["1", "2"]}, {"a": ["2"]}, ["a"]),
        ({"a": ["1/7/O"]}, {"a": ["1/8/O"]}, ["a"]),
        ({"a": [], "b": ["1"]}, {"a": [], "b": ["2"]}, ["b"]),
        ({"a": ["1"]}, {"a": ["1"], "b": ["2"]}, []),
        ({"a": ["1", "function/5/7"]}, {"a": ["1", "function/5/8"]}, ["a"]),
    ],
)
def test_a_trigger_or_function_that_was_touched_may_have_been_silent(
    known: Triggers | None, now: Triggers, silenced: list[str]
) -> None:
    telling = Telling([Recovery("a", ("id",), ()), Recovery("b", ("id",), ())])
    telling.known = known
    assert telling.silenced(now) == silenced
    assert telling.known == known, "looking changes nothing"
    assert telling.take(now) == silenced
    assert telling.take(now) == [], "said once"
