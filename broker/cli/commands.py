"""The commands that do one thing and end."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Final

MODULES: Final = {
    "check": "broker.cli.check_command",
    "cluster": "broker.cli.cluster",
    "ctl": "broker.cli.ctl",
    "demo": "broker.cli.demo",
    "feed": "broker.cli.feed",
    "passwd": "broker.cli.passwd",
    "persistence": "broker.cli.persistence",
    "token": "broker.cli.token",
}
"""Each has `add_parser` and `run`, and is imported only if it was asked for."""


def run_command(words: Sequence[str]) -> int:
    """Run the command that the first word names; its exit status."""
    if words[0] == COMPLETE:
        from broker.cli.complete import next_words

        print("\n".join(next_words(words[1:])))
        return 0
    from broker.cli.parser import Parser

    parser = Parser(prog="rowcast")
    module = importlib.import_module(MODULES[words[0]])
    commands = parser.add_subparsers(dest="command", required=True)
    module.add_parser(commands)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        commands.choices[words[0]].error(f"unrecognized arguments: {' '.join(unknown)}")
    return int(module.run(options))


COMPLETE: Final = "complete"
"""For the shells' completion only, so no help shows it."""
