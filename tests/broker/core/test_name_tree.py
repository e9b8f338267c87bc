"""A tree of names searched by filter."""

from __future__ import annotations

import pytest

from broker.core.name_tree import NameTree

NAMES = [b"foo", b"foo/", b"foo/bar", b"foo/bar/deep", b"/foo", b"$SYS/x", b"$test"]


@pytest.mark.parametrize(
    ("topic_filter", "found"),
    [
        (b"#", [b"foo", b"foo/", b"foo/bar", b"foo/bar/deep", b"/foo"]),
        (b"foo/#", [b"foo/", b"foo/bar", b"foo/bar/deep", b"foo"]),
        (b"foo/+/#", [b"foo/", b"foo/bar/deep", b"foo/bar"]),
        (b"+/#", [b"foo/", b"foo/bar", b"foo/bar/deep", b"foo", b"/foo"]),
        (b"+", [b"foo"]),
        (b"$SYS/#", [b"$SYS/x"]),
        (b"$test", [b"$test"]),
    ],
)
def test_names_come_in_mosquittos_order(topic_filter: bytes, found: list[bytes]) -> None:
    tree = NameTree()
    for name in NAMES:
        tree.add(name)
    assert tree.matching(topic_filter) == found
