"""A will where the other nodes find it, from CONNECT until it is published or not wanted any more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster import session_state
from broker.cluster.lease import Record, has_ended
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.said import UNREADABLE
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError, Stored

if TYPE_CHECKING:
    from broker.core.engine import Engine
    from broker.core.publication import Publication

REMOVE_S: Final = 30.0
AGAIN_S: Final = 0.3


class WillRecord:
    """Of one connection of one client.

    Args:
        message_id: by which the log knows it, whoever publishes it.
        said: the will, as it would be published.
        delay_s: between the end of the connection and the will.
        expiry_s: message expiry from when it is published; -1 for none.

    Attributes:
        publication: the session's own.
        is_sent: it is on its way to the log.
    """

    def __init__(
        self,
        engine: Engine,
        link: NatsLink,
        names: Names,
        message_id: bytes,
        said: Publication,
        delay_s: int,
        expiry_s: int,
    ) -> None:
        self.message_id = message_id
        self.publication: Publication | None = None
        self.is_sent = False
        self._engine = engine
        self._link = link
        self._names = names
        self._said = said
        self._delay_s = delay_s
        self._expiry_s = expiry_s
        self._mark = b""
        self._written = 0

    async def put(self, mark: bytes) -> None:
        """Raises: Unavailable, ApiError, NatsProtocolError."""
        self._mark = mark
        record = Record(self._link, self._names, self._names.will(mark, self._said.client_id))
        value = {
            "i": self.message_id.decode(),
            "w": session_state.written(self._said, self._engine.now, time.time()),
            "d": self._delay_s,
            "e": self._expiry_s,
        }
        stored = await record.get()
        expected = 0 if stored is None else stored.sequence
        self._written = (await record.put(json.dumps(value).encode(), expected)).sequence

    async def remove(self) -> None:
        """It has been published, or the client said goodbye; unless it has another one by now."""
        client = self._names.client(self._said.client_id)[2:]
        await remove(self._link, self._names, self._mark, client, self.message_id, self._written)


async def remove(
    link: NatsLink, names: Names, mark: bytes, client: bytes, message_id: bytes, written: int = 0
) -> None:
    """Remove the record of a will, if it is still that one; an attempt of some time.

    Args:
        written: its sequence, if that is known: who says that it is older has yet to catch up.
    """
    record = Record(link, names, b"w.%b.%b" % (mark, client))
    await _replace(record, lambda stored: b"" if id_of(stored) == message_id else None, written)


async def came_back(link: NatsLink, names: Names, mark: bytes, client_id: bytes, goes_on: bool) -> None:
    """A dead node's client is another's now: a will that waits for its delay is not wanted, or due; an attempt.

    Args:
        goes_on: so does its session, which would end else [MQTT-3.1.3-9].
    """

    def changed(stored: Stored) -> bytes | None:
        try:
            value = json.loads(stored.payload)
            if not float(value["d"]):
                return None  # it was due when the node died
        except UNREADABLE:
            return None
        return b"" if goes_on else json.dumps(value | {"d": 0}).encode()

    await _replace(Record(link, names, names.will(mark, client_id)), changed)


async def _replace(record: Record, changed: Callable[[Stored], bytes | None], written: int = 0) -> None:
    """Write what becomes of a record, b"" to remove it, None to leave it; tried for some time."""
    with trio.move_on_after(REMOVE_S):
        while True:
            with suppress(Unavailable, ApiError, NatsProtocolError):
                stored = await record.get()
                if (0 if stored is None else stored.sequence) >= written:
                    if stored is None or has_ended(stored) or (value := changed(stored)) is None:
                        return
                    await record.put(value, stored.sequence, 0 if value else 1)
                    return
            await trio.sleep(AGAIN_S)


def id_of(stored: Stored) -> bytes:
    """By which the log would know the will of a record; b"" for none."""
    try:
        return str(json.loads(stored.payload)["i"]).encode()
    except UNREADABLE:
        return b""
