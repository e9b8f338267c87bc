"""A process without `[cluster]` pays nothing for it: none of its modules is even imported."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, trio
from broker import Broker, Config, Listener
from broker.config.model import Security

async def main():
    listener = Listener(port=0, host="127.0.0.1", security=Security(allow_anonymous=True))
    async with Broker(Config(listeners=(listener,))) as broker:
        port = broker.app.addresses[0][1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(bytes.fromhex("100d00044d51545404020000000161"))  # CONNECT of "a"
        assert await stream.receive_some(4) == bytes.fromhex("20020000")
        await stream.send_all(bytes.fromhex("32060001740001") + b"x")  # PUBLISH of QoS 1 to "t"
        assert await stream.receive_some(4) == bytes.fromhex("40020001")
        engine = broker.app.engine
        hooks = (engine.log, engine.catch_up, engine.keep, engine.on_detached)
        print(*[name for name in hooks if name is not None])
        await stream.aclose()

trio.run(main)
print(*sorted(name for name in sys.modules if name.startswith(("broker.cluster", "protocol.nats"))))
"""


def test_nothing_of_a_cluster_is_imported() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == []
