"""Ports of brokers that are measured are nobody else's when they open them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.ports import free_port

GIVEN_BY_THE_KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_connection_is_given_one_before_its_broker_opens_it() -> None:
    first, _ = GIVEN_BY_THE_KERNEL.read_text().split()
    ports = [free_port() for _ in range(20)]
    assert max(ports) < int(first)
    assert len(set(ports)) == len(ports)
