"""The command line of the broker itself, as `mosquitto` takes it: its options, and its words for mistakes.

Exit status: 3 for any mistake here or in the configuration, 1 if a listener cannot be opened, 0 otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve, frozen

from protocol.port import port_of

PORT_DEFAULT = 1883
"""Where clients are heard if neither -p nor a configuration says it."""

PORT_SHOWN = 20
"""Letters of what is no port, in a message about it."""

PORTS_MAX = 100
"""Mosquitto's limit for -p."""

USAGE = """\
rowcast is an MQTT v5.0/v3.1.1/v3.1 broker that publishes rows committed in Postgres.

Usage: rowcast [-c config_file] [-d] [-h] [-p port] [-q] [-v]
               [--take-over] [--test-config] [--tls-keylog file] [--version]

 -c, --config-file : read this configuration: a mosquitto.conf, or a .toml file.
 -d, --daemon      : put the broker into the background after starting.
 -h, --help        : display this help.
 -p, --port        : listen on this port, on loopback only; may be repeated.
                     Ignored if the configuration defines a listener.
 -q, --quiet       : log nothing.  This overrides any logging options given in
                     the config file, and -v.
 -v, --verbose     : log everything.  This overrides any logging options given
                     in the config file.
 --take-over       : take the listening sockets from the process that runs with the
                     same configuration, and let it end.  Needs control_socket.
 --test-config     : test the configuration and exit.
 --tls-keylog      : write the secrets of TLS connections to a file, to allow
                     debugging with e.g. wireshark.  Not for production.
 --version         : display the version.
"""


class ArgumentsError(Exception):
    """A mistake on the command line.  `show_usage`: Mosquitto prints its usage, on stdout, after this one."""

    def __init__(self, mistake: str, *, show_usage: bool = False) -> None:
        super().__init__(mistake)
        self.mistake = mistake
        self.show_usage = show_usage


@frozen
class Arguments:
    """What the command line says."""

    config_file: Path | None = None
    ports: tuple[int, ...] = ()
    daemon: bool = False
    verbose: bool = False
    quiet: bool = False
    help: bool = False
    version: bool = False
    test_config: bool = False
    take_over: bool = False
    tls_keylog: Path | None = None


_SWITCHES: dict[str, Callable[[Arguments], Arguments]] = {
    "-d": lambda arguments: evolve(arguments, daemon=True),
    "-h": lambda arguments: evolve(arguments, help=True),
    "-q": lambda arguments: evolve(arguments, quiet=True),
    "-v": lambda arguments: evolve(arguments, verbose=True),
    "--test-config": lambda arguments: evolve(arguments, test_config=True),
    "--take-over": lambda arguments: evolve(arguments, take_over=True),
    "--version": lambda arguments: evolve(arguments, version=True),
}
_LONG = {
    "--config-file": "-c",
    "--daemon": "-d",
    "--help": "-h",
    "--port": "-p",
    "--quiet": "-q",
    "--verbose": "-v",
}


def parse(words: Sequence[str]) -> Arguments:
    """The arguments after the program's name.  -h and --version end the reading, as in Mosquitto.

    Raises:
        ArgumentsError: its text, without file and line, is Mosquitto's.
    """
    arguments = Arguments()
    left = list(reversed(words))
    while left and not arguments.help and not arguments.version:
        given = left.pop()
        word = _LONG.get(given, given)
        if word in _SWITCHES:
            arguments = _SWITCHES[word](arguments)
        elif word == "-c":
            arguments = _with_config_file(arguments, left)
        elif word == "-p":
            arguments = _with_port(arguments, left)
        elif word == "--tls-keylog":
            file = _value(left, "--tls-keylog argument given, but no file specified.")
            arguments = evolve(arguments, tls_keylog=Path(file))
        else:
            if given.endswith((".toml", ".conf")):
                cure = f"A configuration is named by -c: rowcast -c {given}"
                raise ArgumentsError(f"Error: Unknown option '{given}'. {cure}")
            raise ArgumentsError(f"Error: Unknown option '{given}'.", show_usage=True)
    return arguments


def _value(left: list[str], mistake: str) -> str:
    if not left:
        raise ArgumentsError(f"Error: {mistake}")
    return left.pop()


def _with_config_file(arguments: Arguments, left: list[str]) -> Arguments:
    file = _value(left, "-c argument given, but no config file specified.")
    if arguments.config_file is not None:
        raise ArgumentsError("Error: -c argument given twice. Name one file, and use include_dir in it.")
    return evolve(arguments, config_file=Path(file))


def _with_port(arguments: Arguments, left: list[str]) -> Arguments:
    text = _value(left, "-p argument given, but no port specified.")
    port = port_of(text)
    if port < 1:
        raise ArgumentsError(f"Error: Invalid port specified ({text[:PORT_SHOWN]}).")
    if len(arguments.ports) == PORTS_MAX:
        raise ArgumentsError(f"Error: Only {PORTS_MAX} ports can be specified on the command line.")
    return evolve(arguments, ports=(*arguments.ports, port))
