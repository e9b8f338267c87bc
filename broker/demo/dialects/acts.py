"""What the simulated users of an example do: transactions, and the message that each statement must cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from attrs import frozen

ENGINE = "engine"
"""The channel of what the matching engine does: public channels are calculated from it, not caused by one row."""


@frozen
class Statement:
    """One statement that changes one row.

    Args:
        sql: returns the row's message (or, for the exchange, its data) as text.
        values: of its placeholders.
        channel: the inner channel that the message must reach.
    """

    sql: str
    values: Mapping[str, object]
    channel: str


Act = tuple[Statement, ...]
"""One transaction."""


@frozen
class Watcher:
    """A client of the demo: who it is, and the inner channels it gets."""

    name: str
    claims: Mapping[str, object]
    channels: frozenset[str]


class Scenario(Protocol):
    """An example's users and what they do, endless and the same for the same seed."""

    watchers: tuple[Watcher, ...]

    def acts(self, seed: int) -> Iterator[Act]:
        """What happens, one act after another, without end; the same for the same seed."""

    def greetings(self, watcher: Watcher, token: str) -> list[str]:
        """What this client sends first; each is answered once."""

    def text(self, channel: str, returned: str) -> str:
        """The message that a client gets when a statement has returned this."""
