"""Peers that vanish are found, where the socket knows of other machines."""

from __future__ import annotations

import socket
import sys

import pytest

from broker.links.probing import PROBE_AFTER_S, PROBE_EVERY_S, PROBES, probe


@pytest.mark.skipif(sys.platform != "linux", reason="others have not all of these options")
def test_the_kernel_asks_soon_and_gives_up_soon() -> None:
    with socket.socket() as sock:
        probe(sock, True)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        found = [
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        assert found == [PROBE_AFTER_S, PROBE_EVERY_S, PROBES]
        probe(sock, False)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


def test_a_socket_of_this_machine_or_one_that_is_closed_is_left_alone() -> None:
    here, there = socket.socketpair()
    with here, there:
        probe(here, True)
    for is_wanted in (True, False):
        probe(here, is_wanted)
