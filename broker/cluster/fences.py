"""What a node has sent is taken by the log only until the node is dead to the others, however long it is on its way.

    shop.MSGS.x.MARK    the fence of a node that has died under this mark; who takes its clients has put it there before

Every batch of a node is to be taken only while there is no fence of its own mark (compare-and-set).  So what comes
behind the fence is refused, and who looks into the log after the fence sees all that will ever be there.

Invariant: `Liveness.is_dead` says that a node is dead only once its fence is in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.setup import last
from protocol.nats import jetstream
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

ANSWER_S: Final = 1.0


class Fences:
    """As one node sees to them.

    Attributes:
        condition: headers of this node's batches.
        on_own: told of a mark of this node that has its fence.
    """

    def __init__(self, link: NatsLink, names: Names) -> None:
        self.condition = b""
        self.on_own: Callable[[bytes], None] = lambda mark: None
        self._mark = b""
        self._link = link
        self._names = names
        self._there: set[bytes] = set()

    def live_as(self, mark: bytes) -> None:
        """From now on this node's batches are sent under this mark."""
        self._mark = mark
        self.condition = b"%b: 0\r\n%b: %b\r\n" % (
            jetstream.EXPECTED_LAST_SUBJECT_SEQUENCE, jetstream.EXPECTED_LAST_SUBJECT, self._names.fence(mark),
        )  # fmt: skip

    async def put_up(self, mark: bytes) -> None:
        """The node of this mark is dead.  Raises: Unavailable, ApiError, NatsProtocolError."""
        if mark in self._there:
            return
        said = {jetstream.EXPECTED_LAST_SUBJECT_SEQUENCE: b"0"}
        try:
            jetstream.pub_ack(await self._link.request(self._names.fence(mark), b"", ANSWER_S, said))
        except ApiError as error:
            if not error.is_conflict:
                raise
            if not await self._is_there(mark):
                raise Unavailable("the log is just taking something of a node that is dead") from None
        self._there.add(mark)

    async def look_at_own(self) -> None:
        """The log has refused a batch: see whether that was for the fence, if that can be asked."""
        mark = self._mark
        with suppress(Unavailable, ApiError, NatsProtocolError):
            if await self._is_there(mark):
                self.on_own(mark)

    async def _is_there(self, mark: bytes) -> bool:
        stream, subject = self._names.messages, self._names.fence(mark)
        return await last(self._link, stream, subject, ANSWER_S) is not None

    def log_is_new(self) -> None:
        """There is none in it."""
        self._there.clear()
