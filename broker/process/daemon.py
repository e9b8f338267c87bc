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


def become_daemon() -> None:
    """Go on in the background, without a terminal; the process that was started ends with status 0.

    Standard input and output are /dev/null from then on: a log that should be seen goes to a file or to syslog.  The
    folder stays, since relative names in the configuration are meant from there.
    """
    if getattr(sys, "frozen", False):
        _start_again_in_background()
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    if os.fork() > 0:  # no leader of a session: a terminal that is opened later is not ours
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    if nothing > 2:
        os.close(nothing)


def _start_again_in_background() -> NoReturn:
    """A single-file program takes its unpacked files away when its first process ends: a fork could not go on."""
    import subprocess

    words = [word for word in sys.argv[1:] if word not in ("-d", "--daemon")]
    subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYINSTALLER_RESET_ENVIRONMENT": "1"},  # unpack anew
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os._exit(0)


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
            path.unlink()
