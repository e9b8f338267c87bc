"""What people are told to type can be typed: with whatever the command cannot do without."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.feed.cures import INSTALL, INSTALL_COMMAND

BROKER = Path(__file__).parents[3] / "broker"
NEEDS_FILE = re.compile(r"rowcast (?:check|token|feed \w+)\b[^`]*--apply[^`]*")


def told() -> Iterator[tuple[Path, str]]:
    """Commands in texts that are shown, those that are run rather than only named: no docstrings."""
    for path in BROKER.rglob("*.py"):
        tree = ast.parse(path.read_text())
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
                for command in NEEDS_FILE.findall(node.value):
                    yield path.relative_to(BROKER), command


def test_the_cure_is_a_whole_command() -> None:
    assert INSTALL_COMMAND == "`rowcast feed install -c FILE --apply`"
    assert INSTALL.endswith(INSTALL_COMMAND)


@pytest.mark.parametrize(("path", "command"), sorted(set(told())))
def test_commands_that_are_told_name_their_file(path: Path, command: str) -> None:
    assert re.search(r" -c \S+", command), f"{path}: {command}"
