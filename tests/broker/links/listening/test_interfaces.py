"""The addresses of an interface by its name, and None where there is none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from broker.links.listening import interfaces
from broker.links.listening.interfaces import interface_address

IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000002421afffe000001 02 40 20 80     eth0
20010db8000000000000000000000007 02 40 00 80     eth0
20010db8000000000000000000000008 03 40 00 80    eth00
"""


@pytest.fixture
def if_inet6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "if_inet6"
    file.write_text(IF_INET6)
    monkeypatch.setattr(interfaces, "Path", lambda _: file)
    return file


def test_loopback_has_its_address() -> None:
    assert interface_address("lo", socket.AF_INET) == "127.0.0.1"


@pytest.mark.parametrize("name", ["nonesuch0", "", "a-name-of-more-than-16", "é" * 8])
def test_a_name_that_no_interface_has_gives_none(name: str) -> None:
    assert interface_address(name, socket.AF_INET) is None
    assert interface_address(name, socket.AF_INET6) is None


@pytest.mark.parametrize(
    ("name", "address"),
    [("lo", "::1"), ("eth0", "fe80::242:1aff:fe00:1%eth0"), ("eth00", "2001:db8::8"), ("eth", None)],
)
def test_the_first_address_counts_and_a_link_local_one_names_its_interface(
    if_inet6: Path, name: str, address: str | None
) -> None:
    assert interface_address(name, socket.AF_INET6) == address


def test_a_system_without_ipv6_has_no_such_addresses(if_inet6: Path) -> None:
    if_inet6.unlink()
    assert interface_address("lo", socket.AF_INET6) is None
