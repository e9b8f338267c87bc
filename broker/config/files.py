"""Files that an operator names, read whole without waiting: a pipe or a device is none, however often SIGHUP comes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from broker.config.steps import Steps, finished

FILE_BYTES_MAX: Final = 256 * 1024 * 1024
"""A million users with their hashes take less than half of it."""


STEP_BYTES: Final = 1024 * 1024


def read_file(path: Path, *, may_be_pipe: bool = False) -> bytes:
    """All that the file holds.

    Args:
        may_be_pipe: read a pipe to its end, too: somebody is there who writes.

    Raises:
        OSError: it can't be read, is longer than `FILE_BYTES_MAX`, or is no file; `strerror` says which.
    """
    return finished(read_in_steps(path, may_be_pipe=may_be_pipe))


def read_in_steps(path: Path, *, may_be_pipe: bool = False) -> Steps[bytes]:
    """As `read_file`; a file of one step takes no other."""
    pieces: list[bytes] = []
    size = 0
    with _opened(path, may_be_pipe) as descriptor:
        while piece := os.read(descriptor, STEP_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > FILE_BYTES_MAX:
                raise OSError(errno.EFBIG, f"It has more than {FILE_BYTES_MAX >> 20} MB", str(path))
            if len(piece) == STEP_BYTES:
                yield
    return b"".join(pieces)


def check_file(path: Path) -> None:
    """Raises: OSError, as `read_file` would; for files that a library reads."""
    with _opened(path, may_be_pipe=False):
        pass


class _opened:  # noqa: N801 - reads as a statement
    """A descriptor for as long as the `with` lasts."""

    def __init__(self, path: Path, may_be_pipe: bool) -> None:
        # Opening a pipe would wait for somebody who writes.
        no_wait = 0 if may_be_pipe else getattr(os, "O_NONBLOCK", 0)
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | no_wait)
        mode = os.fstat(self._descriptor).st_mode
        if stat.S_ISREG(mode) or (may_be_pipe and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))):
            return
        os.close(self._descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "It is a pipe or a device, not a file", str(path))

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
