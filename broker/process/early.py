"""Signals that come before the broker obeys them: none that asks for something may end it.

SIGHUP, SIGUSR1 and SIGUSR2 end a process that has said nothing of them, and logrotate, for one, sends SIGHUP whenever
its hour comes.
"""

from __future__ import annotations

import signal

from broker.process import system


class Early:
    """What was asked for while the process started.

    Attributes:
        wants_reload: the configuration may have changed since it was read.
    """

    def __init__(self) -> None:
        self.wants_reload = False

    def listen(self) -> None:
        """From now on, until somebody else does."""
        for number in (system.RELOAD, system.SAVE, system.TELL):
            if number is not None:
                signal.signal(number, self._note)

    def _note(self, number: int, _: object) -> None:
        if number == system.RELOAD:
            self.wants_reload = True
