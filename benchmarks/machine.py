"""What the kernel says about processes and this machine: CPU time, memory, cores, names.  Linux only."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CORES = sorted(os.sched_getaffinity(0))  # read once: pinning this process changes the answer

BROKER_CORES = frozenset(_CORES[:1])
GENERATOR_CORES = frozenset(_CORES[1:] or _CORES)
"""All cores but the broker's; the same one where there is only one."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, in steps of a clock tick (10 ms).

    Raises:
        ProcessLookupError: it has ended.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} has ended") from None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return (int(fields[11]) + int(fields[12])) * _TICK_S


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
