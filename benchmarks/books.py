"""Order books of others, for benchmarks.market: each takes one level, as texts, at a time.

`pip install order-book` is cryptofeed's, in C, keyed by Decimal as cryptofeed does it; `pip install ccxt` has the one
of its WebSocket clients, in Python, of floats.  Neither publishes, limits or remembers anything here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Final

SetLevel = Callable[[str, str, str], None]
"""Side, price, size; a size of 0 removes."""


def plain() -> SetLevel:
    """The least that could be done."""
    sides: dict[str, dict[float, float]] = {"bid": {}, "ask": {}}

    def set_level(side: str, price: str, size: str) -> None:
        if float(size) == 0:
            sides[side].pop(float(price), None)
        else:
            sides[side][float(price)] = float(size)

    return set_level


def cryptofeed() -> SetLevel:
    """Raises: ImportError."""
    book = import_module("order_book").OrderBook()
    sides = {"bid": book.bids, "ask": book.asks}

    def set_level(side: str, price: str, size: str) -> None:
        levels, key, amount = sides[side], Decimal(price), Decimal(size)
        if amount:
            levels[key] = amount
        elif key in levels:
            del levels[key]

    return set_level


def ccxt() -> SetLevel:
    """Raises: ImportError."""
    book = import_module("ccxt.async_support.base.ws.order_book").OrderBook()
    sides = {"bid": book["bids"], "ask": book["asks"]}

    def set_level(side: str, price: str, size: str) -> None:
        sides[side].store(float(price), float(size))

    return set_level


BOOKS: Final[dict[str, Callable[[], SetLevel]]] = {
    "plain_dict": plain,
    "cryptofeed": cryptofeed,
    "ccxt": ccxt,
}
