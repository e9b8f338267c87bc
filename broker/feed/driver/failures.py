"""How the tasks on one connection end: what they died of, and what is still to be done when they are stopped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import trio

STOP_S_MAX = 2.0
"""How long a feed may take to save its position when it is stopped."""


def first_line(error: BaseException) -> str:
    """What to show of an error: libpq's come with hints on more lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def alone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The database's error, if nothing else happened; otherwise everything but the database's errors."""
    rest = group.split((psycopg.Error, OSError))[1]
    if rest is not None:
        return rest
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def is_being_stopped() -> bool:
    """Whether the calling task has been cancelled from outside."""
    return trio.current_effective_deadline() == -math.inf


@contextmanager
def last_words() -> Iterator[None]:
    """For what a stopped feed does at its end: not cancelled, but short, and of no consequence if it fails."""
    with (
        trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S_MAX),
        suppress(psycopg.Error, OSError),
    ):
        yield  # what fails is repeated at the next start
