"""[[history]]: what is read, and what is told of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from support.toml_files import noted, reader_of

from broker.config.history import HistoryRule
from broker.config.toml.history import history_rules


def test_a_ring_keeps_what_it_is_told_to() -> None:
    reader = reader_of()
    table = {"topics": "a/#", "size": "1MB", "count": 1, "age": "1s", "source_count": 0}
    rules = history_rules(reader, {"history": [table, {"topics": ["$ws/canton/+", "$ws/exchange/x"]}]})
    assert rules == (HistoryRule(("a/#",), 2**20, 1, 1.0, 0), HistoryRule(("$ws/canton/+", "$ws/exchange/x")))
    assert reader.mistakes() == []


ABOVE = "history: count, size and age must be above 0: leave [[history]] out for none"


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"topics": []}, "topics: at least one topic filter is wanted"),
        ({"topics": "a#"}, 'topics: a topic filter is wanted, such as "orders/#", not "a#"'),
        (
            {"topics": "$ws/econia/a"},
            'topics: a topic filter is wanted, such as "orders/#", not "$ws/econia/a"',
        ),
        ({"topics": "a", "count": 0}, ABOVE),
        ({"topics": "a", "size": 0}, ABOVE),
        ({"topics": "a", "age": 0}, ABOVE),
        ({"topics": "a", "source_count": -1}, "source_count: 0 or more is wanted; 0 reads nothing again"),
    ],
)
def test_a_ring_that_can_t_be_is_told(table: dict[str, Any], what: str) -> None:
    reader = reader_of()
    history_rules(reader, {"history": [table]})
    assert noted(reader) == [what]
