"""Notifications that travel with a `wal` or `outbox` feed, in their place among the rows.  Pure.

A source that listens to Postgres channels takes from them what is no row of a recovered table: such rows come by
themselves, and their notifications would tell them again.

Invariant: as with NOTIFY, what a transaction says twice on one channel is said once.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from broker.config.feeds import FeedConfig, Source
from broker.feed.fast.learning import FAST_PATH, LESSONS_MAX, ROWS_MAX, fast_row
from broker.feed.fast.notified import FastRow
from broker.feed.routing.routes import Outgoing, Router, Row
from broker.feed.status import FeedStatus

PREFIX: Final = "rowcast.notify"
"""The prefix of logical messages that are notifications: channel, a NUL, text."""

OPERATION: Final = "notify"
"""What the outbox calls a notification, whose channel stands in the place of the table."""

SAID_MAX: Final = 100_000
"""Notifications of one transaction remembered, 16 bytes of each; beyond it a text may be said twice."""


def carried_channels(config: FeedConfig) -> tuple[str, ...]:
    """The Postgres channels on which something may come for a route that is no row of a recovered table."""
    if not config.keeps_place:
        return ()
    channels = [channel for source in config.sources for channel in _channels_of(source, config)]
    return tuple(dict.fromkeys(channels))


def _channels_of(source: Source, config: FeedConfig) -> list[str]:
    routed = {route.kind for route in config.routes if route.source == source.name}
    if not routed or source.kind_path:
        return list(source.listen) if routed else []
    rows = {kind for name, kind in _kinds_of_tables(config) if name == source.name}
    return [channel for channel in source.listen if channel not in rows and routed & {channel, None}]


def _kinds_of_tables(config: FeedConfig) -> set[tuple[str, str]]:
    return {pair for table in config.keyed_tables for pair in table.kinds}


class Notices:
    """The routes of a feed for its notifications, and what the open transaction has said so far."""

    def __init__(self, config: FeedConfig, status: FeedStatus) -> None:
        self._router = Router(config, status)
        self._channels = frozenset(channel.encode() for channel in carried_channels(config))
        self._kinds_of_tables = _kinds_of_tables(config)
        self._said: set[bytes] = set()
        self._status = status
        self._fast: dict[bytes, list[FastRow]] = {}
        self._lessons = (
            0 if FAST_PATH.is_on and not any(route.position for route in config.routes) else LESSONS_MAX
        )

    def begin(self) -> None:
        """Another transaction's notifications follow."""
        self._said.clear()

    def is_repeated(self, channel: bytes, text: bytes) -> bool:
        """Whether the transaction has said the same before; it counts as said from now on."""
        digest = blake2b(b"%b\0%b" % (channel, text), digest_size=16).digest()
        if digest in self._said:
            return True
        if len(self._said) < SAID_MAX:
            self._said.add(digest)
        return False

    def publications(self, channel: bytes, text: bytes, now: float, position: bytes) -> Sequence[Outgoing]:
        """What a notification becomes; nothing, if no source listens to it, or it tells of a recovered row.

        Args:
            text: as it was given to `pg_notify`, in UTF-8.
            now: monotonic seconds.
            position: its place in the feed's order, in words.
        """
        if channel not in self._channels:
            return []
        for learned in self._fast.get(channel, ()):
            outgoing = learned.publications(text, now)
            if outgoing is not None:
                self._status.repeated += learned.repeated
                learned.repeated = 0
                return outgoing
        row = self._router.notification(channel, text, now)
        if row is None:
            return []
        is_told = (row.source.config.name, row.kind) not in self._kinds_of_tables
        if self._lessons < LESSONS_MAX:
            self._learn(channel, row, is_told)
        row.position = position
        return self._router.publications(row, now) if is_told else []

    def _learn(self, channel: bytes, row: Row, is_told: bool) -> None:
        """How notifications like this one are recognised, without the JSON parser."""
        self._lessons += 1
        learned = fast_row(row, None)
        known = self._fast.setdefault(channel, [])
        if learned is None or len(known) >= ROWS_MAX:
            return
        if all(learned.shape.gaps != other.shape.gaps for other in known):
            known.append(learned if is_told else FastRow(learned.shape, [], 0, 0, None))
