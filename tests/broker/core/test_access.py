"""Whose answers may be taken for another's."""

from __future__ import annotations

import pytest

from broker.core.access import Access, ReadOnly, same_rights

ONE, OTHER = Access(), Access()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, None, True),
        (None, ONE, False),
        (ONE, None, False),
        (ONE, ONE, True),
        (ONE, OTHER, False),
        (ReadOnly(), ReadOnly(), True),
        (ReadOnly(), ONE, False),
        (ONE, ReadOnly(), False),
        (None, ReadOnly(), False),
    ],
)
def test_in_doubt_rights_differ(one: Access | None, other: Access | None, same: bool) -> None:
    assert same_rights(one, other) is same


def test_what_they_allow() -> None:
    assert [(a.may_read(b"t"), a.may_write(b"t")) for a in (Access(), ReadOnly())] == [
        (True, True),
        (True, False),
    ]
