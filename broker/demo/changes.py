"""What a transaction of the demo exchange does to its tables, and what each such change must announce.

The rules here are written from the documents of the six MQTT topic families and the twelve WebSocket
channels, not from a configuration of Rowcast: they are what its output is held against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from attrs import Factory, define, frozen

Value: TypeAlias = int | str | bool | datetime | None
Columns: TypeAlias = Mapping[str, Value]
Key: TypeAlias = tuple[Value, ...]

HISTORY: Final = "aggregator.user_history"
HISTORY_VIEWS: Final = {
    "aggregator.user_history_limit": "api.limit_orders",
    "aggregator.user_history_market": "api.market_orders",
    "aggregator.user_history_swap": "api.swap_orders",
}

WEBSOCKET_CHANNELS: Final = {
    "market_registration_events": "market_registration_event",
    "recognized_market_events": "recognized_market_event",
    "place_limit_order_events": "place_limit_order_event",
    "place_market_order_events": "place_market_order_event",
    "place_swap_order_events": "place_swap_order_event",
    "change_order_size_events": "change_order_size_event",
    "cancel_order_events": "cancel_order_event",
    "fill_events": "fill_event",
    "aggregator.user_history_limit": "new_limit_order",
    "aggregator.user_history_market": "new_market_order",
    "aggregator.user_history_swap": "new_swap_order",
}
UPDATED: Final = "updated_limit_order"
ALL_CHANNELS: Final = (*WEBSOCKET_CHANNELS.values(), UPDATED)

_OF_USER: Final = ("market_id", "user", "custodian_id")
MQTT_TOPICS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "place_limit_order": ((*_OF_USER, "integrator"),),
    "place_market_order": ((*_OF_USER, "integrator"),),
    "place_swap_order": (("market_id", "integrator", "signing_account"),),
    "change_order_size": (_OF_USER,),
    "cancel_order": (_OF_USER,),
    "fill": (
        ("market_id", "maker_address", "maker_custodian_id"),
        ("market_id", "taker_address", "taker_custodian_id"),
    ),
}
FILL_IDENTITY: Final = ("market_id", "taker_order_id", "sequence_number_for_trade")


@frozen
class Change:
    """One statement: an INSERT of `columns`, or, where there is a `key`, an UPDATE of the row that has it."""

    table: str
    columns: Columns
    key: Columns = Factory(dict)


@define
class Transaction:
    """Changes that are committed together, in the order in which they are written."""

    txn_version: int
    time: datetime
    changes: list[Change] = Factory(list)
    _event_idx: int = 0

    def event(self, table: str, **columns: Value) -> None:
        """Add an event; it gets the transaction's version and time, and the next number."""
        place: Columns = {"txn_version": self.txn_version, "event_idx": self._event_idx, "time": self.time}
        self._event_idx += 1
        self.changes.append(Change(table, {**place, **columns}))

    def insert(self, table: str, **columns: Value) -> None:
        """A new row with these columns."""
        self.changes.append(Change(table, columns))

    def update(self, table: str, key: Columns, **columns: Value) -> None:
        """These columns of the row with this key get new values."""
        self.changes.append(Change(table, columns, key))


def view_of(change: Change) -> str | None:
    """The view whose row is announced instead of the table's own, for the orders' history."""
    if change.key:
        return HISTORY_VIEWS["aggregator.user_history_limit"]
    return HISTORY_VIEWS.get(change.table)


def websocket_message(change: Change, row: str) -> tuple[str, str]:
    """(channel, text) that a WebSocket client must get; `row` is the row as Postgres writes it in JSON."""
    channel = UPDATED if change.key else WEBSOCKET_CHANNELS[change.table]
    return channel, f'{{"channel" : "{channel}", "payload" : {row}}}'


def mqtt_topics(change: Change, fills_seen: set[Key]) -> Iterator[str]:
    """The topics on which an MQTT client must get this row.

    A fill counts once however many rows tell of it; `fills_seen` remembers those told.
    """
    family = change.table.removesuffix("_events")
    if family not in MQTT_TOPICS:
        return
    if family == "fill":
        identity = tuple(change.columns[column] for column in FILL_IDENTITY)
        if identity in fills_seen:
            return
        fills_seen.add(identity)
    for columns in MQTT_TOPICS[family]:
        yield "/".join((family, *(str(change.columns[column]) for column in columns)))
