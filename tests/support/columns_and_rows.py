"""A table of which routes want some columns and some rows, with a generated column and one to be kept in."""

from __future__ import annotations

from support.installed import connect

from broker.config.feeds import FeedConfig, Route

TABLE = (
    "CREATE TABLE event (id bigint PRIMARY KEY, status text, amount numeric, password_hash text,"
    " note text GENERATED ALWAYS AS (status || '!') STORED)"
)
ROUTE = Route(
    "tables",
    ("event/{id}",),
    columns=("id", "status"),
    condition="status = 'open' AND amount > 10",
    where="rowcast.toml:12",
)


def has_lists(config: FeedConfig) -> bool:
    with connect(config.dsn) as connection:
        return connection.info.server_version >= 150000
