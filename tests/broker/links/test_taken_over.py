"""A client whose id another connection takes is off at once, whatever kind of link the other one came by."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from broker import Broker
from broker.config.model import Config, Listener, Security
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect

CONNECT = encode(Connect(b"x", True, 60))
CONNACK = b"\x20\x02\x00\x00"


@pytest.mark.parametrize("kind", ["tcp", "unix", "in process"])
async def test_its_socket_is_closed_before_the_other_is_answered(kind: str, tmp_path: Path) -> None:
    """It was the next sweep that closed it, up to a second later."""
    security = Security(allow_anonymous=True)
    tcp = Listener(0, host="127.0.0.1", security=security)
    unix = Listener(0, unix_path=str(tmp_path / "mqtt.sock"), security=security)
    async with Broker(Config((tcp, unix), shutdown_grace_s=0.2)) as broker:
        with trio.fail_after(60):
            older = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
            await older.send_all(CONNECT)
            assert await older.receive_some() == CONNACK
            newer: trio.abc.Stream
            if kind == "tcp":
                newer = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
            elif kind == "unix":
                newer = await trio.open_unix_socket(str(unix.unix_path))
            else:
                newer = broker.connect(tcp)
            await newer.send_all(CONNECT)
            assert bytes(await newer.receive_some()) == CONNACK
            taken = older.socket._sock  # type: ignore[attr-defined]
            taken.setblocking(False)
            assert taken.recv(1) == b"", "it is closed by now"
            await trio.aclose_forcefully(newer)
            await trio.aclose_forcefully(older)
