"""The command line: `rowcast [mosquitto's options]` runs the broker, `rowcast COMMAND` does one thing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

from broker.cli.commands import COMPLETE, MODULES, run_command
from broker.cli.exits import EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_OK
from broker.config.arguments import USAGE, Arguments, ArgumentsError, parse
from broker.config.load import load
from broker.config.model import Config, ConfigError
from broker.process.early import Early
from broker.process.system import refusals

COMMANDS = tuple(MODULES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and (words[0] in COMMANDS or words[0] == COMPLETE):
        try:
            return run_command(words)
        except KeyboardInterrupt:
            print(file=sys.stderr)
            return EXIT_INTERRUPTED
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return EXIT_OK
    try:
        arguments = parse(words)
    except ArgumentsError as error:
        if words[0].startswith("-") or not error.show_usage:
            print(error.mistake, file=sys.stderr)
            if error.show_usage:
                print(usage())
        else:
            print(_no_such_command(words[0]), file=sys.stderr)
        return EXIT_CONFIG
    if arguments.help:
        print(usage())
        return EXIT_OK
    if arguments.version:
        from broker.version import describe

        print(describe())
        return EXIT_OK
    return run(arguments)


def _no_such_command(word: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, COMMANDS, 1)
    meant = f"Did you mean `rowcast {close[0]}`?" if close else f"There are {', '.join(COMMANDS)}."
    return f"Error: There is no command '{word}'. {meant} `rowcast --help` says what they do."


def usage() -> str:
    """What `rowcast --help` prints."""
    return f"""{USAGE}
Commands, each with --help:
  rowcast check -c FILE    report every mistake of a configuration
  rowcast cluster ...      the nodes of a cluster: leader, lag, sessions of each
  rowcast ctl ...          ask a running Rowcast, and act on it
  rowcast demo             show it at work, with a Postgres and traffic of its own
  rowcast feed ...         install, show, check or remove what a feed needs in a database
  rowcast passwd ...       make and change password files
  rowcast persistence ...  check, export and import what outlives the broker, from Mosquitto too
  rowcast token ...        make a token from a configuration, or read one

Example:
  rowcast -c examples/econia.toml -v
"""


def run(arguments: Arguments) -> int:
    """Load the configuration and serve until a signal."""
    if arguments.test_config and arguments.config_file is None:
        print("Please provide a configuration file to test.", file=sys.stderr)  # as mosquitto
        return EXIT_CONFIG
    early = Early()
    if not arguments.test_config:
        # Until the broker obeys signals itself; nothing has been begun that would have to be ended.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_OK))
        early.listen()
    read = partial(_for_this_process, arguments)
    try:
        config = read()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    if refused := list(refusals(config, daemon=arguments.daemon)):
        print("\n".join(refused), file=sys.stderr)
        return EXIT_CONFIG
    if arguments.test_config:
        print("Configuration file is OK.")
        return EXIT_OK
    if arguments.take_over and config.control_socket is None:
        print("Error: --take-over needs control_socket in [broker] of a .toml file.", file=sys.stderr)
        return EXIT_CONFIG
    is_parent = config.cluster is not None and config.cluster.workers > 1
    if arguments.take_over and is_parent:
        print("Error: --take-over: processes under one parent (workers) are not taken over.", file=sys.stderr)
        return EXIT_CONFIG
    background = None
    if arguments.daemon:
        from broker.process.daemon import become_daemon

        background = become_daemon()
    if is_parent:
        from broker.process.workers import Workers

        return Workers(config, sys.argv[1:], background, early).serve()
    from broker.process.run import Process

    return Process(config, read, background, early, take_over=arguments.take_over).serve()


def _for_this_process(arguments: Arguments) -> Config:
    """The configuration; its part, if a parent has started this process as one of several.  Raises: ConfigError."""
    config = load(arguments)
    number = os.environ.get("ROWCAST_WORKER", "")
    if not number.isdigit() or config.cluster is None or config.cluster.workers < 2:
        return config
    from broker.config.workers import for_worker

    return for_worker(config, int(number))
