"""CantonDEX market data, few messages for many: the newest price, book changes merged per price level.

Numbers are kept digit for digit: they are read as `Decimal` or `int` and written as they were read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Self

from protocol.dialects.conflation import Conflation

_BOOK_MARK: Final = b'"orderbook_update"'
_BOOK_SUFFIX: Final = "\x00book"
_SIDES: Final = ("bids", "asks")


class MarketConflation(Conflation):
    """Book changes of a symbol are merged; of everything else the newest counts."""

    def key(self, channel: str, payload: bytes) -> str:
        # A look at the bytes: this is asked for every message to a slow receiver.
        return channel + _BOOK_SUFFIX if _BOOK_MARK in payload else channel

    def is_mergeable(self, key: str) -> bool:
        return key.endswith(_BOOK_SUFFIX)

    def merge(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """Of updates that follow each other one, with every change that no later one replaces.

        A change without a price that is a number is left out, and counted in `discarded`.  A message that is not in
        the document's form takes the place of no changes and stays where it is; of nothing but such ones the newest
        has to do.
        """
        updates = [_update(payload) for payload in payloads]
        if not any(update is not None for update in updates):
            return payloads[-1:]
        merged: list[bytes] = []
        start = 0
        for position, update in enumerate([*updates, None]):
            if update is None:
                merged += self._joined(payloads[start:position], updates[start:position])
                merged += payloads[position : position + 1]
                start = position + 1
        return merged

    def _joined(self, payloads: Sequence[bytes], updates: Sequence[dict[str, Any] | None]) -> Sequence[bytes]:
        """One for all of these, or, if it can't be written, all of them."""
        if len(payloads) < 2:
            return payloads
        changes: dict[str, dict[object, object]] = {side: {} for side in _SIDES}
        newest: dict[str, Any] = {}
        for update in updates:
            assert update is not None
            newest = update
            for side in _SIDES:
                for change in update["changes"].get(side, ()):
                    price = _price(change)
                    if price is None:
                        self.discarded += 1
                    else:
                        changes[side][price] = change
        newest["changes"] = {
            **newest["changes"],
            **{
                side: list(levels.values())
                for side, levels in changes.items()
                if levels or side in newest["changes"]
            },
        }
        try:
            return [exact_json(newest).encode()]
        except RecursionError:
            return payloads


class Written(Decimal):
    """A number, and how it was written; beyond any `Decimal` it is NaN, which is no price."""

    text: str

    def __new__(cls, text: str) -> Self:
        try:
            made = super().__new__(cls, text)
        except ArithmeticError:
            made = super().__new__(cls, "NaN")
        made.text = text
        return made


def _price(change: object) -> Decimal | None:
    """A level's price, the same for 150.4, 150.40 and "150.4"; None if it has none."""
    price = change.get("price") if isinstance(change, dict) else None
    if isinstance(price, bool) or not isinstance(price, int | Decimal | str):
        return None
    try:
        number = Decimal(price)
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _update(payload: bytes) -> dict[str, Any] | None:
    try:
        update = json.loads(payload, parse_float=Written)
    except (ValueError, RecursionError, ArithmeticError):  # 1e9999999999999999999 is no Decimal
        return None
    if not isinstance(update, dict) or not isinstance(update.get("changes"), dict):
        return None
    if not all(isinstance(update["changes"].get(side, []), list) for side in _SIDES):
        return None
    return update


def exact_json(value: object) -> str:
    """JSON text of what `json.loads(…, parse_float=Written)` gave, its numbers as they were."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{exact_json(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(exact_json, value)) + "]"
    if isinstance(value, Written):
        return value.text
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value)
