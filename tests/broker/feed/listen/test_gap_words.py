"""One gap names all tables of which rows may be missing, each with one reason."""

from __future__ import annotations

import json

from support.feeds import Collector

from broker.feed.listen.gap_words import announce_tables
from broker.feed.status import FeedStatus


def test_each_table_is_said_once_with_its_first_reason() -> None:
    status, outlet = FeedStatus("f"), Collector()
    announce_tables(status, outlet, {"no place": ["a", "b"], "not there": ["c", "b"], "unheard": ["a"]})
    body = json.loads(outlet.announced[0][1])
    assert (body["reason"], body["tables"]) == ("a, b: no place; c: not there", ["a", "b", "c"])
    assert status.gaps == 1


def test_where_no_table_misses_rows_nothing_is_said() -> None:
    status, outlet = FeedStatus("f"), Collector()
    announce_tables(status, outlet, {"no place": [], "unheard": []})
    assert (status.gaps, outlet.announced) == (0, [])
