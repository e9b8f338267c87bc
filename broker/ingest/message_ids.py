"""Ids by which a message that is sent again is known: CLIENT:PACKET ID:EPOCH:DIGEST.

The epoch is when the message came first, in nanoseconds; so the same packet id used for another message later makes
another id.  A PUBLISH with DUP gets the id of the message before it with that packet id, if both are the same.  After
a start of the broker nothing is remembered: `is_unknown` then says that the table has to be asked.

Bounded: the least recently used are forgotten, and are asked for again.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from typing import Final
from urllib.parse import quote

from broker.core.publication import Publication

REMEMBERED_MAX: Final = 100_000

Key = tuple[bytes, int]


class MessageIds:
    """The newest id of each client and packet id."""

    def __init__(self) -> None:
        self._newest: OrderedDict[Key, tuple[str, str]] = OrderedDict()
        self._epoch = 0

    def of(self, publication: Publication, now_ns: int) -> str:
        """The id of a message that has just come.

        Args:
            now_ns: Unix time.
        """
        self._epoch = max(now_ns, self._epoch + 1)
        digest = digest_of(publication)
        if publication.packet_id == 0:
            return f"{prefix_of(publication)}{self._epoch:016x}:{digest}"
        key = (publication.client_id, publication.packet_id)
        if publication.dup:
            known = self._newest.get(key)
            if known is not None and known[1] == digest:
                self._newest.move_to_end(key)
                return known[0]
            if known is None:
                # To be asked for; if the table has none, this one is as good as any.
                return f"?{prefix_of(publication)}{self._epoch:016x}:{digest}"
        return self._remember(key, f"{prefix_of(publication)}{self._epoch:016x}:{digest}", digest)

    def know(self, client_id: bytes, packet_id: int, message_id: str) -> None:
        """Take over the id that a message got elsewhere."""
        self._remember((client_id, packet_id), message_id, message_id.rpartition(":")[2])

    def found(self, publication: Publication, asked: str, newest: str | None) -> str:
        """The id to use after the table was asked.

        Args:
            asked: what `of` returned.
            newest: the greatest id in the table that begins with `prefix_of`, if there is one.
        """
        digest = digest_of(publication)
        key = (publication.client_id, publication.packet_id)
        known = self._newest.get(key)
        if known is not None and known[1] == digest:
            return known[0]
        is_same = newest is not None and newest.rpartition(":")[2] == digest
        own = newest if is_same and newest is not None else asked.removeprefix("?")
        return self._remember(key, own, digest)

    def _remember(self, key: Key, message_id: str, digest: str) -> str:
        self._newest[key] = (message_id, digest)
        self._newest.move_to_end(key)
        if len(self._newest) > REMEMBERED_MAX:
            self._newest.popitem(last=False)
        return message_id


def is_unknown(message_id: str) -> bool:
    """Whether the id says only that there was none to give."""
    return message_id.startswith("?")


def prefix_of(publication: Publication) -> str:
    """How every id of this client and packet id begins."""
    return f"{quote(publication.client_id, safe='-._~/')}:{publication.packet_id}:"


def digest_of(publication: Publication) -> str:
    """Of topic and payload, eight digits."""
    return f"{zlib.crc32(publication.payload, zlib.crc32(publication.topic)):08x}"
