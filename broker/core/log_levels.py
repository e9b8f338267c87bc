"""Whether a line of the log would go anywhere, as `logging` knows it, without the price of asking.

What a connection says of itself is asked about five times before it is ready.
"""

from __future__ import annotations

import logging
from typing import Final

IS_KEPT: Final = isinstance(getattr(logging.getLogger(), "_cache", None), dict)


def is_logged(logger: logging.Logger, level: int) -> bool:
    """As `logger.isEnabledFor(level)`."""
    # Kept by `logging` itself until a level changes; interpreted code looks there for us when it is not known yet.
    if IS_KEPT and not logger.disabled:
        answer: bool | None = logger._cache.get(level)  # type: ignore[attr-defined]
        if answer is not None:
            return answer
    return logger.isEnabledFor(level)
