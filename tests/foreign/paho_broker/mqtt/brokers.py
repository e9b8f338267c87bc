"""What paho's tests take for the broker of paho.mqtt.testing: a Rowcast process."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from types import SimpleNamespace

WITHIN_S = 60.0
listeners = SimpleNamespace(TCPListeners=SimpleNamespace(server=None))


class Server:
    """A process as paho's tests look at a `socketserver.TCPServer`."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.socket = self
        self.shutdown = process.terminate
        self._address = ("127.0.0.1", port)

    def getsockname(self) -> tuple[str, int]:
        """Where it listens; waits until it does."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(self._address) == 0:
                    return self._address
            time.sleep(0.1)
        raise TimeoutError(f"no broker on port {self._address[1]} within {WITHIN_S:.0f} s")


def run(config: list[str]) -> None:
    """Start it, and wait until it has ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([os.environ["ROWCAST"], "-p", str(port)], stderr=subprocess.DEVNULL)
    listeners.TCPListeners.server = Server(port, process)
    process.wait()
