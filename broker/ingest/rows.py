"""The columns of a batch: a list of texts for each, made in one walk over the messages.  Pure; compiled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from broker.config.ingest import Expression, SinkConfig
from broker.ingest.flat import members_into
from broker.ingest.sink import Waiting
from broker.ingest.times import Refused
from broker.ingest.values import Maker, Value, maker, parsed

if TYPE_CHECKING:
    from mypy_extensions import i64

MEMBERS_MAX: Final = 60
"""Found without parsing: a bit of a machine word for each."""


class Rows:
    """Makes the columns of a batch.

    Args:
        config: the sink's.
        types: of each column, as Postgres names them inside: `int4`, `_text`.
    """

    def __init__(self, config: SinkConfig, types: tuple[str, ...]) -> None:
        levels = config.topics[0].names
        expressions = [one for _, one in config.columns]
        self._config = config
        self._refuses_null = config.on_null == "refuse"
        self._reads_json = any(one.path is not None for one in expressions)
        slots = _slots_of(expressions)
        self._makers: list[Maker] = [
            maker(one, levels, kind, slots) for one, kind in zip(expressions, types, strict=True)
        ]
        self._members: dict[bytes, int] = {
            json.dumps(name, ensure_ascii=False).encode(): slot for name, slot in slots.items()
        }

    def columns(
        self, batch: list[Waiting]
    ) -> tuple[list[Waiting], list[list[Value]], list[tuple[Waiting, str]]]:
        """All columns of a batch: the messages that make rows, a list for each column, and the others with reasons."""
        taken: list[Waiting] = []
        refused: list[tuple[Waiting, str]] = []
        makers = self._makers
        columns: list[list[Value]] = [[] for _ in makers]
        count: i64 = len(makers)
        is_quick = bool(self._members) and not self._refuses_null
        members: list[Value] = [None] * len(self._members)
        texts: i64 = 0
        for message in batch:
            try:
                if not self._reads_json and not self._refuses_null:
                    texts = 0
                elif is_quick:
                    texts = members_into(message.payload, self._members, members)
                else:
                    texts = -1
                i: i64 = 0
                if texts >= 0:
                    while i < count:
                        columns[i].append(makers[i].quick(message, members, texts))
                        i += 1
                else:
                    row = self.of(message)
                    while i < count:
                        columns[i].append(row[i])
                        i += 1
                taken.append(message)
            except Refused as error:
                refused.append((message, str(error)))
                for column in columns:
                    del column[len(taken) :]
        return taken, columns, refused

    def of(self, message: Waiting) -> list[Value]:
        """A row.

        Raises:
            Refused: no row can be made of it.
        """
        try:
            document = parsed(message.payload) if self._reads_json else None
            row = [make.of(message, document) for make in self._makers]
        except RecursionError:  # what could just be read may not be written again
            raise Refused("the payload is nested too deep") from None
        if self._refuses_null and None in row:
            name, one = self._config.columns[row.index(None)]
            raise Refused(f"column {name}: {one.text} is missing or null")
        return row


def _slots_of(expressions: list[Expression]) -> dict[str, int]:
    """What `members_into` looks for, and where it puts it; {} where more than members of an object is wanted."""
    slots: dict[str, int] = {}
    for one in expressions:
        if one.path is None:
            continue
        name = one.path[0] if len(one.path) == 1 else None
        if not isinstance(name, str):
            return {}
        slots.setdefault(name, len(slots))
    return slots if len(slots) <= MEMBERS_MAX else {}
