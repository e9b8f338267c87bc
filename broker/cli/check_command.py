"""`rowcast check`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from broker.cli.check import mistakes_beyond_text
from broker.cli.exits import EXIT_CONFIG, EXIT_OK
from broker.config.arguments import Arguments
from broker.config.load import load
from broker.config.model import ConfigError


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
