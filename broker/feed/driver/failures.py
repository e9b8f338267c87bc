"""How the tasks on one connection end: what they died of, and what is still to be done when they are stopped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg
import trio
from attrs import evolve

from broker.config.feeds import FeedConfig

STOP_S_MAX = 2.0
"""How long a feed may take to save its position when it is stopped."""

VALUE_READERS: Final = frozenset(
    {
        "_int_bool.c",
        "jsonpath_gram.y",
        "jsonpath_scan.l",
        "ltree_io.c",
        "ltxtquery_io.c",
        "segparse.y",
        "segscan.l",
        "tsquery.c",
        "tsvector_parser.c",
    }
)
"""Files of Postgres that read values (of tsvector, ltree, jsonpath) and refuse them by codes of faulty statements."""


def is_about_values(error: psycopg.Error) -> bool:
    """Whether it is a value that the server refuses, and not the statement that has it."""
    return isinstance(error, psycopg.DataError) or error.diag.source_file in VALUE_READERS


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


def patient(config: FeedConfig) -> FeedConfig:
    """The same for `last_words`: what a slow server takes is given up at their end, and no earlier."""
    return evolve(config, check_timeout_s=max(config.check_timeout_s, STOP_S_MAX))
