"""What a process does once: go into the background, leave its number in a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn


class DaemonError(Exception):
    """Why the process cannot start: `Error: ` and what would be right."""


class Background:
    """A process in the background, for whose start another one waits.

    Args:
        descriptor: the end of a pipe at whose other end that one reads its exit status.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def report(self, status: int) -> None:
        """Let the other one end with this status, once; from then on nobody reads what is written to stderr."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            os.write(self._descriptor, bytes((status,)))
        os.close(self._descriptor)
        self._descriptor = -1
        _to_nothing(2)


def become_daemon() -> Background:
    """Go on in the background, without a terminal.

    The process that was started ends with the status that `Background.report` is told, so with 0 once every listener
    is open, and meanwhile shows what is written to stderr.  Standard input and output are /dev/null at once: a log that
    should be seen goes to a file or to syslog.  The folder stays, since relative names in the configuration are meant
    from there.
    """
    inherited = os.environ.pop(INHERITED, "")
    if inherited:
        return Background(int(inherited))
    waiting, reporting = os.pipe()
    if getattr(sys, "frozen", False):
        _start_again_in_background(waiting, reporting)
    if os.fork() > 0:
        _wait(waiting, reporting)
    os.close(waiting)
    os.setsid()
    if os.fork() > 0:  # no leader of a session: a terminal that is opened later is not ours
        os._exit(0)
    _to_nothing(0, 1)
    return Background(reporting)


INHERITED = "ROWCAST_REPORT_TO"
"""Tells the pipe's descriptor to a single-file program that was started again."""


def _to_nothing(*descriptors: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    if nothing > 2:
        os.close(nothing)


def _wait(waiting: int, reporting: int) -> NoReturn:
    """End with the status that comes, or with 1 if the other one ended without a word."""
    os.close(reporting)
    said = os.read(waiting, 1)
    os._exit(said[0] if said else 1)


def _start_again_in_background(waiting: int, reporting: int) -> NoReturn:
    """A single-file program takes its unpacked files away when its first process ends: a fork could not go on."""
    import subprocess

    subprocess.Popen(
        [sys.executable, *sys.argv[1:]],
        env={**os.environ, INHERITED: str(reporting), "PYINSTALLER_RESET_ENVIRONMENT": "1"},  # unpack anew
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(reporting,),
    )
    _wait(waiting, reporting)


@contextlib.contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """The process's number in that file while the body runs; None is no file.

    Raises:
        DaemonError: it cannot be written.
    """
    if path is None:
        yield
        return
    try:
        path.write_text(str(os.getpid()))
    except OSError as error:
        raise DaemonError(f"Error: Unable to write pid file. {path}: {error.strerror}.") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path.read_text() == str(os.getpid()):  # and not that of one that has taken over
                path.unlink()
