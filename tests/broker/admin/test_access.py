"""Which addresses count as this machine."""

from __future__ import annotations

import pytest

from broker.admin.access import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_loopback_addresses_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.168.1.1", "2001:db8::1", "::ffff:10.0.0.1", "0.0.0.0", "", "localhost"]
)
def test_all_others_are_not(host: str) -> None:
    assert not is_loopback(host)
