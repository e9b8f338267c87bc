"""One of the nodes at a time: a record that ends by itself unless its holder renews it, written by compare-and-set.

Invariant: nobody takes a lease before its record has ended; its holder stops earlier than that when it can't renew.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

import trio

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.setup import last
from protocol.nats import headers, jetstream
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError, PubAck, Stored

logger = logging.getLogger("broker.cluster")

LEASE_S: Final = 4
"""What a record lives without being renewed; the server looks once a second."""

RENEW_S: Final = 1.0
MARGIN_S: Final = 0.5
"""So much earlier its holder stops."""

LOOK_S: Final = 0.3
"""Between two looks of somebody who wants it."""

ANSWER_S: Final = 1.0
AGAIN_S: Final = 0.01


class Record:
    """One value of the sessions' stream.

    Args:
        key: levels of a subject, such as `feed.main`.
    """

    def __init__(self, link: NatsLink, names: Names, key: bytes) -> None:
        self._link = link
        self._stream = names.sessions
        self._subject = names.record(key)

    async def get(self) -> Stored | None:
        """The record, a mark of its end included; None if there never was one.  Raises: Unavailable, ApiError."""
        return await last(self._link, self._stream, self._subject, ANSWER_S)

    async def put(self, value: bytes, expected: int, ttl_s: int = 0) -> PubAck:
        """Write it, if the record before it has this sequence.

        Raises:
            ApiError: `is_conflict` if somebody else wrote.
            Unavailable: unknown whether it was written.
        """
        said = {jetstream.EXPECTED_LAST_SUBJECT_SEQUENCE: b"%d" % expected}
        if ttl_s:
            said[jetstream.TTL] = b"%ds" % ttl_s
        return jetstream.pub_ack(await self._link.request(self._subject, value, ANSWER_S, said))


def has_ended(stored: Stored | None) -> bool:
    """Whether there is no value: there never was one, or it expired, or was given back."""
    return (
        stored is None
        or not stored.payload
        or headers.decode(stored.block).get(jetstream.MARKER_REASON) is not None
    )


class Lease:
    """One node's wish to be the one.

    Args:
        holder: this start of this node; no two are the same.
    """

    def __init__(self, link: NatsLink, names: Names, key: bytes, holder: bytes) -> None:
        self.key = key
        self.held_by = b""
        """Who has it, as far as this node has seen."""
        self._record = Record(link, names, key)
        self._link = link
        self._holder = holder
        self._sequence = 0
        self._asked_at = 0.0
        """When the last write was sent that is known to be there."""

    async def acquire(self) -> None:
        """Wait until it is ours."""
        while True:
            await self._link.until_open()
            try:
                stored = await self._record.get()
                # Our own, if the answer to a write of ours was lost; but who has said so may be a server that is cut
                # off, and does not know that it has ended: a quorum has to take it.
                if has_ended(stored) or (stored is not None and stored.payload == self._holder):
                    self._sequence = 0 if stored is None else stored.sequence
                    await self._write()
                    self.held_by = self._holder
                    return
                assert stored is not None
                self.held_by = stored.payload
            except (Unavailable, ApiError, NatsProtocolError):
                pass  # no quorum, or somebody was faster
            await trio.sleep(LOOK_S)

    async def keep(self) -> None:
        """Renew it until it is lost."""
        is_ours = True
        while is_ours and (ends_at := self._asked_at + LEASE_S - MARGIN_S) > trio.current_time():
            with trio.move_on_at(ends_at):
                await trio.sleep(RENEW_S)
                is_ours = await self._renew()
        logger.warning("The lease %s is lost.", self.key.decode())

    async def _renew(self) -> bool:
        """Try to; False if another node has it."""
        try:
            await self._write_on()
        except ApiError as error:
            return not error.is_conflict
        except (Unavailable, NatsProtocolError):
            pass
        return True

    async def _write_on(self) -> None:
        """As `_write`, also behind a renewal of ours whose answer was lost."""
        try:
            await self._write()
        except ApiError as error:
            if not error.is_conflict or not await self._is_still_ours():
                raise
            await self._write()  # at once: what was waited for an answer is not there any more

    async def _write(self) -> None:
        """Behind what is known of it.  Raises: Unavailable, ApiError, NatsProtocolError."""
        asked_at = trio.current_time()
        self._sequence = (await self._record.put(self._holder, self._sequence, LEASE_S)).sequence
        self._asked_at = asked_at

    async def _is_still_ours(self) -> bool:
        """After a conflict: whether it was our own renewal whose answer was lost.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        stored = await self._record.get()
        if stored is None or stored.payload != self._holder:
            return False
        self._sequence = stored.sequence
        return True

    async def give_back(self) -> None:
        """Let another node have it at once, also where a renewal is still under way."""
        with suppress(Unavailable, ApiError, NatsProtocolError):  # it ends by itself
            while True:
                try:
                    await self._record.put(b"", self._sequence, 1)
                    return
                except ApiError as error:
                    if not error.is_conflict or not await self._is_still_ours():
                        raise
                await trio.sleep(AGAIN_S)
