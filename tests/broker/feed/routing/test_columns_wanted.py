"""What a feed's routes want of its tables, and what is said of a name that no column has."""

from __future__ import annotations

import pytest

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.routing.columns_wanted import ColumnWanted, columns_wanted, missing_text

TABLE = "public.order"


def config(*routes: Route) -> FeedConfig:
    return FeedConfig("x", "", "wal", (Source("s", (), tables=("order",)),), routes)


def wanted(use: str, name: str = "payload.temp") -> ColumnWanted:
    return ColumnWanted(TABLE, name, use, ("insert",), "feed.toml:7")


def test_each_name_is_told_once_with_what_it_is_for() -> None:
    route = Route(
        "s",
        ("a/{id}/{$operation}", "b/{id}"),
        once_per=("account", "$position"),
        columns=("id", "note"),
        condition="size > 3",
    )
    assert [(one.name, one.use) for one in columns_wanted(config(route, route))] == [
        ("id", "topic"),
        ("id", "columns"),
        ("note", "columns"),
        ("size", "where"),
        ("account", "once_per"),
    ]


@pytest.mark.parametrize(
    ("use", "is_in"),
    [("topic", True), ("once_per", True), ("property", True), ("columns", False), ("where", False)],
)
def test_members_of_a_column_may_stand_in_topics_and_keys_alone(use: str, is_in: bool) -> None:
    assert wanted(use).is_in({"payload"}) is is_in
    assert wanted(use).is_in({"payload.temp"})


def test_a_column_with_a_dot_in_its_name_comes_before_a_member() -> None:
    assert wanted("topic").column_in({"payload", "payload.temp"}) == "payload.temp"
    assert wanted("topic").column_in({"payload"}) == "payload"


def test_the_mistake_names_the_column_that_may_be_meant() -> None:
    assert missing_text(wanted("topic", "Acount"), ["id", "account"]) == (
        f"feed.toml:7: {TABLE} has no column Acount; did you mean account?"
    )
    assert missing_text(wanted("topic", "zzz"), ["id", "account"]) == (
        f"feed.toml:7: {TABLE} has no column zzz; it has id, account"
    )
