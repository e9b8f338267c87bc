"""The SQL for a `wal` feed's publications: tables, and of them the columns and rows that the routes want.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from psycopg import sql

from broker.config.conditions import any_of, parse_condition
from broker.config.feeds import OPERATIONS, FeedConfig, Route
from broker.feed.driver.sql_text import quoted_name, text_of
from broker.feed.routing.columns_wanted import names_of
from broker.feed.routing.tables import appearances, table_operations
from broker.feed.setup.sql_files import sql_file
from broker.feed.wal.slots import publication_name


def publications_statement(config: FeedConfig, widen: bool) -> str:
    """Makes the publications what the routes want; does nothing where they are that already.

    Args:
        widen: publish also what somebody has kept out of a publication.
    """
    spec = {
        "publications": [{"name": publication_name(config, o), "operation": o} for o in OPERATIONS],
        "tables": [_table(config, table, some) for table, some in table_operations(config).items()],
        "widen": widen,
    }
    composed = sql.SQL(sql_file("publications.sql")).format(
        spec=sql.Literal(json.dumps(spec, ensure_ascii=False))
    )
    return text_of(composed)


def routes_of(config: FeedConfig, table: str) -> list[Route]:
    """The routes that take rows of a table, each once."""
    places = [appearance for appearance in appearances(config) if appearance.table == table]
    return [route for route in config.routes if any(place.wanted_by(route) for place in places)]


def _table(config: FeedConfig, table: str, operations: Iterable[str]) -> dict[str, Any]:
    routes = routes_of(config, table)
    inserts = [route for route in routes if "insert" in route.operations]
    conditions = [parse_condition(route.condition) for route in inserts if route.condition]
    is_filtered = bool(inserts) and len(conditions) == len(inserts)
    return {
        "name": quoted_name(table),
        "operations": list(operations),
        "columns": columns_needed(routes),
        "filter": any_of(conditions) if is_filtered else None,
        "filtered_by": [name for condition in conditions for name in condition.columns],
    }


def columns_needed(routes: Iterable[Route]) -> list[str] | None:
    """What all of a table's routes need of it, in a body or elsewhere; None if one of them wants everything."""
    routes = list(routes)
    if not all(route.columns for route in routes):
        return None
    named = [name for route in routes for name, _ in names_of(route)]
    return list(dict.fromkeys(name for whole in named for name in (whole, whole.split(".")[0])))
