"""One process: signals, the log, and the broker until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import FrameType

import trio

from broker.app import App
from broker.cli.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from broker.config.model import Config
from broker.core.publication import Publication
from broker.gateway.authentication import RulesError
from broker.links.listening.accept import ListenError
from broker.links.listening.inherited import Inherited, from_service_manager
from broker.links.listening.tls import TlsError
from broker.process import logs, system
from broker.process.daemon import Background, DaemonError, pid_file
from broker.process.early import Early
from broker.process.garbage import collect_when_quiet, traffic
from broker.process.hand_over import TakeOver, offer
from broker.process.parent import parent_of_this
from broker.process.privileges import drop_privileges
from broker.process.reloading import Reloading
from broker.process.service import ServiceManager
from broker.reports.subscription_tree import tree_lines
from broker.storage.errors import StorageError
from broker.version import VERSION

logger = logging.getLogger("broker")


class Process:
    """The broker as a process of its own.

    Args:
        config: what to run.
        reread: reads the configuration again, for SIGHUP; raises `ConfigError`.
        background: where this process has gone, if it has: who started it waits there.
        early: what was asked for while the configuration was read.
        take_over: take the sockets of the process that has `control_socket`.
    """

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config],
        background: Background | None = None,
        early: Early | None = None,
        *,
        take_over: bool = False,
    ) -> None:
        self._config = config
        self._reread = reread
        self._log = logs.setup(config.logging)
        self._is_ending = False
        self._is_wanted_to_end = False
        """A signal asked for the end before there was anything to end."""
        self._is_lost = False
        self._background = background
        self._early = early or Early()
        self._manager = ServiceManager()
        self._take_over = take_over
        self._old: TakeOver | None = None
        self._parent = parent_of_this()

    def serve(self) -> int:
        """Run until a signal; the exit status."""
        logger.info("rowcast version %s starting", VERSION)
        if self._config.source is not None:
            logger.info("Config loaded from %s.", self._config.source)
        self._warn()
        status = EXIT_OK
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._obey_outside)
        try:
            if self._take_over and self._config.control_socket is not None:
                self._old = TakeOver(self._config.control_socket)
            with pid_file(self._config.pid_file):
                trio.run(self._run, restrict_keyboard_interrupt_to_checkpoints=True)
        except* (ListenError, TlsError, DaemonError, StorageError, OSError) as group:
            self._say(_as_error(only(group)))
            status = EXIT_FAILED
        except* RulesError as group:
            self._say(str(only(group)))
            status = EXIT_CONFIG
        if self._is_lost:
            status = EXIT_FAILED  # the log has said why
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # Python keeps this one until its very end
        logger.info("rowcast version %s terminating", VERSION)
        logs.teardown(self._log)
        if self._background is not None:
            self._background.report(status)
        return status

    def _say(self, error: str) -> None:
        """Why it ends, to who is there to read it, and to the log, for those who come later."""
        print(error, file=sys.stderr)
        self._manager.tell(f"STATUS={error.splitlines()[0]}")
        self._log.write_to_files(logging.ERROR, error)

    async def _run(self) -> None:
        app = App(self._config)
        reloading = Reloading(app, self._config, self._reread, self._log)
        app.on_run = partial(self._operate, app, reloading)
        handed = from_service_manager(system.known_number()) if self._old is None else self._old.sockets
        app.inherited = Inherited(handed)
        self._log.publish_with(
            lambda topic, line: app.engine.publish(Publication(topic, line, LOG_QOS)),
        )
        with trio.open_signal_receiver(*system.SIGNALS) as signals:
            self._notice_reload(reloading)
            if self._parent is not None:
                self._parent.obeys()
            if self._is_wanted_to_end:
                self._end(app)
            async with trio.open_nursery() as obeying:
                obeying.start_soon(self._obey, app, reloading, signals, obeying)
                if self._early.wants_reload:
                    reloading.is_due = True
                    obeying.start_soon(self._renew, reloading)
                async with trio.open_nursery() as running:
                    await running.start(app.run)
                    app.server.pump.holds_off = reloading.holds_off
                    reloading.begin()
                    if self._config.control_socket is not None:
                        obeying.start_soon(offer, self._config.control_socket, app)
                        await trio.lowlevel.checkpoint()  # it is made before privileges are dropped
                    drop_privileges(self._config)
                    obeying.start_soon(collect_when_quiet, partial(traffic, app.engine.counters))
                    logger.info("rowcast version %s running", VERSION)
                    self._started(app)
                obeying.cancel_scope.cancel()
        self._log.publish_with(None)
        self._is_lost = app.keeper is not None and app.keeper.is_lost

    def _started(self, app: App) -> None:
        facts = app.operation.facts
        self._manager.ready()
        if self._parent is not None:
            self._parent.listens()
        if self._old is not None:
            self._old.ready()
        facts.pulse.on_beat = lambda now: self._manager.beat(now, facts.one_line)
        if self._background is not None:
            self._background.report(EXIT_OK)

    def _operate(self, app: App, reloading: Reloading) -> None:
        """What `rowcast ctl` may ask of the process."""
        app.operation.reload = reloading.ask
        app.operation.drain = app.stop

    def _obey_outside(self, number: int, _: object) -> None:
        """A signal before the broker listens to them: it ends in order, once it can, and at once when told again."""
        if self._is_ending:
            return
        if self._is_wanted_to_end:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._is_wanted_to_end = True

    def _notice_reload(self, reloading: Reloading) -> None:
        """Let nobody be served by the old rules who comes after the signal, however busy the loop is."""
        if system.RELOAD is None:
            return
        trio_handler = signal.getsignal(system.RELOAD)

        def handle(number: int, frame: FrameType | None) -> None:
            reloading.is_due = True
            if callable(trio_handler):
                trio_handler(number, frame)

        signal.signal(system.RELOAD, handle)

    def _end(self, app: App) -> None:
        self._is_ending = True
        self._manager.stopping(app.config.drain_s + app.config.shutdown_grace_s + STOP_S)
        app.stop()

    async def _obey(
        self, app: App, reloading: Reloading, signals: AsyncIterator[int], nursery: trio.Nursery
    ) -> None:
        stopping_since = 0.0
        async for number in signals:
            if number == system.RELOAD:
                nursery.start_soon(self._renew, reloading)
            elif number == system.SAVE:
                nursery.start_soon(app.save)
            elif number == system.TELL:
                nursery.start_soon(log_subscriptions, app)
            elif not app.is_stopping:
                stopping_since = trio.current_time()
                self._end(app)
            elif trio.current_time() - stopping_since > SAME_SIGNAL_S:
                os._exit(EXIT_FAILED)  # a second signal ends at once

    async def _renew(self, reloading: Reloading) -> None:
        self._manager.reloading()
        await reloading.obey()
        self._manager.ready()

    def _warn(self) -> None:
        for warning in self._config.warnings:
            logger.warning("Warning: %s", warning)


STOP_S = 30.0
"""What saving may take at the end, beside asking clients to go and sending what is owed."""

SAME_SIGNAL_S = 0.2
"""Within this time a second signal is the first one again: a wrapper passes on what a terminal or systemd has sent to
the whole group of processes."""

LOG_QOS = 2
"""As Mosquitto publishes its log lines."""


async def log_subscriptions(app: App) -> None:
    """Log who subscribed to what, as Mosquitto prints it on SIGUSR2; a long list a bit at a time."""
    async for line in tree_lines(app.engine):
        logger.info("%s", line)
        await trio.lowlevel.checkpoint()


def only(error: BaseException) -> BaseException:
    """The exception inside groups of one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _as_error(error: BaseException) -> str:
    text = str(error)
    return text if text.startswith("Error: ") else f"Error: {text}"
