"""What the kernel says about processes and this machine: CPU time, memory, cores, names.  Linux only."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from pathlib import Path

_CPUCLOCK_SCHED = 2  # in time.h of Linux
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CORES = sorted(os.sched_getaffinity(0))  # read once: pinning this process changes the answer

BROKER_CORES = frozenset(_CORES[:1])
GENERATOR_CORES = frozenset(_CORES[1:] or _CORES)
"""All cores but the broker's; the same one where there is only one."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, those that have ended included.

    Raises:
        ProcessLookupError: it has ended.

    Source: the clock that clock_getcpuclockid(3) names for a process.
    """
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        raise ProcessLookupError(f"process {pid} has ended") from None


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM now (RSS)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def pin_generator() -> None:
    """Keep this process, and what it starts without saying otherwise, off the broker's core."""
    os.sched_setaffinity(0, GENERATOR_CORES)


def allow_open_files(wanted: int) -> int:
    """Raise this process's limit of open files as far as it may, and return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return max(soft, raised)


def processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def describe() -> str:
    """One line: processor, cores, memory, kernel."""
    memory_gb = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES / 1e9
    cores = len(_CORES)
    return f"{processor_name()}, {cores} cores, {memory_gb:.0f} GB, Linux {platform.release()}"


def output_of(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints, both streams, or an empty text when it can't run."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()
