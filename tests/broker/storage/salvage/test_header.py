"""The first bytes of a file of ours, each of which tells it from another."""

from __future__ import annotations

import pytest

from broker.storage.connections import create
from broker.storage.salvage.header import is_header_right

CHANGES = {*range(24, 56), *range(60, 64), *range(92, 100)}
"""What every save changes (file change counter, sizes, free list, versions), the cookie, and the format's number."""


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("file") / "rowcast.db"
    create(path)
    return path.read_bytes()[:100]


def test_what_we_make_is_right(header: bytes) -> None:
    assert is_header_right(header)


def test_a_bit_that_changed_is_noticed_wherever_it_says_whose_the_file_is(header: bytes) -> None:
    noticed = set()
    for at in range(100):
        for bit in range(8):
            if not is_header_right(header[:at] + bytes((header[at] ^ 1 << bit,)) + header[at + 1 :]):
                noticed.add(at)
    assert noticed == set(range(100)) - CHANGES


@pytest.mark.parametrize("length", [0, 16, 99])
def test_what_is_cut_is_none_of_ours(header: bytes, length: int) -> None:
    assert is_header_right(header[:length]) == (length >= 92)
