"""Which rows can be recognised by the first one of them, and what of each column is looked at for that."""

from __future__ import annotations

from typing import Any

import pytest

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.config.properties import PropertyTemplates
from broker.feed.fast.learning import LESSONS_MAX, ROWS_MAX, Learner, fast_row, uses_of
from broker.feed.fast.notified import FastRows
from broker.feed.fast.shape import BOTH, LEVEL, TEXT, UNUSED
from broker.feed.listen.mark import Mark
from broker.feed.routing.routes import Router, Row
from broker.feed.status import FeedStatus

TEXT_OF_ROW = b'{"id":1,"a":"x","b":true,"c":null}'


def row(*routes: Route, text: bytes = TEXT_OF_ROW, **source: Any) -> Row:
    config = FeedConfig("main", "", "listen", (Source("s", ("n",), **source),), routes)
    found = Router(config, FeedStatus("main")).notification(b"n", text, 0.0)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("routes", "uses"),
    [
        ([Route("s", ("t/{a}",))], {"a": LEVEL}),
        ([Route("s", ("{a}@{b}",), target="exchange")], {"a": TEXT, "b": TEXT}),
        ([Route("s", ("t/{a}",), once_per=("a", "id"))], {"a": BOTH, "id": TEXT}),
        ([Route("s", ("t/{a}",)), Route("s", ("{a}",), target="exchange")], {"a": BOTH}),
        ([Route("s", ("{$kind}/x",))], {}),
        ([], {}),
    ],
)
def test_what_each_column_is_wanted_for(routes: list[Route], uses: dict[str, int]) -> None:
    made = row(*(routes or [Route("s", ("t",))]))
    assert uses_of(made.source.routes_of("n") if routes else [], None) == uses


def test_a_mark_looks_at_its_key() -> None:
    recovery = Recovery("t", ("id", "a"), (("s", "n"),))
    made = row(Route("s", ("t/{a}",)))
    assert uses_of(made.source.routes_of("n"), Mark(recovery, (20, 25))) == {"id": TEXT, "a": BOTH}


def test_a_row_shows_where_its_values_stand() -> None:
    learned = fast_row(row(Route("s", ("t/{a}/{id}",))), None)
    assert learned is not None
    assert learned.shape.gaps == [b'{"id":', b',"a":', b',"b":', b',"c":', b"}"]
    assert learned.shape.uses == [LEVEL, LEVEL, UNUSED, UNUSED]


def test_what_says_the_kind_is_the_same_in_all_of_them() -> None:
    made = row(Route("s", ("t",)), text=b'{"k":"fill","v":1}', kind_path=("k",))
    learned = fast_row(made, None)
    assert learned is not None
    assert learned.shape.gaps == [b'{"k":"fill","v":', b"}"]


@pytest.mark.parametrize(
    "made",
    [
        row(Route("s", ("t/{missing}",))),
        row(Route("s", ("t",), kind="other")),
        row(Route("s", ("t",)), text=b'{"a\\u0062":1}'),
        row(Route("s", ("t",), columns=("a",))),
        row(Route("s", ("t",), condition="a = 'x'")),
        row(Route("s", ("t",), properties=PropertyTemplates(5))),
        row(Route("s", ("t",), once_per=("$kind",))),
        row(Route("s", ("t",)), Route("s", ("u",), columns=("a",))),
    ],
)
def test_what_needs_more_than_a_walk_takes_the_careful_path(made: Row) -> None:
    assert fast_row(made, None) is None


def learner() -> tuple[Learner, FastRows]:
    rows = FastRows(lambda *outgoing: None, lambda channel, text, now: True)
    return Learner(rows), rows


def test_one_shape_is_learned_once_and_only_so_many_are() -> None:
    learning, rows = learner()
    for _ in range(3):
        learning.learn(b"n", row(Route("s", ("t",))), None)
    assert len(rows.known(b"n")) == 1
    for number in range(2 * ROWS_MAX):
        learning.learn(b"n", row(Route("s", ("t",)), text=b'{"c%d":1}' % number), None)
    assert len(rows.known(b"n")) == ROWS_MAX


def test_a_channel_of_texts_that_teach_nothing_is_given_up() -> None:
    learning, rows = learner()
    odd = row(Route("s", ("t",), columns=("a",)))
    for _ in range(LESSONS_MAX):
        learning.learn(b"n", odd, None)
    learning.learn(b"n", row(Route("s", ("t",))), None)
    assert len(rows.known(b"n")) == 0
    learning.learn(b"other", row(Route("s", ("t",))), None)
    assert len(rows.known(b"other")) == 1
