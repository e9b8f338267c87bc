"""The commands that do one thing and end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from broker.cli.check import mistakes_beyond_text
from broker.cli.exits import EXIT_CONFIG, EXIT_OK
from broker.config.arguments import Arguments
from broker.config.load import load
from broker.config.model import ConfigError


def run_command(words: Sequence[str]) -> int:
    """Run `check`, `ctl`, `demo`, `feed`, `passwd` or `token`; its exit status."""
    parser = argparse.ArgumentParser(prog="rowcast")
    subparsers = parser.add_subparsers(dest="command", required=True)
    _add_check(subparsers)
    if words[0] == "ctl":
        from broker.cli import ctl

        ctl.add_parser(subparsers)
        return ctl.run(parser.parse_args(words))
    if words[0] == "demo":
        from broker.cli import demo

        demo.add_parser(subparsers)
        return demo.run(parser.parse_args(words))
    if words[0] == "feed":
        from broker.cli import feed

        feed.add_parser(subparsers)
        return feed.run(parser.parse_args(words))
    if words[0] == "passwd":
        from broker.cli import passwd as passwd_command

        passwd_command.add_parser(subparsers)
        return passwd_command.run(parser.parse_args(words))
    if words[0] == "token":
        from broker.cli import token

        token.add_parser(subparsers)
        return token.run(parser.parse_args(words))
    return check(parser.parse_args(words))


def _add_check(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "check",
        help="report every mistake of a configuration",
        description="Read a configuration, report every mistake in it, and exit with 3 if there is one.",
        epilog="example:\n  rowcast check -c examples/econia.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c",
        "--config-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="a .toml file, or a mosquitto.conf",
    )


def check(options: argparse.Namespace) -> int:
    try:
        config = load(Arguments(config_file=options.config_file))
        mistakes = mistakes_beyond_text(config)
    except ConfigError as error:
        mistakes = list(error.mistakes)
    if mistakes:
        print("\n".join(mistakes), file=sys.stderr)
        count = len(mistakes)
        print(f"{count} mistake{'s' * (count > 1)} in {options.config_file}", file=sys.stderr)
        return EXIT_CONFIG
    listeners, feeds = len(config.listeners), len(config.feeds)
    print(
        f"{options.config_file} is fine: {listeners} listener{'s' * (listeners != 1)}, {feeds} feed{'s' * (feeds != 1)}"
    )
    return EXIT_OK
