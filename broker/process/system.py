"""What a system that is not Linux lacks, and what a configuration may not ask for there."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Final

from broker.config.model import Config

SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)
"""Those that the broker obeys, of those that there are."""

RELOAD: Final = getattr(signal, "SIGHUP", None)
SAVE: Final = getattr(signal, "SIGUSR1", None)
TELL: Final = getattr(signal, "SIGUSR2", None)


_STARTED: Final = (os.getpid(), os.getppid())


def known_number() -> int:
    """The number by which whoever started this process knows it.

    A single file is unpacked by a parent process, which stays, and hands signals down and the status up.
    """
    own, parent = _STARTED
    return parent if getattr(sys, "frozen", False) and os.getpid() == own else os.getpid()


def is_root() -> bool:
    """False where there is no such account."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def refusals(config: Config, *, daemon: bool = False) -> Iterator[str]:
    """What this system can't do of what is asked for, in words with a cure; nothing on Linux."""
    if daemon and not hasattr(os, "fork"):
        yield _refused(
            "-d, --daemon",
            "processes can't go into the background",
            "start it in a terminal, or as a service",
        )
    if config.user is not None and config.user != "root" and importlib.util.find_spec("pwd") is None:
        yield _refused(
            f"user {config.user}", "accounts can't be changed", "leave it out, and start Rowcast as that user"
        )
    if config.control_socket is not None and not hasattr(socket, "SO_PEERCRED"):
        yield _refused("control_socket", "sockets can't be handed over to another process", "leave it out")
    for listener in config.listeners:
        if listener.unix_path is not None and not hasattr(socket, "AF_UNIX"):
            yield _refused(f"listener {listener.unix_path}", "there are no unix sockets", "give it a port")
        if listener.bind_interface and sys.platform != "linux":
            interface = f"bind_interface {listener.bind_interface}"
            yield _refused(interface, "interfaces can't be looked up by name", "name the address instead")
        if listener.reuse_port and not hasattr(socket, "SO_REUSEPORT"):
            yield _refused("reuse_port", "processes can't share a port", "leave it out")
    if "syslog" in config.logging.log_dest and importlib.util.find_spec("syslog") is None:
        yield _refused("log_dest syslog", "there is no syslog", "log to a file: `log_dest file PATH`")


def _refused(what: str, why: str, instead: str) -> str:
    return f"Error: {what}: on this system ({sys.platform}) {why}; {instead}."
