"""Goal: `rowcast feed check` names what market data lacks in a database, and the cure; what is named, cures it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from broker.cli.main import main
from broker.marketdata.history import CREATE

SETTINGS = """
[[listener]]
port = 0
protocol = "websockets"
dialects = ["exchange"]
[websocket.exchange]
jwt = {{ secret = "0123456789012345678901234567890123456789", account = "uid" }}
[security]
allow_anonymous = true
[database]
dsn = "{dsn}"
[source.book]
query = '''{query}'''
key = ["symbol", "side", "price"]
every = "{every}"
[[market.depth]]
from = "book"
shape = "levels"
[[websocket.route]]
from = "market.depth"
channel = "{{symbol}}@depth"
"""
GOOD = "SELECT symbol, side, price, size FROM shop.levels"
KEPT = """
[source.trades]
tcp = "127.0.0.1:0"
[[market.kline]]
from = "trades"
history = "shop.candles"
replay = "SELECT * FROM shop.trades"
[[websocket.route]]
from = "market.kline"
channel = "{symbol}@kline_{interval}"
"""


@pytest.fixture
def there(database: str) -> Any:
    """A schema with levels of one symbol, and a role that may read it."""
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in (
            "DROP SCHEMA IF EXISTS shop CASCADE",
            "CREATE SCHEMA shop",
            "CREATE TABLE shop.levels (symbol text, side text, price numeric, size numeric)",
            "INSERT INTO shop.levels VALUES ('A', 'bid', 1.5, 2), ('A', 'ask', 1.6, 1)",
            "CREATE TABLE shop.trades (symbol text, price numeric, size numeric, ts timestamptz, id int)",
            "CREATE TABLE shop.hidden AS TABLE shop.levels",
            "DO $$ BEGIN CREATE ROLE looker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            "GRANT USAGE ON SCHEMA shop TO looker",
            "GRANT SELECT ON shop.levels TO looker",
            "GRANT SELECT ON shop.trades TO looker",
            "CREATE FUNCTION shop.write() RETURNS SETOF shop.levels LANGUAGE sql AS $$"
            " INSERT INTO shop.levels VALUES ('B', 'bid', 1, 1) RETURNING * $$",
        ):
            connection.execute(statement)
        yield connection
        connection.execute("DROP SCHEMA shop CASCADE")


def check(folder: Path, dsn: str, query: str, every: str = "5s", more: str = "") -> int:
    path = folder / "rowcast.toml"
    path.write_text(SETTINGS.format(dsn=dsn, query=query, every=every) + more)
    return main(["feed", "check", "-c", str(path)])


def as_looker(database: str) -> str:
    return psycopg.conninfo.make_conninfo(database, user="looker")


def test_a_good_query_is_fine(tmp_path: Path, database: str, there: Any, capsys: Any) -> None:
    assert check(tmp_path, as_looker(database), GOOD + " -- it's 100% {fine};") == 0
    assert "source book, kind query\n  fine    2 rows in " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("query", "said", "cure"),
    [
        ("SELECT * FROM shop.gone", 'relation "shop.gone" does not exist', "create it"),
        ("SELECT * FROM levels", 'relation "levels" does not exist', "name its schema"),
        ("SELECT nothing FROM shop.levels", 'column "nothing" does not exist', "name what is there"),
        ("SELECT * FROM shop.hidden", "permission denied for table hidden", 'GRANT SELECT ON TABLE ... TO "looker"'),
        ("DELETE FROM shop.levels", "the query is no SELECT", "one that gives rows"),
        ("LISTEN x", "the query is no SELECT", "one that gives rows"),
        ("SELECT 1; SELECT 2", "syntax error", "psql"),
        ("SELECT FROM WHERE", "syntax error", "psql"),
        ("SELECT * FROM shop.write()", "it writes", "let it read only"),
        ("SELECT symbol, side, price FROM shop.levels", "market.depth wants size: the query gives symbol",
         "select it"),
        ("SELECT symbol, price, size FROM shop.levels", "the query gives no side", "name columns of the query"),
        ("SELECT * FROM shop.levels, generate_series(1, 3)", "4 of 6 rows have the key of another", "let key name"),
        ("SELECT symbol, side, price / 0 AS price, size FROM shop.levels", "division by zero", "psql"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_query_is_named(
    query: str, said: str, cure: str, tmp_path: Path, database: str, there: Any, capsys: Any
) -> None:
    assert check(tmp_path, as_looker(database), query) == 1
    output = capsys.readouterr().out
    assert said in output
    assert cure in output
    assert there.execute("SELECT count(*) FROM shop.levels").fetchone() == (2,)


def test_a_query_that_takes_longer_than_its_period_is_unwise(
    tmp_path: Path, database: str, there: Any, capsys: Any
) -> None:
    query = "SELECT l.* FROM shop.levels l, pg_sleep(0.1)"
    assert check(tmp_path, database, query, "50ms") == 0
    output = capsys.readouterr().out
    assert "unwise  it takes " in output
    assert "asked every 50 ms" in output


def test_a_table_of_candles_is_cured_by_what_is_said(
    tmp_path: Path, database: str, there: Any, capsys: Any
) -> None:
    dsn = as_looker(database)

    def told(code: int) -> str:
        assert check(tmp_path, dsn, GOOD, more=KEPT) == code
        return str(capsys.readouterr().out)

    assert "there is no table shop.candles" in told(1)
    there.execute("CREATE TABLE shop.candles (symbol text)")
    assert "shop.candles has no interval, start, open" in told(1)
    there.execute("DROP TABLE shop.candles")
    there.execute(CREATE.format(table="shop.candles"))
    there.execute("ALTER TABLE shop.candles DROP CONSTRAINT candles_pkey")
    output = told(1)
    assert 'GRANT SELECT, INSERT, UPDATE ON "shop"."candles" TO "looker"' in output
    there.execute("GRANT SELECT, INSERT, UPDATE ON shop.candles TO looker")
    [cure] = [line.partition("cure: ")[2] for line in output.splitlines() if "ALTER TABLE" in line]
    there.execute(cure)
    output = told(0)
    assert "candles are kept in shop.candles" in output
    assert "replay of market.kline: can be read" in output


@pytest.mark.parametrize(
    ("index", "replaces"),
    [
        ('CREATE UNIQUE INDEX ON shop.candles (start, "interval", symbol)', True),
        ('CREATE UNIQUE INDEX ON shop.candles (symbol, "interval", start) INCLUDE (close)', True),
        ('CREATE UNIQUE INDEX ON shop.candles (symbol, "interval") INCLUDE (start)', False),
        ('CREATE UNIQUE INDEX ON shop.candles (symbol, "interval", start, lower(symbol))', False),
        ('ALTER TABLE shop.candles ADD UNIQUE (symbol, "interval", start) DEFERRABLE', False),
    ],
    ids=["other order", "includes", "includes start", "expression", "deferrable"],
)
def test_candles_are_replaced_by_a_key_that_an_upsert_can_name(
    index: str, replaces: bool, tmp_path: Path, database: str, there: Any, capsys: Any
) -> None:
    there.execute(CREATE.format(table="shop.candles"))
    there.execute("ALTER TABLE shop.candles DROP CONSTRAINT candles_pkey")
    there.execute(index)
    assert check(tmp_path, database, GOOD, more=KEPT) == int(not replaces)
    assert ("has no primary key of" in capsys.readouterr().out) is not replaces


def test_a_replay_is_looked_at(tmp_path: Path, database: str, there: Any, capsys: Any) -> None:
    there.execute("ALTER TABLE shop.trades DROP COLUMN price")
    there.execute(CREATE.format(table="shop.candles"))
    assert check(tmp_path, database, GOOD, more=KEPT) == 1
    output = capsys.readouterr().out
    assert "market.kline wants price: the replay gives symbol, size, ts, id" in output


def test_a_database_that_is_away_is_said_to_be(tmp_path: Path, capsys: Any) -> None:
    assert check(tmp_path, "host=127.0.0.1 port=1 dbname=x", GOOD) == 1
    assert "wrong   can't connect" in capsys.readouterr().out
