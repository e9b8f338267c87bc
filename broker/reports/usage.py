"""What the system says of this process; 0 where it does not say."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

MAXRSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024


def resident_bytes() -> int:
    """Resident memory."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        if resource is not None:
            return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def resident_bytes_max() -> int:
    """The most that resident memory has been.  Linux brings its own number up to date now and then only."""
    if resource is None:
        return 0
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT_BYTES, resident_bytes())


def open_files() -> int:
    """File descriptors."""
    with contextlib.suppress(OSError):
        return len(os.listdir(Path("/proc/self/fd")))
    return 0


def open_files_max() -> int:
    """How many there may be."""
    return 0 if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
