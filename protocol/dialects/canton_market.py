"""CantonDEX market data, few messages for many: the newest price, book changes merged per price level.

Numbers are kept digit for digit: they are read as `Decimal` or `int` and written as they were read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

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

    def merge(self, payloads: Sequence[bytes]) -> bytes:
        """The newest update, with every earlier change that it doesn't replace."""
        updates = [_update(payload) for payload in payloads]
        if any(update is None for update in updates):
            return payloads[-1]  # not in the document's form, so the newest has to do
        changes: dict[str, dict[object, object]] = {side: {} for side in _SIDES}
        newest: dict[str, Any] = {}
        for update in updates:
            assert update is not None
            newest = update
            for side in _SIDES:
                for change in update["changes"].get(side, ()):
                    level = change.get("price") if isinstance(change, dict) else None
                    if isinstance(level, bool) or not isinstance(level, int | Decimal | str):
                        return payloads[-1]
                    changes[side][level] = change
        newest["changes"] = {
            **newest["changes"],
            **{
                side: list(levels.values())
                for side, levels in changes.items()
                if levels or side in newest["changes"]
            },
        }
        try:
            return exact_json(newest).encode()
        except RecursionError:
            return payloads[-1]


def _update(payload: bytes) -> dict[str, Any] | None:
    try:
        update = json.loads(payload, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError):  # 1e9999999999999999999 is no Decimal
        return None
    if not isinstance(update, dict) or not isinstance(update.get("changes"), dict):
        return None
    if not all(isinstance(update["changes"].get(side, []), list) for side in _SIDES):
        return None
    return update


def exact_json(value: object) -> str:
    """JSON text of what `json.loads(…, parse_float=Decimal)` gave, its numbers as they were."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{exact_json(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(exact_json, value)) + "]"
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value)
