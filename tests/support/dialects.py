"""Helpers for tests of the JSON dialects: comparing messages exactly, reading commands."""

from __future__ import annotations

import json
from collections.abc import Iterable

from protocol.dialects.base import Command, Send


def exact(text: str) -> object:
    """JSON with its key order and the digits of its numbers, without its white space."""
    return json.loads(text, object_pairs_hook=list, parse_float=str, parse_int=str)


def sent(commands: Iterable[Command]) -> list[dict[str, object]]:
    """The messages among these commands."""
    return [json.loads(command.text) for command in commands if isinstance(command, Send)]


def done(commands: Iterable[Command]) -> list[Command]:
    """The other commands."""
    return [command for command in commands if not isinstance(command, Send)]
