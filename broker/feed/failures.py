"""What a nursery of tasks on one connection died of, as the single error that `supervise` understands."""

from __future__ import annotations

import psycopg


def alone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The database's error, if nothing else happened; otherwise everything but the database's errors."""
    rest = group.split((psycopg.Error, OSError))[1]
    if rest is not None:
        return rest
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
