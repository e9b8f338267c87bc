"""A TOML file to a Config, strictly: every mistake at once, each as `FILE:LINE: what, and what would be right`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import evolve

from broker.config.files import read_file
from broker.config.model import (
    Config,
    ConfigError,
    Delivery,
    Health,
    Limits,
    Persistence,
)
from broker.config.toml.checks import check_choice
from broker.config.toml.cluster import cluster_of
from broker.config.toml.document import Document, places, resolved
from broker.config.toml.feed import FeedReader
from broker.config.toml.history import history_rules
from broker.config.toml.lines import Lines
from broker.config.toml.listeners import ListenerReader
from broker.config.toml.process import check_ports, http_of, logging_of
from broker.config.toml.reader import Reader, unknown_key
from broker.config.toml.tables import RENAMES, BrokerTable
from protocol.mistakes import mistake_at

T = TypeVar("T")

TABLES = (
    "admin",
    "broker",
    "cluster",
    "database",
    "delivery",
    "fetch",
    "history",
    "health",
    "limits",
    "listener",
    "logging",
    "market",
    "metrics",
    "mqtt",
    "persistence",
    "recover",
    "security",
    "source",
    "tokens",
    "websocket",
)

QUEUE_LIMITS = {"max_queued_messages", "max_queued_bytes"}
QUEUED_BYTES_MAX = 64 * 1024 * 1024
"""Per client and by size only.  Mosquitto's 1000 messages would lose most of a transaction of 3000 rows."""

DSN_DEFAULT = "env:DATABASE_URL"

BOM: Final = b"\xef\xbb\xbf"
"""What an editor for Windows may write in front of UTF-8."""

_POSITION = re.compile(r" *\(at (?:line (\d+), column \d+|end of document)\)$")


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read a configuration.

    Args:
        path: the file; relative paths inside it start at its folder.
        environ: where `env:NAME` is looked up.

    Raises:
        ConfigError: with every mistake that could be found.
    """
    text = _text_of(path)
    written = _parse(path, text)
    reader = Reader(path, Lines(text), RENAMES)
    if isinstance(database := written.get("database"), dict):
        database.setdefault("dsn", DSN_DEFAULT)
    document: Document = resolved(written, environ, reader)
    config = _read(reader, document, path)
    numbers = range(len(config.listeners))
    listeners = {("listener", str(number)): reader.where(("listener", number)) for number in numbers}
    config = evolve(config, places=places(written, reader) | listeners)
    if mistakes := reader.mistakes():
        raise ConfigError(*mistakes, config=config, may_open_doors=bool(reader.doubts & _DOORS))
    return config


_DOORS: Final = {"", "listener", "security", "tokens", "websocket"}
"""The tables that say who gets in; "" stands for one whose name means nothing."""


def _read(reader: Reader, document: Document, path: Path) -> Config:
    for key in document:
        if key not in TABLES:
            reader.wrong((key,), unknown_key(key, list(TABLES)))
            reader.doubts.update(get_close_matches(key, TABLES, 1) or {""})
    connections = ListenerReader(reader, document)
    listeners = connections.listeners()
    feed_reader = FeedReader(reader, document, connections.websocket, connections.dialects)
    feed = feed_reader.read()
    connections.check_routes(listeners, feed_reader.routes)
    admin, metrics = http_of(reader, document, "admin"), http_of(reader, document, "metrics")
    cluster = cluster_of(reader, document)
    check_ports(reader, listeners, admin, metrics, 1 if cluster is None else cluster.workers)
    broker = _table(reader, document, "broker", BrokerTable)
    if len(broker.drain_to.encode()) > SERVER_REFERENCE_BYTES_MAX:
        reader.wrong(
            ("broker", "drain_to"),
            f"drain_to: HOST:PORT of at most {SERVER_REFERENCE_BYTES_MAX} bytes is wanted",
        )
    return Config(
        listeners=listeners,
        limits=_limits(reader, document),
        delivery=_table(reader, document, "delivery", Delivery),
        persistence=_persistence(reader, document),
        logging=logging_of(reader, document),
        per_listener_settings=connections.has_own_security,
        sys_interval_s=broker.sys_interval_s,
        shutdown_grace_s=broker.shutdown_grace_s,
        drain_s=broker.drain_s,
        drain_to=broker.drain_to,
        control_socket=broker.control_socket,
        pid_file=broker.pid_file,
        user=broker.user,
        feeds=() if feed is None else (feed,),
        ingest=feed_reader.ingest,
        gateway=connections.gateway(),
        history=history_rules(reader, document),
        market=feed_reader.market if feed_reader.market.is_used else None,
        cluster=cluster,
        admin=admin,
        metrics=metrics,
        health=_table(reader, document, "health", Health),
        source=path,
        warnings=tuple(reader.warnings),
    )


SERVER_REFERENCE_BYTES_MAX: Final = 100
"""Of `drain_to`: its packet has one byte for the length."""


def _persistence(reader: Reader, document: Document) -> Persistence:
    persistence = _table(reader, document, "persistence", Persistence)
    place = ("persistence", "acknowledge")
    check_choice(reader, place, persistence.acknowledge, ("received", "saved"))
    if persistence.acknowledge == "saved" and not persistence.persistence:
        reader.wrong(place, 'acknowledge: "saved" needs `persistence = true`, or nothing is ever saved')
    return persistence


def _limits(reader: Reader, document: Document) -> Limits:
    """As mosquitto.conf's, but for the queue: a burst of rows in one transaction is ordinary for a feed."""
    table = document.get("limits", {})
    if isinstance(table, dict) and not QUEUE_LIMITS & table.keys():
        queue = {"max_queued_messages": 0, "max_queued_bytes": QUEUED_BYTES_MAX}
        document = {**document, "limits": {**queue, **table}}
    return _table(reader, document, "limits", Limits)


def _table(reader: Reader, document: Document, name: str, cls: type[T]) -> T:
    return reader.structure(document.get(name, {}), cls, (name,)) or cls()


def _text_of(path: Path) -> str:
    try:
        return read_file(path, may_be_pipe=True).removeprefix(BOM).decode()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            mistake_at(f"{path}:{line}", "not UTF-8, which TOML is: save it as UTF-8")
        ) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        position = _POSITION.search(str(error))
        line = int(position[1]) if position and position[1] else text.count("\n") + 1
        raise ConfigError(
            mistake_at(f"{path}:{line}", f"not TOML: {_POSITION.sub('', str(error))}")
        ) from None
    except RecursionError:
        raise ConfigError(
            mistake_at(f"{path}:{_deepest(text)}", "arrays or tables that are nested too deep")
        ) from None
    except ValueError:
        raise ConfigError(
            mistake_at(f"{path}:{_longest_number(text)}", "a number with too many digits")
        ) from None


def _deepest(text: str) -> int:
    """The line with the most brackets."""
    lines = text.split("\n")
    return 1 + max(range(len(lines)), key=lambda at: lines[at].count("[") + lines[at].count("{"))


def _longest_number(text: str) -> int:
    """The line with the longest run of digits."""
    lines = text.split("\n")
    return 1 + max(
        range(len(lines)), key=lambda at: max(map(len, re.findall(r"[\d_]+", lines[at])), default=0)
    )
