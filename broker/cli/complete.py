"""`rowcast complete WORD ...`: what could come next, one a line, for the shells' completion."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator, Sequence

from broker.cli.commands import MODULES
from broker.config.arguments import USAGE


def next_words(words: Sequence[str]) -> list[str]:
    """Commands and options that can follow `words`, those after `rowcast`."""
    if not words or words[0] not in MODULES:
        options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", USAGE.partition("\n\n -")[2])
        return sorted({*options, *([] if words else MODULES), "-c"})
    parser = argparse.ArgumentParser(prog="rowcast")
    importlib.import_module(MODULES[words[0]]).add_parser(parser.add_subparsers())
    for word in words:
        parser = _below(parser).get(word, parser)
    return sorted({*_below(parser), *_options(parser)})


def _below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if action.choices is not None and not action.option_strings:
            yield from map(str, action.choices)
