"""One connection's state, as the kernel tells it by its two ends."""

from __future__ import annotations

import socket

import pytest
from player import kernel


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_is_known_by_its_ends_until_both_are_closed(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
    ours, theirs = client.getsockname()[:2], client.getpeername()[:2]
    assert kernel.tcp_state(theirs, ours) == kernel.ESTABLISHED
    client.close()
    assert accepted.recv(1) == b""
    assert kernel.tcp_state(theirs, ours) == kernel.CLOSE_WAIT
    accepted.close()
    assert kernel.tcp_state(theirs, ours) not in (kernel.ESTABLISHED, kernel.CLOSE_WAIT)


def test_of_a_connection_that_nobody_has_there_is_no_state() -> None:
    assert kernel.tcp_state(("127.0.0.1", 1), ("127.0.0.1", 2)) is None
