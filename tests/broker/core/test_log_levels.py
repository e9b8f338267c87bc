"""What is remembered of a logger's level is never older than its last change."""

from __future__ import annotations

import logging

from broker.core.log_levels import is_logged


def test_a_change_of_level_counts_at_once() -> None:
    logger = logging.getLogger("test.hearing")
    try:
        for level in (logging.DEBUG, logging.ERROR, logging.INFO):
            logger.setLevel(level)
            for asked in (logging.DEBUG, logging.INFO, 25, logging.ERROR):
                for _ in range(2):  # the second time it is known
                    assert is_logged(logger, asked) == (asked >= level) == logger.isEnabledFor(asked)
        logger.disabled = True
        assert not is_logged(logger, logging.ERROR)
        logger.disabled = False
        logging.disable(logging.CRITICAL)
        assert not is_logged(logger, logging.ERROR)
    finally:
        logging.disable(logging.NOTSET)
        logger.disabled = False
        logger.setLevel(logging.NOTSET)
