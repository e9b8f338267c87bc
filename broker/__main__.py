"""The command line: `rowcast [mosquitto's options]` runs the broker, `rowcast COMMAND` does one thing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from broker.config.arguments import USAGE, Arguments, ArgumentsError, parse
from broker.config.model import Config, ConfigError

EXIT_OK = 0
EXIT_LISTENER = 1
EXIT_CONFIG = 3

COMMANDS = ("check", "demo", "feed", "passwd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        from broker.commands import run_command

        return run_command(words)
    try:
        arguments = parse(words)
    except ArgumentsError as error:
        print(error.mistake, file=sys.stderr)
        if error.show_usage:
            print(usage())
        return EXIT_CONFIG
    if arguments.help:
        print(usage())
        return EXIT_OK
    if arguments.version:
        from broker.version import describe

        print(describe())
        return EXIT_OK
    return run(arguments)


def usage() -> str:
    return f"""{USAGE}
Commands, each with --help:
  rowcast check -c FILE    report every mistake of a configuration
  rowcast demo             show it at work, with a Postgres and traffic of its own
  rowcast feed ...         install, show, check or remove what a feed needs in a database
  rowcast passwd ...       make and change password files

Example:
  rowcast -c examples/econia.toml -v
"""


def run(arguments: Arguments) -> int:
    """Load the configuration and serve until a signal."""
    if arguments.test_config and arguments.config_file is None:
        print("Please provide a configuration file to test.", file=sys.stderr)  # as mosquitto
        return EXIT_CONFIG
    try:
        config = load(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    if arguments.test_config:
        print("Configuration file is OK.")
        return EXIT_OK
    if arguments.daemon:
        from broker.daemon import become_daemon

        become_daemon()
    from broker.process import Process

    return Process(config, lambda: load(arguments)).serve()


def load(arguments: Arguments) -> Config:
    """The configuration that the arguments name: TOML by its suffix, otherwise a mosquitto.conf.

    Raises:
        ConfigError: every mistake of it.
    """
    path = arguments.config_file
    if path is not None and path.suffix == ".toml":
        from broker.config import toml
        from broker.config.overrides import overridden

        return overridden(toml.load(path, os.environ), arguments)
    from broker.config import mosquitto_conf

    return mosquitto_conf.load(path, arguments)


if __name__ == "__main__":
    sys.exit(main())
