"""Long texts come in blocks, and nothing of them is lost between two."""

from __future__ import annotations

import pytest

from broker.config.steps import BLOCK_BYTES, Steps, blocks_of_lines, finished


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"one",
        b"one\ntwo\n",
        b"x" * (3 * BLOCK_BYTES),
        b"x" * BLOCK_BYTES + b"\n",
        b"\n" * (2 * BLOCK_BYTES),
        b"".join(b"line %d\n" % number for number in range(BLOCK_BYTES)),
    ],
)
def test_the_blocks_are_the_lines_of_the_text_with_their_numbers(text: bytes) -> None:
    lines: list[bytes] = []
    for first, block in blocks_of_lines(text):
        assert first == len(lines) + 1
        lines += block
    assert lines == text.split(b"\n")


def test_a_block_is_of_a_few_lines() -> None:
    text = b"0123456789\n" * 100_000
    assert max(len(block) for _, block in blocks_of_lines(text)) <= BLOCK_BYTES // 11 + 2


def test_all_steps_at_once_bring_what_came_of_them() -> None:
    def steps() -> Steps[int]:
        yield
        yield
        return 3

    assert finished(steps()) == 3
