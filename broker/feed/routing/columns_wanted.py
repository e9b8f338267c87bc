"""Which columns of which tables a feed's routes name.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from difflib import get_close_matches
from typing import Final

from attrs import frozen

from broker.config.conditions import parse_condition
from broker.config.feeds import FeedConfig, Route
from broker.config.templates import names_in
from broker.feed.routing.tables import appearances


@frozen
class ColumnWanted:
    """A name in a route that has to be a column of the table, or a member of one (`payload.temp`).

    Attributes:
        use: `topic`, `once_per`, `property`, `columns` or `where`; only the first three may name members.
        where: the route's place in the configuration.
    """

    table: str
    name: str
    use: str
    operations: tuple[str, ...]
    where: str

    def is_in(self, columns: Container[str]) -> bool:
        """Whether a table with these columns has it."""
        return self.name in columns or (
            self.use in ("topic", "once_per", "property") and self.name.split(".")[0] in columns
        )

    def column_in(self, columns: Container[str]) -> str:
        """Which column it is, of those in which it is."""
        return self.name if self.name in columns else self.name.split(".")[0]


def columns_wanted(config: FeedConfig) -> Iterator[ColumnWanted]:
    """In the order of the tables and routes, each once."""
    seen = set()
    for appearance in appearances(config):
        for route in filter(appearance.wanted_by, config.routes):
            for name, use in names_of(route):
                wanted = ColumnWanted(appearance.table, name, use, route.operations, route.where or "a route")
                if wanted not in seen:
                    seen.add(wanted)
                    yield wanted


LISTED_MAX: Final = 20


def missing_text(wanted: ColumnWanted, columns: Collection[str]) -> str:
    """What is wrong with a name that no column has, with the one that may be meant."""
    first = wanted.name.split(".")[0]
    by_lower = {column.lower(): column for column in columns}
    close = get_close_matches(first.lower(), list(by_lower), n=1)
    hint = (
        f"did you mean {by_lower[close[0]]}?" if close else f"it has {', '.join(list(columns)[:LISTED_MAX])}"
    )
    return f"{wanted.where}: {wanted.table} has no column {first}; {hint}"


def names_of(route: Route) -> Iterator[tuple[str, str]]:
    """The columns that a route names, and for what."""
    for topic in route.topics:
        yield from ((name, "topic") for name in names_in(topic) if not name.startswith("$"))
    yield from ((name, "property") for name in route.properties.names() if not name.startswith("$"))
    yield from ((name, "columns") for name in route.columns)
    if route.condition:
        yield from ((name, "where") for name in parse_condition(route.condition).columns)
    yield from ((name, "once_per") for name in route.once_per if not name.startswith("$"))
