"""Brokers that somebody has built already: `--peer flashmq=PATH`, `--peer nanomq=PATH`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.machine import output_of
from benchmarks.measurement import Target
from benchmarks.peers.kinds import Peer, Unavailable, Word
from benchmarks.peers.process import free_address, running

ABILITIES: Final = frozenset(
    {"mqtt", "one-topic", "acknowledged", "retain", "connections", "large", "mqtt-5"}
)

_FLASHMQ: Final = """\
listen {{
    protocol mqtt
    port {port}
    inet4_bind_address 127.0.0.1
}}
allow_anonymous true
thread_count 1
log_level error
client_initial_buffer_size 1024
max_packet_size 2097152
"""

_NANOMQ: Final = """\
listeners.tcp {{ bind = "127.0.0.1:{port}" }}
auth {{ allow_anonymous = true }}
log {{ to = [console], level = error }}
"""


@contextmanager
def _start(
    name: str,
    conf: str,
    command: Callable[[Path], list[Word]],
    directory: Path,
    needs: str,
) -> Iterator[Target]:
    mqtt = free_address()
    path = directory / f"{name}.conf"
    path.write_text(conf.format(port=mqtt.port))
    with running(command(path), directory, mqtt) as process:
        yield Target(name, process.pid, process.start_ms, mqtt, mqtt)


def given(words: str) -> Peer:
    """The peer that `NAME=PATH` stands for; NAME is flashmq or nanomq.

    Raises:
        SystemExit: it is neither, or PATH is no program.
    """
    kind, _, path = words.partition("=")
    kinds: dict[str, tuple[str, str, Callable[[Path], list[Word]]]] = {
        "flashmq": ("FlashMQ", _FLASHMQ, lambda conf: [path, "--config-file", conf]),
        "nanomq": ("NanoMQ", _NANOMQ, lambda conf: [path, "start", "--conf", conf]),
    }
    if kind not in kinds:
        raise SystemExit(
            f"--peer {words}: write {', '.join(f'{name}=PATH' for name in kinds)} or rowcast=COMMIT"
        )
    if not os.access(path, os.X_OK):
        raise SystemExit(f"--peer {words}: {path or 'nothing'} is no program that can be run")
    name, conf, command = kinds[kind]
    start: Callable[[Path, str], AbstractContextManager[Target]] = partial(_start, name, conf, command)
    return Peer(name, ABILITIES, lambda: _version(path), start)


def _version(path: str) -> str:
    printed = output_of(path, "--version")
    if not printed:
        raise Unavailable(f"{path} --version says nothing")
    return printed.splitlines()[0]
