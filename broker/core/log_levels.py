"""Whether a line of the log would go anywhere, as `logging` knows it, without the price of asking.

What a connection says of itself is asked about five times before it is ready.
"""

from __future__ import annotations

import logging


def is_logged(logger: logging.Logger, level: int) -> bool:
    """As `logger.isEnabledFor(level)`."""
    # Kept by `logging` itself until a level changes; interpreted code looks there for us when it is not known yet.
    known: dict[int, bool] | None = getattr(logger, "_cache", None)
    if known is not None and not logger.disabled:
        answer = known.get(level)
        if answer is not None:
            return answer
    return logger.isEnabledFor(level)
