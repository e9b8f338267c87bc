"""One broker process: started on its own core, awaited until it answers a CONNECT, stopped by its id."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

from benchmarks import clients
from benchmarks.clients import Address
from benchmarks.machine import BROKER_CORES
from benchmarks.ports import free_port

START_S_MAX: Final = 20.0
STOP_S_MAX: Final = 10.0


@frozen
class Started:
    pid: int
    start_ms: float
    """From the start of the process to its first answer."""


class NotStarted(Exception):
    """A broker did not come up; the message ends with what it printed."""


def free_address() -> Address:
    """A loopback port that nobody has now."""
    return Address("127.0.0.1", free_port())


@contextmanager
def running(
    command: Sequence[str | Path],
    directory: Path,
    listening: Address,
    environment: Mapping[str, str] | None = None,
    speaks_mqtt: bool = True,
) -> Iterator[Started]:
    """Start `command` in `directory` on the broker's core; what it prints goes to `output.log` there.

    Args:
        listening: where it must accept a connection, and answer a CONNECT if it speaks MQTT, before this goes on.
    """
    began = time.monotonic()
    with (directory / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, BROKER_CORES),
        )
    try:
        _await_answer(process, listening, directory, speaks_mqtt)
        yield Started(process.pid, (time.monotonic() - began) * 1e3)
    finally:
        _stop(process)


def _await_answer(
    process: subprocess.Popen[bytes], listening: Address, directory: Path, speaks_mqtt: bool
) -> None:
    deadline = time.monotonic() + START_S_MAX
    while True:
        try:
            answering = (
                clients.connect(listening, b"ready") if speaks_mqtt else clients.open_socket(listening)
            )
            answering.close()
            return
        except (OSError, clients.Lost) as error:
            printed = (directory / "output.log").read_text(errors="replace")[-2000:]
            if process.poll() is not None:
                raise NotStarted(f"{process.args!r} ended with {process.returncode}:\n{printed}") from error
            if time.monotonic() > deadline:
                raise NotStarted(f"{process.args!r} does not answer on {listening}:\n{printed}") from error
            time.sleep(0.002)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
