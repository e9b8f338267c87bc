"""Bridges and plugins in mosquitto.conf: refused where one is opened, checked as Mosquitto checks them below that."""

from __future__ import annotations

from pathlib import PurePath

from broker.config.mosquitto.option import Option
from broker.config.mosquitto.options_bridge import PLUGIN_CURES
from broker.config.mosquitto.reader import Reader, Scope, Special, refused
from broker.config.mosquitto.values import Wrong, out_of_range, read_boolean, read_word
from protocol.port import port_of

_NOTHING_TO_CURE = "Correct it for Mosquitto, or delete the bridge: Rowcast has no bridges."


def _connection(reader: Reader, option: Option, rest: str) -> None:
    name = read_word(option, rest)
    known = any(bridge.name == name for bridge in reader.bridges)
    reader.bridge = Scope(reader.place, name)
    reader.bridges.append(reader.bridge)
    if known:
        raise Wrong(f"Duplicate bridge name '{name}'.", _NOTHING_TO_CURE)
    raise refused(option)


def _address(reader: Reader, option: Option, rest: str) -> None:
    scope = reader.scope(option)
    if "address" in scope:
        raise Wrong("Invalid bridge configuration, 'address' only allowed once.", _NOTHING_TO_CURE)
    addresses = rest.split("#", 1)[0].split()
    if not addresses:
        raise Wrong("Empty address value in configuration.", _NOTHING_TO_CURE)
    scope.values["address"] = addresses
    for address in addresses:
        port = address.rpartition(":")[2] if ":" in address else "1883"
        if port_of(port) < 1:
            raise Wrong(f"Invalid bridge port value ({port}).", _NOTHING_TO_CURE)


def _topic(reader: Reader, option: Option, rest: str) -> None:
    scope = reader.scope(option)
    word = read_word(option, rest)
    left = rest.lstrip(" ").partition(" ")[2]
    if word.startswith('"') and not word.startswith('""'):
        if '"' not in left and '"' not in word[1:]:
            raise Wrong(f"Missing closing quote in topic value ({left}).", _NOTHING_TO_CURE)
        if '"' not in word[1:]:
            left = left.partition('"')[2]
    words = left.split()
    if words and words[0].lower() not in ("in", "out", "both"):
        raise Wrong(f"Invalid bridge topic direction '{words[0]}'.", _NOTHING_TO_CURE)
    if len(words) > 1 and words[1][0] != "#" and words[1] not in ("0", "1", "2"):
        raise Wrong(f"Invalid bridge QoS level '{words[1]}'.", _NOTHING_TO_CURE)
    scope.values["topic"] = True


def _bridge_tcp_keepalive(reader: Reader, option: Option, rest: str) -> None:
    reader.scope(option)
    words = rest.split()
    for position, part in enumerate(("idle", "interval", "counter")):
        if position >= len(words):
            raise Wrong(f"Empty 'bridge_tcp_keepalive_{part}' value in configuration.", _NOTHING_TO_CURE)
        if not words[position].isdecimal() or not words[position].strip("0"):
            raise Wrong(f"invalid TCP keepalive {part} value.", _NOTHING_TO_CURE)


def _restart_timeout(reader: Reader, option: Option, rest: str) -> None:
    reader.scope(option)
    read_word(option, rest)
    numbers = [int(word) for word in rest.split() if word.isdecimal() and len(word) < 20]
    if len(numbers) > 1 and numbers[1] < numbers[0]:
        raise Wrong("backoff cap is lower than the base in restart_timeout.", _NOTHING_TO_CURE)


def _start_type(reader: Reader, option: Option, rest: str) -> None:
    reader.scope(option)
    word = read_word(option, rest)
    if word == "manual":
        raise Wrong("Manual start_type not supported.", _NOTHING_TO_CURE)
    if word not in option.words:
        raise out_of_range(option, word)


def check_bridges(reader: Reader) -> None:
    """What can be said only at the end of the file."""
    for bridge in reader.bridges:
        if "address" not in bridge:
            text = "Invalid bridge configuration: no remote addresses defined."
            reader.mistake(Wrong(text, _NOTHING_TO_CURE), bridge.place)
        elif "topic" not in bridge:
            text = "Invalid bridge configuration: no topics defined."
            reader.mistake(Wrong(text, _NOTHING_TO_CURE), bridge.place)


def _plugin(reader: Reader, option: Option, rest: str) -> None:
    reader.scope(option)
    path = read_word(option, rest)
    reader.plugin = True
    raise refused(option, _instead_of(path))


def _plugin_load(reader: Reader, option: Option, rest: str) -> None:
    name = read_word(option, rest)
    reader.plugin = True
    if name in reader.plugins:
        raise Wrong(f"Duplicate plugin name '{name}'.", "Delete the line: Rowcast loads no plugins.")
    reader.plugins.add(name)
    raise refused(option, _instead_of(rest.lstrip(" ").partition(" ")[2]))


def _plugin_use(reader: Reader, option: Option, rest: str) -> None:
    reader.scope(option)
    name = read_word(option, rest)
    if name not in reader.plugins:
        raise Wrong(f"Plugin '{name}' not previously loaded.", "Delete the line: Rowcast loads no plugins.")


def _plugin_opt(reader: Reader, option: Option, rest: str) -> None:
    if not reader.plugin:
        text = f"The '{option.name}' option requires plugin/global_plugin/plugin_load to be defined first."
        raise Wrong(text, "Delete the line: Rowcast loads no plugins.")
    key = option.name.partition("opt_")[2]
    if len(key) < 3:  # as mosquitto: the shortest key has three letters
        raise Wrong("Invalid 'plugin_opt_' config option.", "Delete the line: Rowcast loads no plugins.")
    if not rest.strip():
        raise Wrong(f"Empty '{key}' value in configuration.", "Delete the line: Rowcast loads no plugins.")


def _deny_special_chars(reader: Reader, option: Option, rest: str) -> None:
    if not reader.plugin:
        text = "An auth_plugin_deny_special_chars option exists in the config file without a plugin."
        raise Wrong(text, "Delete the line: Rowcast loads no plugins.")
    read_boolean(option, rest)


def _instead_of(path: str) -> str:
    """What to do instead of that plugin."""
    name = PurePath(path.strip()).name
    return next((cure for part, cure in PLUGIN_CURES.items() if part in name), "")


SPECIALS: dict[str, Special] = {
    "address": _address,
    "addresses": _address,
    "auth_opt_*": _plugin_opt,
    "auth_plugin": _plugin,
    "auth_plugin_deny_special_chars": _deny_special_chars,
    "bridge_tcp_keepalive": _bridge_tcp_keepalive,
    "connection": _connection,
    "global_plugin": _plugin,
    "plugin": _plugin,
    "plugin_load": _plugin_load,
    "plugin_opt_*": _plugin_opt,
    "plugin_use": _plugin_use,
    "restart_timeout": _restart_timeout,
    "start_type": _start_type,
    "topic": _topic,
}
