"""One process: signals, the log, and the broker until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator

import trio

from broker.app import App
from broker.config.arguments import Arguments
from broker.config.model import Config
from broker.links.accept import ListenError
from broker.version import version

logger = logging.getLogger("broker")

EXIT_OK = 0
EXIT_FAILED = 1


def serve(config: Config, arguments: Arguments) -> int:
    """Run the broker in this process; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(created).0f: %(message)s")
    logger.info("rowcast version %s starting", version())
    status = EXIT_OK
    try:
        trio.run(_serve, config, restrict_keyboard_interrupt_to_checkpoints=True)
    except* ListenError as group:
        print(f"Error: {only(group)}", file=sys.stderr)
        status = EXIT_FAILED
    logger.info("rowcast version %s terminating", version())
    return status


def only(error: BaseException) -> BaseException:
    """The exception inside groups of one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(config: Config) -> None:
    app = App(config)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as obeying:
            obeying.start_soon(_obey, app, signals)
            async with trio.open_nursery() as running:
                await running.start(app.run)
                logger.info("rowcast version %s running", version())
            obeying.cancel_scope.cancel()


async def _obey(app: App, signals: AsyncIterator[int]) -> None:
    """The first signal stops in order; a second one ends the process at once."""
    async for _ in signals:
        if app.is_stopping:
            os._exit(EXIT_FAILED)
        app.stop()
