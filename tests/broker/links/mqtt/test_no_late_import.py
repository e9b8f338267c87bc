"""What a client says first loads no module: while it is read, everybody waits."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

CONNECTS: Final = {
    "3.1.1": b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a",
    "3.1": b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a",
    "a bridge": b"\x10\x0d\x00\x04MQTT\x84\x02\x00\x3c\x00\x01a",
    "5.0": b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a",
    "5.0 with properties": b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x09\x00\x01a",
    "a reserved flag": b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a",
    "no text": b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\xff",
    "cut off": b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x09a",
    "another protocol": b"\x10\x0d\x00\x04HTTP\x04\x02\x00\x3c\x00\x01a",
}

PROGRAM: Final = """
import sys
import trio
from broker import Broker, Config, Listener
from broker.config.model import Security

async def main():
    config = Config((Listener(0, "127.0.0.1", security=Security(allow_anonymous=True)),))
    async with Broker(config) as broker:
        for name, connect in zip(sys.argv[1::2], sys.argv[2::2]):
            stream = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
            before = set(sys.modules)
            await stream.send_all(bytes.fromhex(connect))
            await stream.receive_some(100)
            print(name, sorted(set(sys.modules) - before), sep=": ")
            await stream.aclose()

trio.run(main)
"""


def test_the_first_connect_of_each_kind_imports_nothing() -> None:
    words = [word for name, connect in CONNECTS.items() for word in (name, connect.hex())]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [f"{name}: []" for name in CONNECTS]
