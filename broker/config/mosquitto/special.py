"""The words of mosquitto.conf that need more than the table: listeners, logs, folders to include, durations.

Each function reads one line: it stores the value or raises `Wrong`.  `SPECIALS` is the list.
"""

from __future__ import annotations

import re
from pathlib import Path

from broker.config.mosquitto import refused as conf_refused
from broker.config.mosquitto.option import Kind, Level, Option
from broker.config.mosquitto.options import OPTIONS
from broker.config.mosquitto.reader import Reader, Scope, Special, refused
from broker.config.mosquitto.values import (
    Wrong,
    empty,
    first_word,
    read_boolean,
    read_choice,
    read_integer,
    read_text,
    read_word,
)
from broker.config.mount_points import ends_within_a_level, within_a_level
from protocol.mqtt.topics import is_valid_topic_name

_UNIT_S = {"s": 1, "h": 3600, "d": 86400, "w": 7 * 86400, "m": 30 * 86400, "y": 365 * 86400}
_DURATION = re.compile(
    r"([0-9]{1,9})(?:([shdwmy])|(s)econds?|(h)ours?|(d)ays?|(w)eeks?|(m)onths?|(y)ears?)\Z"
)


_LISTENER_PORT = Option(
    "listener", Level.BROKER, Kind.INTEGER, "1883", "", title="listener port", low=0, high=65535,
    range_error="Invalid 'port' value ({value}).",
)  # fmt: skip
"""`listener`'s first word; Mosquitto calls it so in its messages."""


def _listener(reader: Reader, option: Option, rest: str) -> None:
    reader.local_only = False
    scope = reader.listener = Scope(reader.place)
    scope.values["listener.port"] = 0
    reader.listeners.append(scope)
    port, _, address = rest.lstrip(" ").partition(" ")
    number = read_integer(_LISTENER_PORT, port)
    where = first_word(address)
    where = "" if where.startswith("#") else where
    if number == 0 and not where:
        raise Wrong(
            "A listener with port 0 must provide a Unix socket path.",
            "Write `listener 0 /path/of/the.socket`, or a port from 1 to 65535.",
        )
    scope.values["listener.port"] = number
    if where:
        scope.values["listener.unix_path" if number == 0 else "listener.host"] = where


def _port(reader: Reader, option: Option, rest: str) -> None:
    reader.local_only = False
    reader.listener = reader.default()
    reader.store(reader.listener, option, read_integer(option, rest))


def _bind_address(reader: Reader, option: Option, rest: str) -> None:
    reader.local_only = False
    reader.listener = reader.default()
    reader.store(reader.listener, option, read_text(option, rest))


def _protocol(reader: Reader, option: Option, rest: str) -> None:
    scope = reader.scope(option)
    if read_word(option, rest) == "http_api":
        raise Wrong(
            "HTTP API support not available.",
            "Rowcast has an HTTP endpoint of its own, which a .toml configuration opens.",
        )
    scope.values[option.field] = read_choice(option, rest)


def _accept_protocol_versions(reader: Reader, option: Option, rest: str) -> None:
    scope = reader.scope(option)
    words = re.split(r"[, \t]+", rest.strip(", \t"))
    if words == [""]:
        raise empty(option)
    levels = tuple(level for level in (3, 4, 5) if str(level) in words)
    if not levels:
        raise Wrong(
            f"Invalid '{option.name}' value ({rest.strip()}).",
            "Name 3 (MQTT 3.1), 4 (MQTT 3.1.1) or 5 (MQTT 5.0), as `accept_protocol_versions 4, 5`.",
        )
    scope.values[option.field] = levels


def _mount_point(reader: Reader, option: Option, rest: str) -> None:
    scope = reader.scope(option)
    prefix = read_text(option, rest)
    if "+" in prefix or "#" in prefix:
        raise Wrong(
            f"Invalid 'mount_point' value ({prefix}). Does it contain a wildcard character?",
            "Write a topic without + and #, as `mount_point site/1/`.",
        )
    if not is_valid_topic_name(prefix.encode()):
        raise Wrong(
            "Invalid 'mount_point' value (too many levels).",
            "Write a topic with at most 200 slashes, as `mount_point site/1/`.",
        )
    if ends_within_a_level(prefix):
        reader.warn(f"{within_a_level(prefix)} Found at {reader.place}.")
    scope.values[option.field] = prefix


def _websockets_origin(reader: Reader, option: Option, rest: str) -> None:
    scope = reader.scope(option)
    before = scope.values.get(option.field, ())
    assert isinstance(before, tuple)
    scope.values[option.field] = (*before, read_text(option, rest))


def _per_listener_settings(reader: Reader, option: Option, rest: str) -> None:
    if reader.per_listener_settings:
        return
    wanted = read_boolean(option, rest)
    if wanted and reader.security_seen:
        raise Wrong(
            "per_listener_settings must be set before any other security settings.",
            "Move it to the top of the file.",
        )
    reader.per_listener_settings = wanted


def _include_dir(reader: Reader, option: Option, rest: str) -> None:
    if reader.depth > 0:
        raise Wrong(
            "The include_dir option is only valid in the main configuration file.",
            "Move the line to the main file.",
        )
    folder = rest.strip(" \t")
    if not folder:
        raise empty(option)
    try:
        names = [entry.name for entry in Path(folder).iterdir() if len(entry.name) > 5]
    except OSError as error:
        raise Wrong(f"Unable to open include_dir '{folder}'.", f"{error.strerror}.") from None
    reader.depth += 1
    for name in sorted((name for name in names if name.endswith(".conf")), key=_in_name_order):
        reader.read(Path(folder) / name)
    reader.depth -= 1


def _in_name_order(name: str) -> list[tuple[str, str]]:
    """As Mosquitto sorts: letter by letter, capitals before small ones only where all else is equal so far."""
    return [(letter.upper(), letter) for letter in name]


def _log_dest(reader: Reader, option: Option, rest: str) -> None:
    word = read_choice(option, rest)
    before = reader.broker.values.get(option.field, ())
    assert isinstance(before, tuple)
    if word == "none":
        reader.broker.values[option.field] = ()
        return
    if word == "dlt":
        reader.warn(
            f"The 'log_dest dlt' option has no effect. Found at {reader.place}. There is no DLT daemon."
        )
    if word == "file":
        word = f"file {_log_file(before, rest)}"
        reader.places[option.name, word] = reader.place
    reader.broker.values[option.field] = (*(place for place in before if place != word), word)


def _log_file(before: tuple[object, ...], rest: str) -> str:
    if any(str(place).startswith("file ") for place in before):
        raise Wrong('Duplicate "log_dest file" value.', "Log to one file only, and delete the other line.")
    path = rest.lstrip(" ").partition(" ")[2].strip(" \t")
    if not path:
        raise Wrong(
            'Empty "log_dest file" value in configuration.', "Write `log_dest file /path/of/the.log`."
        )
    return path


def _log_type(reader: Reader, option: Option, rest: str) -> None:
    word = read_choice(option, rest)
    before = reader.broker.values.get(option.field, ())
    assert isinstance(before, tuple)
    if word == "none":
        reader.broker.values[option.field] = ()
    elif word == "all":
        reader.broker.values[option.field] = every_log_type()
    elif word not in before:
        reader.broker.values[option.field] = (*before, word)


def every_log_type() -> tuple[str, ...]:
    """All that `log_type all` and `-v` turn on."""
    return tuple(word for word in OPTIONS["log_type"].words if word not in ("none", "all"))


def _persistent_client_expiration(reader: Reader, option: Option, rest: str) -> None:
    found = _DURATION.match(read_word(option, rest))
    if found is None or int(found[1]) == 0:
        raise Wrong(
            "Invalid 'persistent_client_expiration' duration in configuration.",
            "Write a number and s, h, d, w, m or y, as `persistent_client_expiration 14d`.",
        )
    unit = next(filter(None, found.groups()[1:]))
    reader.broker.values[option.field] = int(found[1]) * _UNIT_S[unit]


def _max_inflight_messages(reader: Reader, option: Option, rest: str) -> None:
    number = read_integer(option, rest)
    reader.broker.values[option.field] = 0 if number == 65535 else number


def _tls_keyform(reader: Reader, option: Option, rest: str) -> None:
    reader.scope(option)
    if read_text(option, rest) == "engine":
        raise refused(option)


SPECIALS: dict[str, Special] = {
    **conf_refused.SPECIALS,
    "accept_protocol_versions": _accept_protocol_versions,
    "bind_address": _bind_address,
    "include_dir": _include_dir,
    "listener": _listener,
    "log_dest": _log_dest,
    "log_type": _log_type,
    "max_inflight_messages": _max_inflight_messages,
    "mount_point": _mount_point,
    "per_listener_settings": _per_listener_settings,
    "persistent_client_expiration": _persistent_client_expiration,
    "port": _port,
    "protocol": _protocol,
    "tls_keyform": _tls_keyform,
    "websockets_origin": _websockets_origin,
}
