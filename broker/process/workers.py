"""Several processes of one configuration on one machine: a parent that starts them, and again what dies.

Each is a node of the cluster; they listen on the same ports (SO_REUSEPORT), and the kernel shares the connections out.
The parent knows signals and processes, and nothing else: SIGTERM and SIGINT end all, SIGHUP goes to all, as soon as
they obey it.  When the parent is killed, all end.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from broker.cli.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from broker.config.model import Config
from broker.config.workers import NUMBER_VARIABLE
from broker.process import logs
from broker.process.daemon import Background, pid_file
from broker.process.early import Early
from broker.process.parent import VARIABLE, Line
from broker.process.service import ServiceManager

logger = logging.getLogger("broker")

LOOK_S: Final = 0.1
PAUSE_S: Final = 0.5
PAUSE_MAX_S: Final = 15.0
STEADY_S: Final = 60.0
"""Who ran for so long is started again at once."""

KILL_AFTER_S: Final = 30.0
"""Beyond what the configuration allows for an orderly end."""


class Worker:
    """One process, and when it is to be started again."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.line: Line | None = None
        self.has_run = False
        """It has obeyed signals at some time, so the configuration was right then."""
        self.is_to_reload = False
        self.is_awaited = True
        """It is the first one, and has yet to open its listeners."""
        self.starts = 0
        """Those that failed included."""
        self.started_at = 0.0
        self.start_at = 0.0
        self.pause_s = PAUSE_S

    def obeys(self) -> bool:
        """Whether it can be told to reload."""
        obeys = self.line is not None and self.line.obeys()
        self.has_run = self.has_run or obeys
        return obeys

    def is_starting(self) -> bool:
        """Whether it is the first one, and has yet to open its listeners."""
        self.is_awaited = self.is_awaited and not (self.line is not None and self.line.listens())
        return self.is_awaited

    def ended(self) -> None:
        """The process is there no more."""
        self.process = None
        self.is_awaited = False
        self.is_to_reload = False  # the next one reads the configuration anyway
        if self.line is not None:
            self.line.close()
            self.line = None


class Workers:
    """The parent.

    Args:
        words: the command line that each is started with, as this process was.
        background: where this process has gone, if it has.
        early: what was asked for while the configuration was read.
    """

    def __init__(
        self,
        config: Config,
        words: Sequence[str],
        background: Background | None = None,
        early: Early | None = None,
    ) -> None:
        assert config.cluster is not None
        self._config = config
        self._words = [word for word in words if word not in ("-d", "--daemon")]
        self._background = background
        self._early = early or Early()
        self._log: logs.Log | None = None
        self._workers = [Worker(number) for number in range(1, config.cluster.workers + 1)]
        self._stops = False
        self._is_ready = False
        self._reloads = False
        self._status = EXIT_OK
        self._manager = ServiceManager()

    def serve(self) -> int:
        """Run until a signal; the exit status."""
        log = self._log = logs.setup(self._config.logging)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._reload)
        self._reloads = self._reloads or self._early.wants_reload
        for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # a socket that was handed over can't be several processes' own
        with pid_file(self._config.pid_file):
            logger.info("Starting %d processes.", len(self._workers))
            for worker in self._workers:
                self._start(worker)
            while not self._stops:
                time.sleep(LOOK_S)
                self._look()
            self._end()
        logs.teardown(log)
        if self._background is not None:
            self._background.report(self._status)
        return self._status

    def _stop(self, *_: object) -> None:
        self._stops = True

    def _reload(self, *_: object) -> None:
        self._reloads = True

    def _start(self, worker: Worker) -> None:
        """Now, or later where there is no room for another process: the others run on."""
        worker.starts += 1
        worker.started_at = time.monotonic()
        try:
            worker.line = line = Line()
            with closing(line.other):
                fd = line.other.fileno()
                environ = {**os.environ, NUMBER_VARIABLE: str(worker.number), VARIABLE: str(fd)}
                words = [sys.executable, "-m", "broker", *self._words]
                worker.process = subprocess.Popen(words, env=environ, pass_fds=(fd,))
        except OSError as error:
            worker.ended()
            worker.start_at = worker.started_at + PAUSE_MAX_S
            logger.error(
                "Process %d can't be started: %s (tried again in %.0f s).",
                worker.number,
                error.strerror,
                PAUSE_MAX_S,
            )

    def _look(self) -> None:
        now = time.monotonic()
        self._manager.beat(now, self._one_line)
        if self._reloads:
            self._reloads = False
            if self._log is not None:
                self._log.reopen()  # logrotate moves the files that this process, too, writes to
            for worker in self._workers:
                worker.is_to_reload = True
        for worker in self._workers:
            process = worker.process
            if process is None:
                if now >= worker.start_at:
                    self._start(worker)
                continue
            status = process.poll()
            if status is not None:
                self._ended(worker, status, now)
            elif worker.obeys() and worker.is_to_reload:
                worker.is_to_reload = False
                process.send_signal(signal.SIGHUP)
        if not (self._is_ready or self._stops or any(worker.is_starting() for worker in self._workers)):
            self._is_ready = True
            self._manager.ready()
            if self._background is not None:
                self._background.report(EXIT_OK)

    def _ended(self, worker: Worker, status: int, now: float) -> None:
        # A port that another program has is found out by who obeys already, and listens not yet.
        is_new = worker.is_starting() if status == EXIT_FAILED else not worker.has_run
        worker.ended()
        if status in (EXIT_CONFIG, EXIT_FAILED) and worker.starts <= 1 and is_new:
            what = "refuses the configuration" if status == EXIT_CONFIG else "can't start"
            logger.error("Process %d %s; all end.", worker.number, what)
            self._status, self._stops = status, True
            return
        worker.pause_s = PAUSE_S if now - worker.started_at > STEADY_S else worker.pause_s * 2
        worker.pause_s = min(worker.pause_s, PAUSE_MAX_S)
        worker.start_at = now + worker.pause_s
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        if status == EXIT_CONFIG:
            how = "a configuration that has been changed since and has a mistake (mend it; the others run on)"
        logger.error(
            "Process %d ended with %s; it is started again in %.1f s.", worker.number, how, worker.pause_s
        )

    def _one_line(self) -> str:
        running = sum(worker.process is not None for worker in self._workers)
        return f"{running} of {len(self._workers)} processes run"

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.process.send_signal(number)

    def _end(self) -> None:
        within_s = self._config.drain_s + self._config.shutdown_grace_s + KILL_AFTER_S
        self._manager.stopping(within_s)
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + within_s
        for worker in self._workers:
            process = worker.process
            if process is None:
                continue
            try:
                status = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            # One that has only just begun ends by the signal itself.
            if status not in (EXIT_OK, -signal.SIGTERM) and not self._status:
                self._status = EXIT_FAILED
