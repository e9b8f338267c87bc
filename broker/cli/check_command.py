"""`rowcast check`."""

from __future__ import annotations

import argparse
import sys
from operator import attrgetter
from pathlib import Path

from broker.cli.check import mistakes_beyond_text
from broker.cli.exits import EXIT_CONFIG, EXIT_OK
from broker.config.arguments import Arguments
from broker.config.load import load
from broker.config.model import Config, ConfigError
from protocol.mistakes import Mistake


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rowcast check`."""
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


def run(options: argparse.Namespace) -> int:
    """Print every mistake of the configuration; the status to exit with."""
    config: Config | None
    mistakes: list[Mistake] = []
    may_open_doors = False
    try:
        config = load(Arguments(config_file=options.config_file))
    except ConfigError as error:
        config, mistakes, may_open_doors = error.config, list(error.mistakes), error.may_open_doors
    if config is not None:
        told = {mistake.place for mistake in mistakes} - {""}
        beyond = mistakes_beyond_text(config, may_open_doors)
        mistakes += [mistake for mistake in beyond if mistake.place not in told]
        mistakes.sort(key=attrgetter("line"))
        for warning in config.warnings:
            print(f"Warning: {warning}", file=sys.stderr)
    if config is None or mistakes:
        print("\n".join(mistakes), file=sys.stderr)
        count = len(mistakes)
        print(f"{count} mistake{'s' * (count > 1)} in {options.config_file}", file=sys.stderr)
        return EXIT_CONFIG
    listeners, feeds = len(config.listeners), len(config.feeds)
    print(
        f"{options.config_file} is fine: {listeners} listener{'s' * (listeners != 1)}, {feeds} feed{'s' * (feeds != 1)}"
    )
    return EXIT_OK
