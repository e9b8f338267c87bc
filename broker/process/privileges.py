"""Giving up root's rights, once listeners and files are open.

What comes later has the rights of `user` only: so the log file is handed over to it, and what a running broker may
still import is imported before, because the files of a Python below /root can't be read afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.config.model import Config
from broker.process.daemon import DaemonError
from broker.process.system import is_root

if TYPE_CHECKING:
    import pwd

logger = logging.getLogger("broker")

_ALWAYS: Final = ("argon2.exceptions", "encodings.idna", "protocol.mqtt.connect_layout")
"""Imported when the first packet is traced, the first name looked up, or a password file read again."""


def drop_privileges(config: Config) -> None:
    """Change to the account `user` and its groups, if we are root; the name `root` and None change nothing.

    Raises:
        DaemonError: there is no such account, or the kernel refuses.
    """
    if not is_root():
        return
    if config.user is None or config.user == "root":
        is_toml = config.source is not None and config.source.suffix == ".toml"
        logger.warning(
            "Warning: Rowcast should not be run as root. Name an account: %s.",
            '`user = "rowcast"` in [broker]' if is_toml else "`user rowcast`",
        )
        return
    account = _account(config.user)
    _import_what_may_come(config)
    for path in _log_files(config):
        _hand_over(path, account)
    try:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except OSError as error:
        raise DaemonError(f"Error setting ids whilst dropping privileges: {error.strerror}.") from None
    if is_root():
        logger.warning("Warning: Rowcast should not be run as root, and `%s` is root.", config.user)
    _warn_if_python_is_hidden(config.user)


def _account(user: str) -> pwd.struct_passwd:
    import pwd

    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise DaemonError(
            f"Error: Unable to drop privileges to '{user}' because this user does not exist."
            f" Create it, as `useradd --system {user}`, or change the `user` option."
        ) from None


def _import_what_may_come(config: Config) -> None:
    for name in (*_ALWAYS, *_of_this(config)):
        with contextlib.suppress(ImportError):  # not installed, so not used
            importlib.import_module(name)


def _of_this(config: Config) -> Iterator[str]:
    for feed in config.feeds:
        yield f"broker.feed.{feed.kind}"
    if config.source is not None and config.source.suffix == ".toml":
        yield from ("jwt", "psycopg.conninfo")
    if "broker.gateway.identity" in sys.modules:
        yield "httpx"


def _log_files(config: Config) -> Iterator[Path]:
    for place in config.logging.log_dest:
        if place.startswith("file "):
            yield Path(place.removeprefix("file "))


def _hand_over(path: Path, account: pwd.struct_passwd) -> None:
    """Give root's file to the account, which has to open it again.  No link, which may lead to another's file."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == 0:
                os.fchown(descriptor, account.pw_uid, account.pw_gid)
        finally:
            os.close(descriptor)


def _warn_if_python_is_hidden(user: str) -> None:
    if getattr(sys, "frozen", False):
        return
    for file in (os.__file__, __file__):
        if not os.access(file, os.R_OK):
            logger.warning(
                "Warning: The user '%s' can't read %s. What Python has not imported by now, it can't import any more."
                " Install Python and Rowcast where that user can read them.",
                user,
                Path(file).parent,
            )
