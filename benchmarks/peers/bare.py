"""The bare LISTEN loop as a peer: with the interpreter and the psycopg that the installed Rowcast has.

A faster or slower interpreter on one of the two sides would be all that is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.machine import output_of
from benchmarks.measurement import Target
from benchmarks.peers import postgres, rowcast
from benchmarks.peers.kinds import Peer, Word
from benchmarks.peers.process import free_address, running

_SCRIPT: Final = Path(__file__).parent / "bare_listen.py"


def _python() -> Path:
    return rowcast.venv_of("compiled") / "bin" / "python"


def _install() -> str:
    rowcast.install("compiled")
    say = "import platform, psycopg; print('psycopg', psycopg.__version__ + ', Python', platform.python_version())"
    return output_of(_python(), "-c", say)


@contextmanager
def _start(directory: Path, needs: str) -> Iterator[Target]:
    address = free_address()
    command: list[Word] = [_python(), _SCRIPT, str(address.port), postgres.dsn()]
    with running(command, directory, address, speaks_mqtt=False) as process:
        facts = {"bare": "yes", "dsn": postgres.dsn()}
        yield Target("bare LISTEN", process.pid, process.start_ms, address, address, facts)


BARE_LISTEN: Final = Peer("bare LISTEN", frozenset({"feed"}), _install, _start)
