"""What every kind of broker here can do for the runner."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import frozen

from benchmarks.measurement import Target

Word = str | Path
"""One word of a command."""


class Unavailable(Exception):
    """A peer that can't be installed or started here, and why."""


@frozen
class Peer:
    """A broker to measure.

    Attributes:
        name: as it stands in tables.
        abilities: the workloads' `needs` that it meets, such as `mqtt` or `retain`.
        install: makes it ready, returns its version; raises `Unavailable`.
        start: runs it in an empty directory, for a workload that `needs` this, as long as the context lasts.
    """

    name: str
    abilities: frozenset[str]
    install: Callable[[], str]
    start: Callable[[Path, str], AbstractContextManager[Target]]
