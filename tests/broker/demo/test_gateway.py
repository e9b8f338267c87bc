"""The demo's ports are the example's, unless somebody has one of them."""

from __future__ import annotations

import socket

import pytest
from support.ports import free_port

from broker.config.model import AdminHttp, Config, Listener
from broker.demo.gateway import HOST, local, opened
from broker.links.listening.accept import ListenError


@pytest.mark.parametrize("taken", ["listener", "admin"])
async def test_a_port_that_somebody_took_in_the_last_moment_is_another_one(taken: str) -> None:
    listener, admin = free_port(), free_port()
    config = local(Config(listeners=(Listener(listener, "::"),), admin=AdminHttp(host=HOST, port=admin)))
    with socket.create_server((HOST, {"listener": listener, "admin": admin}[taken])):
        async with opened(config) as broker:
            ports = {*broker.ports, broker.app.admin_port}
    assert 0 not in ports
    assert not ports & {listener, admin}


async def test_free_ports_are_those_of_the_example() -> None:
    port = free_port()
    async with opened(local(Config(listeners=(Listener(port),)))) as broker:
        assert broker.ports == [port]


async def test_an_address_that_cannot_be_had_at_all_is_told() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        async with opened(Config(listeners=(Listener(0, "192.0.2.1"),))):
            pass
