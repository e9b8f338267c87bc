"""Ids by which a message that is sent again is known: CLIENT:PACKET ID:EPOCH:DIGEST.

The epoch is when the message came first, in nanoseconds; so the same packet id used for another message later makes
another id.  A PUBLISH with DUP gets the id of the message before it with that packet id, if both are the same.  After
a start of the broker nothing is remembered: `is_unknown` then says that the table has to be asked.

Bounded: the least recently used are forgotten, and are asked for again.

Hot: compiled, and asked once for each message that a table or a log takes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from broker.core.publication import Publication

REMEMBERED_MAX: Final = 100_000
"""At most; half of it is the least that is remembered."""

_crc32: Final[Callable[..., int]] = zlib.crc32  # not looked up in its module each time

_PLAIN: Final = re.compile(rb"[A-Za-z0-9._~/-]*")

Key = tuple[bytes, int]


class MessageIds:
    """The newest id of each client and packet id."""

    def __init__(self) -> None:
        self._newest: dict[Key, str] = {}
        self._older: dict[Key, str] = {}
        """What was the newest before; those that are asked for come back from here."""
        self._epoch = 0
        self._client_id = b""
        self._name = ""
        """Of the client that was asked for last: most publish more than one message at a time."""

    def of(self, publication: Publication, now_ns: int) -> str:
        """The id of a message that has just come.

        Args:
            now_ns: Unix time.
        """
        digest = digest_of(publication)
        message_id = self._new(publication, now_ns, digest)
        if publication.packet_id == 0:
            return message_id
        key = (publication.client_id, publication.packet_id)
        if publication.dup:
            known = self._known(key)
            if known is None:
                return "?" + message_id  # To be asked for; if the table has none, this one is as good as any.
            if _digest_in(known) == digest:
                message_id = known
        return self._remember(key, message_id)

    def fresh(self, publication: Publication, now_ns: int) -> str:
        """An id that no message had before, whether or not this one may have come already."""
        message_id = self._new(publication, now_ns, digest_of(publication))
        return self._remember((publication.client_id, publication.packet_id), message_id)

    def newest(self, client_id: bytes, packet_id: int) -> str | None:
        """The id that a client's last message under this packet id had; None if it is not remembered."""
        return self._known((client_id, packet_id))

    def forget(self, client_id: bytes, packet_id: int) -> None:
        """The use of this packet id is over: its next message is another one, also if it says the same."""
        key = (client_id, packet_id)
        self._newest.pop(key, None)
        if self._older:
            self._older.pop(key, None)

    @property
    def epoch(self) -> int:
        """Of the last id that was made."""
        return self._epoch

    def found(self, publication: Publication, asked: str, newest: str | None) -> str:
        """The id to use after the table was asked.

        Args:
            asked: what `of` returned.
            newest: the greatest id in the table that begins with `prefix_of`, if there is one.
        """
        digest = digest_of(publication)
        key = (publication.client_id, publication.packet_id)
        known = self._known(key)
        if known is not None and _digest_in(known) == digest:
            return known
        is_same = newest is not None and _digest_in(newest) == digest
        own = newest if is_same and newest is not None else asked.removeprefix("?")
        return self._remember(key, own)

    def _new(self, publication: Publication, now_ns: int, digest: str) -> str:
        self._epoch = max(now_ns, self._epoch + 1)
        client_id = publication.client_id
        if client_id is not self._client_id:
            self._client_id = client_id
            self._name = _name_of(client_id)
        return f"{self._name}:{publication.packet_id}:{self._epoch.to_bytes(8, 'big').hex()}:{digest}"

    def _known(self, key: Key) -> str | None:
        known = self._newest.get(key)
        return known if known is not None else self._older.get(key)

    def _remember(self, key: Key, message_id: str) -> str:
        if len(self._newest) >= REMEMBERED_MAX >> 1:
            self._older = self._newest
            self._newest = {}
        self._newest[key] = message_id
        return message_id


def is_unknown(message_id: str) -> bool:
    """Whether the id says only that there was none to give."""
    return message_id.startswith("?")


def prefix_of(publication: Publication) -> str:
    """How every id of this client and packet id begins."""
    return prefix_for(publication.client_id, publication.packet_id)


def prefix_for(client_id: bytes, packet_id: int) -> str:
    """The same, without a message."""
    return f"{_name_of(client_id)}:{packet_id}:"


def _name_of(client_id: bytes) -> str:
    if _PLAIN.fullmatch(client_id) is not None:
        return client_id.decode()
    return quote(client_id, safe="-._~/")


def epoch_in(message_id: str) -> int:
    """Of an id; 0 of what is none."""
    try:
        return int(message_id.rsplit(":", 2)[-2], 16)
    except (ValueError, IndexError):
        return 0


def is_of(message_id: str, publication: Publication) -> bool:
    """Whether the message with this id may be the same."""
    return _digest_in(message_id) == digest_of(publication)


def _digest_in(message_id: str) -> str:
    return message_id.rpartition(":")[2]


def digest_of(publication: Publication) -> str:
    """Of topic and payload, eight digits."""
    return _crc32(publication.payload, _crc32(publication.topic)).to_bytes(4, "big").hex()
