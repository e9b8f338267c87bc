"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows of cells below a head, each column as wide as it needs."""
    lines = [head, *([_one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _one_line(text: str) -> str:
    """Without what would act on a terminal: names and payloads are other people's."""
    return "".join(character if character.isprintable() else "?" for character in text)
