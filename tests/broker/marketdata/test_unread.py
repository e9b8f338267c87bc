"""Rows whose levels are left unread: whatever is in their text, books are told what they are told when it is read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from support.market import BookClient
from support.markets import next_event, running_market

from broker.feed.routing.rowtext import Columns, NotARow, columns_of
from broker.market.depth import Depth
from broker.market.levels import DepthNames
from broker.market.numbers import BadValue
from broker.market.stream import Stream
from broker.market.written import Unread
from broker.marketdata.unread import readers_of, row_columns

Sizes = dict[str, str]
Write = Callable[[Sizes], str]


def array(opening: str, mid: str, comma: str, closing: str) -> Write:
    """Writes sides whose levels look like this."""
    return lambda side: "[" + comma.join(opening + p + mid + s + closing for p, s in side.items()) + "]"


FORMS: list[Write] = [
    array('["', '","', ",", '"]'),
    array('["', '", "', ", ", '"]'),  # jsonb
    array("[", ", ", ", \n ", "]"),  # json_agg(json_build_array(price, size))
    array("[", ',"', ",", '"]'),
    array('["', '",', ",", "]"),
    array('[ "', '" , "', " , ", '" ]'),
    array('{"price" : ', ', "size" : ', ", \n ", "}"),
    array('{"price":"', '","size":"', ",", '"}'),
    array('{"size":"1","price":"', '","size":"', ",", '"}'),  # a name twice: the last one counts
    array('["', '","', ",", '",4]'),
    array('["', '","', ",", '",[]]'),
    array('["', '","', ",", '","]],"]'),
    array('["', '","', ",", '","\\u005d"]'),
    array('["\\u0031', '","', ",", '"]'),
]
PLAIN = 8
"""So many of them are not read."""


class Taker:
    """A book with what it told, and why rows were refused."""

    def __init__(self, is_unread: bool) -> None:
        self.told: list[bytes] = []
        self.depth = Depth(self.publish, 0, DepthNames(), "snapshot", 0, 1000, True, 1000)
        self.readers = readers_of([self.depth]) if is_unread else {}

    def publish(self, stream: Stream, text: bytes) -> None:
        self.told.append(text)

    def take(self, text: str, now_ms: int) -> str:
        """Why a row is refused; "" if it isn't."""
        reason = ""
        try:
            columns: Columns = row_columns(text, self.readers)
            self.depth.row(columns, now_ms)
        except (NotARow, BadValue) as error:
            reason = error.reason
        self.depth.commit(now_ms)
        return reason


def drawn_side(rng: random.Random, old: Sizes, first: int) -> Sizes:
    side = dict(old)
    for _ in range(rng.choice((0, 1, 3, 30))):
        price = f"{first + rng.randint(0, 99)}.{rng.choice(('5', '50', '0', '25'))}"
        if rng.random() < 0.3 and side:
            del side[rng.choice(list(side))]
        elif price in side or not any(float(price) == float(other) for other in side) or rng.random() < 0.02:
            side[price] = rng.choice(("1", "2.50", "17", "1e-3", "0.000000000000000001", "3.0"))
    if rng.random() < 0.1:
        side[rng.choice(list(side) or ["150.5"])] = rng.choice(("0", "0.0", "-1", "x", "007", "", "1,2"))
    levels = list(side.items())
    if rng.random() < 0.8:
        levels.sort(key=lambda level: float(level[0]), reverse=first == 100)
    return dict(levels)


def wounded(rng: random.Random, text: str) -> str:
    """With a few characters changed."""
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        at = rng.randint(0, len(text) - 1)
        taken = rng.choice((0, 1, 1, 2, 9))
        put = rng.choice(
            ("", "", '"', "]", "[", "]]", "}", ",", " ", "\\", "0", "-", "e", "\n", text[at : at + 9])
        )
        text = text[:at] + put + text[at + taken :]
    return text


@pytest.mark.parametrize("seed", range(40))
def test_unread_rows_tell_what_read_ones_do(seed: int) -> None:
    rng = random.Random(seed)
    read, unread = Taker(False), Taker(True)
    bids: Sizes = {}
    asks: Sizes = {}
    form = rng.choice(FORMS)
    for number in range(25):
        bids, asks = drawn_side(rng, bids, 100), drawn_side(rng, asks, 200)
        if rng.random() < 0.1:
            form = rng.choice(FORMS)
        members = ['"symbol": "X"', '"bids":' + form(bids), '"asks" : ' + form(asks)]
        if rng.random() < 0.2:
            members.insert(
                rng.randint(0, 3), rng.choice(('"bids":null', '"asks":[]', '"more":[["]]"]]', '"n":1'))
            )
        text = wounded(rng, "{" + ", ".join(members) + "}")
        assert unread.take(text, number) == read.take(text, number), text
        assert unread.told == read.told, text
        read.told.clear()
        unread.told.clear()


@pytest.mark.parametrize("form", range(PLAIN))
def test_what_is_written_alike_is_not_read(form: int) -> None:
    """Neither the first time nor later, nor the other side if one is empty."""
    taker = Taker(True)
    for number, size in enumerate(("1", "2.50", "")):
        asks = FORMS[form]({"100": size, "101": "3", "102": "4"} if size else {})
        bids = FORMS[form]({"20": "3", "19": "4"} if number else {})
        columns = row_columns(f'{{"symbol":"X","bids":{bids},"asks":{asks}}}', taker.readers)
        for side in ("bids", "asks"):
            columns[side] = Unread(columns[side].text, must_not_be_read)
        taker.depth.row(columns, number)
        taker.depth.commit(number)
    assert len(taker.told) == 3


def must_not_be_read(text: str) -> Any:
    raise AssertionError(text)


def test_a_row_with_strange_strings_is_read_as_ever() -> None:
    """Brackets within strings end no array."""
    for level in ('["1","]],"]', '["1","2","]]"]', '["1","2",":1,"]', '["1","2",[[1]],"a"]'):
        text = f'{{"symbol":"X","bids":[{level},["0.5","1"]],"asks":[["7","1"]]}}'
        columns = row_columns(text, readers_of([Taker(True).depth]))
        known = columns_of(text)
        assert columns.keys() == known.keys()
        for name, value in columns.items():
            assert (value.levels() if isinstance(value, Unread) else value) == known[name]


async def test_whole_books_by_tcp_are_not_read_either(tmp_path: Path) -> None:
    settings = """[source.book]
tcp = "127.0.0.1:0"
[[market.depth]]
from = "book"
shape = "snapshot"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""
    lines = [
        '{"symbol":"X","bids":[["1.50","2"],["1.40","3"]],"asks":[["2","1"],["3","1"]]}',
        '{"symbol":"X","bids":[["1.50","2"],["oops,"3"]],"asks":[["2","1"],["3","1"]]}',
        '{"symbol":"X","bids":[["1.50","2"],[oops]],"asks":[["2","1"],["3","1"]]}',
        '{"symbol":"X","bids":[["1.50","2.5"],["1.30","3"]],"asks":[["2.0","1"],["3","1"]]}',
        '[{"symbol":"Y","bids":[["1","1"]],"asks":[]}, {"symbol":"X","bids":[["1.50","2.5"],["1.30","4"]],"asks":[]}]',
    ]
    async with running_market(tmp_path, settings) as market, trio.open_nursery() as nursery:
        reader = await market.connect(nursery, "X@depth")
        engine = await market.engine("book")
        await engine.send_all("\n".join([*lines, ""]).encode())
        client = BookClient()
        with trio.fail_after(60):
            while client.sides != {"bids": {"1.50": "2.5", "1.30": "4"}, "asks": {}}:
                client.take(json.dumps(await next_event(reader)).encode())
        feeds = market.broker.app.feeds
        assert (feeds["book"].dropped, feeds["market.depth"].dropped) == ({}, {"not_json": 2})
        nursery.cancel_scope.cancel()
