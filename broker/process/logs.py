"""The log as mosquitto.conf asks for it: log_dest, log_type, log_timestamp, log_timestamp_format; or as JSON.

One event is one line: a line break in a message, be it of a traceback or in a name that a client chose, is written
as `\\n`, another character that acts on a terminal as `\\x1b`.  What goes to stdout or stderr under systemd begins with
the severity in journald's form, without the time, which the journal has.

Modules log through `logging` as usual; the levels that Mosquitto has and Python lacks are here.  One handler at the
root writes each line to every place that was asked for.  A place that cannot be written to loses lines, and stops
nothing.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TextIO

from broker.config.model import Logging
from broker.links.words import NOTICE, SUBSCRIBE, UNSUBSCRIBE
from broker.process.log_events import json_line
from broker.process.spill import Spill, may_wait
from broker.reports.log_tail import TAIL

try:
    import syslog
except ImportError:  # Windows has none; `log_dest syslog` is refused there
    syslog = None  # type: ignore[assignment]

WEBSOCKETS: Final = 12
INTERNAL: Final = 5

ERR, WARNING, NOTED, INFO, DEBUG = 3, 4, 5, 6, 7
"""Severities of syslog(3), which are journald's, too."""

_TYPES: Final = (
    (logging.ERROR, "error", ERR, b"$SYS/broker/log/E"),
    (logging.WARNING, "warning", WARNING, b"$SYS/broker/log/W"),
    (NOTICE, "notice", NOTED, b"$SYS/broker/log/N"),
    (logging.INFO, "information", INFO, b"$SYS/broker/log/I"),
    (UNSUBSCRIBE, "unsubscribe", NOTED, b"$SYS/broker/log/M/unsubscribe"),
    (SUBSCRIBE, "subscribe", NOTED, b"$SYS/broker/log/M/subscribe"),
    (WEBSOCKETS, "websockets", DEBUG, b"$SYS/broker/log/WS"),
    # As mosquitto: debug and internal lines are never published, each would cause the next.
    (logging.DEBUG, "debug", DEBUG, b""),
    (INTERNAL, "internal", DEBUG, b""),
)
"""Level, its name in log_type, in syslog, and its topic; a level in between counts as the one below it."""

for _kind in _TYPES:
    if _kind[0] not in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        logging.addLevelName(_kind[0], _kind[1].upper())

_FORMATTER: Final = logging.Formatter()
_OFF: Final = logging.CRITICAL + 1
NOT_SHOWN: Final = {
    name: getattr(logging, name) for name in ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")
}
"""What `logging` finds out for each line unless it is told not to (its HOWTO, Optimization): a quarter of its time."""
_WAITING_LINES_MAX: Final = 100
"""Lines for `log_dest topic` that were logged in another thread, or before anybody published."""

Publish = Callable[[bytes, bytes], object]
"""Called with topic and line; Mosquitto publishes them with QoS 2, not retained."""


class Place(Protocol):
    """Somewhere a line goes."""

    def write(self, line: str, kind: tuple[int, str, int, bytes], stamp: str) -> None:
        """One line; `kind` is a row of `_TYPES`, `stamp` the time as it is to be shown."""

    def reopen(self) -> None:
        """Open the file anew: the old one may have been moved away."""

    def close(self) -> None:
        """Write no more."""


def leads_to_journal(descriptor: int) -> bool:
    """Whether systemd has connected this descriptor to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class _Stream:
    """stdout or stderr, whatever it is at the time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_journal = leads_to_journal(1 if name == "stdout" else 2)
        self._spill: Spill | None = None
        self._descriptor = -1
        self._stamp = ""
        self._is_json = False

    def write(self, line: str, kind: tuple[int, str, int, bytes], stamp: str) -> None:
        stream = getattr(sys, self._name)
        if self._is_journal:
            line = f"<{kind[2]}>{line.removeprefix(stamp)}"
        spill = self._spill_for(stream)
        if spill is None:
            stream.write(line + "\n")
            stream.flush()
        else:
            self._stamp = "<4>" if self._is_journal else stamp
            self._is_json = line.startswith("{")
            spill.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def _spill_for(self, stream: TextIO) -> Spill | None:
        """Where the stream's other end may leave unread what is written, the way to write that does not wait."""
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            return None
        if descriptor != self._descriptor:
            self._descriptor = descriptor
            self._spill = Spill(descriptor, self._dropped, self._notice) if may_wait(descriptor) else None
        return self._spill

    def _dropped(self) -> None:
        TAIL.dropped += 1

    def _notice(self, count: int) -> bytes:
        said = f"Warning: {count} lines of the log are missing here, because nobody read it."
        if self._is_json:
            record = logging.makeLogRecord({"msg": said, "levelno": logging.WARNING})
            said = json_line(record, "warning", "")
        return f"{self._stamp}{said}\n".encode()

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        if self._spill is not None:
            self._spill.close()


class _File:
    """A file, appended to; opened again by name when asked, since it may have been moved away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = self._open()

    def _open(self) -> int:
        return os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600
        )

    def write(self, line: str, kind: tuple[int, str, int, bytes], stamp: str) -> None:
        os.write(self._descriptor, line.encode("utf-8", "backslashreplace") + b"\n")

    def reopen(self) -> None:
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        os.close(self._descriptor)


class _Syslog:
    def __init__(self, facility: int | None) -> None:
        number = syslog.LOG_DAEMON if facility is None else syslog.LOG_LOCAL0 + (facility << 3)
        syslog.openlog("rowcast", syslog.LOG_PID | syslog.LOG_CONS, number)

    def write(self, line: str, kind: tuple[int, str, int, bytes], stamp: str) -> None:
        syslog.syslog(kind[2], line)

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        syslog.closelog()


class _Topic:
    """$SYS/broker/log/…, in the thread that publishes; lines of other threads wait for its next one."""

    def __init__(self) -> None:
        self._publish: Publish | None = None
        self._thread = 0
        self._publishing = False
        self._waiting: deque[tuple[bytes, bytes]] = deque(maxlen=_WAITING_LINES_MAX)

    def publish_with(self, publish: Publish | None) -> None:
        self._publish = publish
        self._thread = threading.get_ident()

    def write(self, line: str, kind: tuple[int, str, int, bytes], stamp: str) -> None:
        if not kind[3] or self._publishing:
            return
        self._waiting.append((kind[3], line.encode("utf-8", "backslashreplace")))
        if self._publish is None or threading.get_ident() != self._thread:
            return
        self._publishing = True
        try:
            while self._waiting:
                self._publish(*self._waiting.popleft())
        finally:
            self._publishing = False

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        self._waiting.clear()


class Log(logging.Handler):
    """The handler that writes each line to its places."""

    def __init__(self, config: Logging) -> None:
        super().__init__(INTERNAL)
        self._topic = _Topic()
        self._places: list[Place] = []
        self._wanted: frozenset[str] = frozenset()
        self.apply(config)

    def apply(self, config: Logging) -> None:
        """Log as that says from now on; files are opened again."""
        self._config = config
        self._second, self._time = -1, ""
        for place in self._places:
            place.close()
        self._wanted = frozenset(config.log_type)
        self._places = []
        for wanted in config.log_dest:
            self._open(wanted)
        levels = [level for level, name, _, _ in _TYPES if name in self._wanted]
        logging.getLogger("broker").setLevel(min(levels, default=_OFF))

    def _open(self, wanted: str) -> None:
        if wanted in ("stdout", "stderr"):
            self._places.append(_Stream(wanted))
        elif wanted == "syslog":
            self._places.append(_Syslog(self._config.log_facility))
        elif wanted == "topic":
            self._places.append(self._topic)
        elif wanted.startswith("file "):
            self._open_file(Path(wanted.removeprefix("file ")))

    def _open_file(self, path: Path) -> None:
        try:
            self._places.append(_File(path))
        except OSError as error:
            # As mosquitto: go on without the file, and say errors only.
            self._places = [_Stream("stderr")]
            self._wanted = self._wanted & {"error"}
            said = f"Error: Unable to open log file {path} for writing. {error.strerror}."
            self.handle(logging.makeLogRecord({"msg": said, "levelno": logging.ERROR, "levelname": "ERROR"}))

    def write_to_files(self, level: int, text: str) -> None:
        """Log where it is kept only, for what has been printed already."""
        places = self._places
        self._places = [place for place in places if not isinstance(place, _Stream)]
        try:
            self.emit(logging.LogRecord("broker", level, "", 0, "%s", (text,), None))
        finally:
            self._places = places

    def publish_with(self, publish: Publish | None) -> None:
        """Where lines for `log_dest topic` go; called in the thread that calls this.  None ends it."""
        self._topic.publish_with(publish)

    def reopen(self) -> None:
        """Open files again by name, as SIGHUP asks for: logrotate has moved them away."""
        for place in self._places:
            try:
                place.reopen()
            except OSError as error:
                logging.getLogger("broker").error(
                    "Error: Unable to open log file for writing. %s.", error.strerror
                )

    def close(self) -> None:
        for place in self._places:
            place.close()
        self._places = []
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to every place that wants its type; `logging` calls it."""
        kind = next((kind for kind in _TYPES if record.levelno >= kind[0]), _TYPES[-1])
        if kind[1] not in self._wanted or not self._places:
            return
        try:
            stamp, line = self._line(record, kind[1])
        except (TypeError, ValueError):
            self.handleError(record)
            return
        TAIL.add(kind[1], line)
        for place in self._places:
            try:
                place.write(line, kind, stamp)
            except OSError:
                continue  # a full disk, a closed pipe: there is nowhere to say so

    def _line(self, record: logging.LogRecord, severity: str) -> tuple[str, str]:
        """The time as it stands at the line's beginning, and the line."""
        if self._config.log_format == "json":
            formatter = self.formatter or _FORMATTER
            traceback = formatter.formatException(record.exc_info) if record.exc_info else ""
            return "", json_line(record, severity, traceback)
        stamp = self._stamp(record.created)
        return stamp, stamp + _printable("\\n".join(self.format(record).splitlines()))

    def _stamp(self, created: float) -> str:
        """`1700000000: `, or in the form that was asked for."""
        if not self._config.log_timestamp:
            return ""
        second = int(created)
        if second != self._second:
            shown = str(second)
            if self._config.log_timestamp_format:
                shown = (
                    time.strftime(self._config.log_timestamp_format, time.localtime(second)) or "Time error"
                )
            self._second, self._time = second, shown + ": "
        return self._time


def _printable(text: str) -> str:
    """With what would act on the terminal that shows it written as `\\x1b`: a client may call itself anything."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode() for one in text
    )


def setup(config: Logging) -> Log:
    """Send all logging of this process where the configuration says.  Undo with `teardown`."""
    log = Log(config)
    for name in NOT_SHOWN:
        setattr(logging, name, None)
    root = logging.getLogger()
    root.addHandler(log)
    root.setLevel(logging.WARNING)
    return log


def teardown(log: Log) -> None:
    """Close the log, and leave `logging` as if it had not been set up."""
    logging.getLogger().removeHandler(log)
    for name, value in NOT_SHOWN.items():
        setattr(logging, name, value)
    logging.getLogger("broker").setLevel(logging.NOTSET)
    log.close()
