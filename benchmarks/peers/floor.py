"""The floor: a program in C that makes only the system calls, compiled where there is a compiler."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.machine import output_of
from benchmarks.measurement import Target
from benchmarks.peers.kinds import Peer, Unavailable
from benchmarks.peers.others import CACHE, HERE
from benchmarks.peers.process import free_address, running

SOURCE: Final = HERE / "floor.c"
PROGRAM: Final = CACHE / "floor"


def _install() -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("no C compiler (cc) to make it with")
    CACHE.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [compiler, "-O2", "-o", PROGRAM, SOURCE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(done.stderr.strip()[-400:])
    return output_of(compiler, "--version").splitlines()[0]


@contextmanager
def _start(directory: Path, needs: str) -> Iterator[Target]:
    address = free_address()
    with running([PROGRAM, str(address.port)], directory, address) as process:
        yield Target("floor", process.pid, process.start_ms, address, address)


FLOOR: Final = Peer("floor", frozenset({"one-topic"}), _install, _start)
