"""A row of the demo's exchange."""

from __future__ import annotations

from typing import Any

FILL: dict[str, Any] = {
    "market_id": 3,
    "maker_address": "0xa",
    "maker_custodian_id": 0,
    "taker_address": "0xb",
    "taker_custodian_id": 7,
    "taker_order_id": 1 << 127,
    "sequence_number_for_trade": 0,
}
