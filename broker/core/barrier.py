"""What nobody expected costs the item it came with, and nothing else: dropped, counted by reason, logged.

Whoever takes something from outside (a packet, a frame, a row, a request, a token, what waits for an interval) does so
inside one of these.  A reason is where in the code it went wrong, never a word of a peer's.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from broker.core.counters import Counters

if TYPE_CHECKING:
    from broker.core.outbox import Outbox
    from broker.core.publication import Publication
    from broker.core.receiver import Receiver

logger = logging.getLogger("broker")

RERAISE = "ROWCAST_RERAISE" in os.environ
"""Set by the tests: a bug must fail the test that met it."""

A_CONNECTION: Final = "a connection"
"""Where a bug was met, as the log has it, if nobody knows the peer."""

SAY_AGAIN_S: Final = 60.0
"""How often at most the log repeats one reason."""

_said: dict[str, tuple[float, int]] = {}
"""When a reason was logged last, and how often it was met since.  As many as there are lines of code that fail."""


class barrier:  # noqa: N801 - reads as a statement: `with barrier(...):`
    """Log and count what should not happen; the caller goes on after the `with`.

    A class rather than a generator: every idle connection with a task holds one, and a generator takes 400 bytes more.

    Args:
        where: whose item it was: a peer's address, a source's name.
        on_bug: ends the link at once, or forgets what was half done, where the caller can't know.
    """

    __slots__ = ("_counters", "_on_bug", "_where")

    def __init__(self, counters: Counters, where: str, on_bug: Callable[[], None] | None = None) -> None:
        self._counters = counters
        self._where = where
        self._on_bug = on_bug

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        report(self._counters, self._where, error)
        if self._on_bug is not None:
            self._on_bug()
        return not RERAISE


def flush(outboxes: list[Outbox], counters: Counters) -> None:
    """Each outbox's `flush`; a bug in one ends this peer's connection, and costs nobody else anything."""
    for outbox in outboxes:
        try:
            outbox.flush()
        except Exception as error:
            report(counters, A_CONNECTION, error)
            try:
                outbox.fail(error)
            except Exception as again:
                if again is not error:
                    report(counters, A_CONNECTION, again)
            if RERAISE:
                raise


def deliver_run(receiver: Receiver, run: list[Publication], granted: int, counters: Counters) -> None:
    """`receiver.deliver_run`; a bug in it costs this receiver the rest of the run, and nobody else anything."""
    try:
        receiver.deliver_run(run, granted)
    except Exception as error:
        report(counters, "a feed", error)
        if RERAISE:
            raise


def deliver_each(receiver: Receiver, run: list[Publication], granted: int, counters: Counters) -> None:
    """`receiver.deliver` for one after the other, behind the same barrier."""
    try:
        for publication in run:
            receiver.deliver(publication, granted, False)
    except Exception as error:
        report(counters, "NATS", error)
        if RERAISE:
            raise


def forward(receiver: Receiver, packets: bytes, count: int, payload_bytes: int, counters: Counters) -> None:
    """`receiver.forward`; a bug in it costs this receiver these packets, and nobody else anything."""
    try:
        receiver.forward(packets, count, payload_bytes)
    except Exception as error:
        report(counters, "NATS", error)
        if RERAISE:
            raise


def report(counters: Counters, where: str, error: Exception) -> None:
    """Count it, and log it with its traceback, each reason once a minute."""
    counters.link_bugs += 1
    reason = reason_of(error)
    counters.unexpected[reason] = counters.unexpected.get(reason, 0) + 1
    now = time.monotonic()
    said_at, unsaid = _said.get(reason, (-SAY_AGAIN_S, 0))
    if now - said_at < SAY_AGAIN_S:
        _said[reason] = (said_at, unsaid + 1)
        return
    _said[reason] = (now, 0)
    more = f" ({unsaid} more since the last time)" if unsaid else ""
    logger.error("a bug in Rowcast, met by what came from %s: %s%s", where, reason, more, exc_info=error)


def reason_of(error: BaseException) -> str:
    """Such as `OverflowError at tokens.py:31`: the kind, and the innermost place that is known."""
    traceback = error.__traceback__
    if traceback is None:
        return type(error).__name__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = Path(traceback.tb_frame.f_code.co_filename).name
    return f"{type(error).__name__} at {name}:{traceback.tb_lineno}"
